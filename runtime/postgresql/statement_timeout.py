"""psycopg, as Django's backend uses it, with connections that do not wait for ever.

A server that is frozen, or behind a network that swallows what is sent, neither answers nor hangs up, and
each thread would wait for it. A timeout of the server's own ends none of these, and cannot be set through
a pooler: PgBouncer refuses what is no setting of its own. So it is we who stop waiting.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import psycopg
from django.db.backends.postgresql.base import CursorMixin
from psycopg import (  # noqa: F401 - what Django asks the module of a database for
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

CANCEL_SECONDS = 1.0  # for the server to stop what it is at, once asked to

# Seconds for a statement, which a server sets (chatbackend.asgi); a migration takes what it takes.
timeout_seconds: float | None = None


class Connection(psycopg.Connection[Any]):
    breaker: CircuitBreaker
    is_outdated = False  # it keeps statements that were prepared for a table that has changed

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        if timeout_seconds is None:
            return super().wait(gen, interval, timeout)
        try:
            return waiting.wait(gen, self.pgconn.socket, interval, timeout_seconds)
        except OperationalError:
            if self.pgconn.transaction_status != TransactionStatus.ACTIVE:
                raise  # an answer of the server's; or it has hung up
        return self._interrupted(gen, interval)

    def _interrupted(self, gen: PQGen[T], interval: float) -> T:
        """Tells the slow from the silent: the one says that it was cancelled, and the connection is good."""
        try:
            self.cancel_safe(timeout=CANCEL_SECONDS)
            return waiting.wait(gen, self.pgconn.socket, interval, CANCEL_SECONDS)
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
            # "cached plan must not change result type": a migration, of Better Auth's as well, has changed
            # the table since the statement was prepared. Nothing was done, unless it is a transaction's.
            if self.connection.info.transaction_status != TransactionStatus.IDLE:
                raise
            self.connection.is_outdated = True
            return super().execute(query, params, **options | {"prepare": False})


def connect(**params: Any) -> Connection:
    """Raises at once while the server is known to be silent. One thread at a time still tries.

    A server that refuses a connection is not silent: it answers at once, and holds no thread.
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
    server = (params.get("host"), params.get("port"))
    return _breakers.setdefault(server, CircuitBreaker("PostgreSQL"))


_breakers: dict[tuple[Any, Any], CircuitBreaker] = {}
