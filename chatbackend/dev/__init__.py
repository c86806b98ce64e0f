"""The local stack of the Makefile: PostgreSQL, Better Auth's server with the chat page, and the API.

``python -m chatbackend.dev run`` starts all three. The tests use these modules, too.
"""
