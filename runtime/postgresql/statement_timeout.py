"""psycopg as Django's backend uses it, with a timeout on the client's side for each statement.

A server that is frozen, or whose network drops packets, neither answers nor closes the connection. Each
thread would wait for it. PostgreSQL's own ``statement_timeout`` does not help: the server cannot send its
error. Through PgBouncer it cannot even be set. So we stop waiting ourselves.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import psycopg
from django.db.backends.postgresql.base import CursorMixin
from psycopg import (  # noqa: F401 - Django reads these names from a database module
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    waiting,
)
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus

from runtime.circuit_breaker import CircuitBreaker

T = TypeVar("T")

CANCEL_TIMEOUT_SECONDS = 1.0  # for the server to cancel a statement and say so

# Seconds for one statement. A server sets it (chatbackend/asgi.py). ``None``, as in a migration: no limit.
timeout_seconds: float | None = None


class Connection(psycopg.Connection[Any]):
    breaker: CircuitBreaker
    has_outdated_statements = False  # prepared for a table that has changed since

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        if timeout_seconds is None:
            return super().wait(gen, interval, timeout)
        try:
            return waiting.wait(gen, self.pgconn.socket, interval, timeout_seconds)
        except OperationalError:
            if self.pgconn.transaction_status != TransactionStatus.ACTIVE:
                raise  # the server has answered with an error, or has closed the connection
        return self._cancel(gen, interval)

    def _cancel(self, gen: PQGen[T], interval: float) -> T:
        """Cancel the statement. A slow server says that it is cancelled, and the connection stays usable. A
        silent server says nothing, and the connection is closed."""
        try:
            self.cancel_safe(timeout=CANCEL_TIMEOUT_SECONDS)
            return waiting.wait(gen, self.pgconn.socket, interval, CANCEL_TIMEOUT_SECONDS)
        except OperationalError as exc:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.close()
                self.breaker.failed(exc)
                raise OperationalError("the server does not answer") from exc
            raise


class Cursor(CursorMixin, psycopg.Cursor[Any]):
    connection: Connection

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        try:
            return super().execute(query, params, **options)
        except psycopg.errors.FeatureNotSupported:
            # "cached plan must not change result type": a migration, perhaps Better Auth's, has changed the
            # table since the statement was prepared. Outside a transaction nothing was done, so try again.
            if self.connection.info.transaction_status != TransactionStatus.IDLE:
                raise
            self.connection.has_outdated_statements = True
            return super().execute(query, params, **options | {"prepare": False})


def connect(**params: Any) -> Connection:
    """Raises at once while the circuit breaker is open: then only one thread at a time tries to connect.

    A server that refuses a connection does not open the circuit breaker. It answers at once and blocks no
    thread.
    """
    breaker = breaker_of(params)
    if not breaker.allows_call():
        raise OperationalError("the server did not answer a moment ago")
    try:
        connection = Connection.connect(**params)
    except psycopg.errors.ConnectionTimeout as exc:
        breaker.failed(exc)
        raise
    except BaseException:
        breaker.succeeded()
        raise
    breaker.succeeded()
    connection.breaker = breaker
    return connection


def breaker_of(params: Mapping[str, Any]) -> CircuitBreaker:
    """One circuit breaker for each server."""
    server = (params.get("host"), params.get("port"))
    return _breakers.setdefault(server, CircuitBreaker("PostgreSQL"))


_breakers: dict[tuple[Any, Any], CircuitBreaker] = {}
