"""Errors of the database that are nobody's fault."""

from django.db import DatabaseError, InterfaceError, OperationalError

# PostgreSQL's codes for two faults that pass, which psycopg does not call operational errors. In both cases
# nothing was done.
# - 25006: a write to a server that only reads, such as a standby during a failover.
# - 0A000: a statement that was prepared for a table that has changed since.
TRANSIENT_ERROR_CODES = {"25006", "0A000"}


def is_outage(exc: BaseException) -> bool:
    """Whether a moment later the same query may work."""
    return isinstance(exc, OperationalError | InterfaceError) or (
        isinstance(exc, DatabaseError) and getattr(exc.__cause__, "sqlstate", None) in TRANSIENT_ERROR_CODES
    )
