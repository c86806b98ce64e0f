"""Recognizes database errors that pass without a change of the query."""

from django.db import DatabaseError, InterfaceError, OperationalError

# PostgreSQL's codes (SQLSTATE) of two temporary errors that psycopg does not raise as ``OperationalError``.
# In both cases the statement had no effect.
# - 25006: a write to a read-only server, such as a standby during a failover.
# - 0A000: a prepared statement whose table has changed since it was prepared.
TRANSIENT_ERROR_CODES = {"25006", "0A000"}


def is_outage(exc: BaseException) -> bool:
    """Whether the same query may work a moment later."""
    return isinstance(exc, OperationalError | InterfaceError) or (
        isinstance(exc, DatabaseError) and getattr(exc.__cause__, "sqlstate", None) in TRANSIENT_ERROR_CODES
    )
