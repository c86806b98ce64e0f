"""The local stack of the Makefile: PostgreSQL, Better Auth's server with the chat page, and the API.

``python -m chatbackend.dev run`` starts all three. The tests use these parts.
"""

from chatbackend.dev.frontend import better_auth
from chatbackend.dev.postgres import create_database, postgres
from chatbackend.dev.processes import StartError

__all__ = ["StartError", "better_auth", "create_database", "postgres"]
