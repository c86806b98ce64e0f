"""The local stack behind the Makefile: PostgreSQL, Better Auth's server with the page, and the API.

``python -m chatbackend.dev run`` starts all three; the tests take the pieces named here.
"""

from chatbackend.dev.frontend import better_auth
from chatbackend.dev.postgres import create_database, postgres
from chatbackend.dev.processes import StartError

__all__ = ["StartError", "better_auth", "create_database", "postgres"]
