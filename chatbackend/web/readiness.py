"""Checks whether this process can answer requests, for the probe /readyz.

Every request needs the databases and their tables, the keys that verify tokens, and the source of the
sessions.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from django.db import DatabaseError, connections
from django.db.models import Model
from psycopg import waiting
from psycopg.abc import PQGen

from authn.conf import conf
from authn.errors import Unavailable
from authn.jwt import keys
from authn.models import Session, SigningKey, User
from runtime.worker_threads import workers

T = TypeVar("T")

logger = logging.getLogger(__name__)

# All probes within this time get the same result, and only one run of the checks is active at a time.
# Therefore a large number of probes causes no more work than a few.
CACHE_SECONDS = 1.0
TIMEOUT_SECONDS = 0.8  # of one check; Kubernetes gives up on a probe after one second

# The results of a check. UNREADABLE: a table or a column is missing, or the database role may not read it.
# MISSING: there are no keys.
OK, UNREACHABLE, UNREADABLE, MISSING = "ok", "unreachable", "unreadable", "missing"


class Readiness:
    """Runs the checks and caches their results. An application has one."""

    def __init__(self) -> None:
        self._task: asyncio.Task[dict[str, str]] | None = None
        self._started_at = 0.0  # time.monotonic()
        self._results: dict[str, str] = {}
        self._databases: dict[str, _Database] = {}

    async def checks(self) -> dict[str, str]:
        """Return the result of each check by its name. The results are at most about a second old."""
        now = time.monotonic()
        if self._task is None or (self._task.done() and now - self._started_at >= CACHE_SECONDS):
            self._task, self._started_at = asyncio.create_task(self._run_checks()), now
        # A caller that disconnects must not cancel the checks, because other callers may wait for them.
        return await asyncio.shield(self._task)

    async def _run_checks(self) -> dict[str, str]:
        (database, tables), key_set, sessions = await asyncio.gather(
            self._check_databases(), _check_keys(), _check_session_source()
        )
        results = {"database": database, "better_auth_tables": tables, "keys": key_set, "sessions": sessions}
        results = {name: result for name, result in results.items() if result}
        if results != self._results:
            self._results = results
            if set(results.values()) == {OK}:
                logger.info("Ready for requests: %s", results)
            else:
                logger.warning("Not ready for requests: %s", results)
        return results

    async def _check_databases(self) -> tuple[str, str]:
        """Return two results: for our own database, and for Better Auth's tables."""
        alias, queries = conf.BETTER_AUTH_DATABASE, [_query_without_rows(model) for model in _models()]
        if alias == "default":
            tables = await self._database(alias).check(queries)
            return (UNREACHABLE if tables == UNREACHABLE else OK), tables
        is_sqlite = connections[alias].vendor == "sqlite"
        tables_check = _check_sqlite(alias, queries) if is_sqlite else self._database(alias).check(queries)
        database, tables = await asyncio.gather(self._database("default").check(["SELECT 1"]), tables_check)
        return database, tables

    def _database(self, alias: str) -> "_Database":
        return self._databases.setdefault(alias, _Database(alias))


class _Connection(psycopg.AsyncConnection[Any]):
    """A connection whose queries can be cancelled without delay."""

    async def wait(
        self,
        gen: PQGen[T],
        interval: float = 0.1,
        timeout: float | None = None,  # noqa: ASYNC109  # the base class's name
    ) -> T:
        """Wait for the server. If the task is cancelled, raise ``CancelledError`` immediately.

        psycopg's own ``wait`` first waits up to ten seconds for the server. We cannot close the connection to
        end that wait: uvloop ends the process if a socket that it watches is closed.
        """
        return await waiting.wait_async(gen, self.pgconn.socket, interval, timeout)


class _Database:
    """Checks a PostgreSQL database. It has one connection of its own and keeps this connection open.

    - The worker threads' connections may all be busy, but the process is still ready. So the check does not
      use them.
    - If the database server has no free connection, it refuses new connections, but the worker threads'
      connections still work. So the check does not make a new connection each time.
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._connection: _Connection | None = None

    async def check(self, queries: list[str]) -> str:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await self._execute(queries)
        except TimeoutError:
            await self._close()
            return UNREACHABLE

    async def _execute(self, queries: list[str]) -> str:
        # Try twice: a restart of the database may have ended the connection since the last check.
        for _ in range(2):
            try:
                if self._connection is None:
                    self._connection = await self._connect()
                for query in queries:
                    await self._connection.execute(query)
            except (psycopg.OperationalError, psycopg.InterfaceError, OSError):
                await self._close()
            except psycopg.Error:
                return UNREADABLE
            else:
                return OK
        return UNREACHABLE

    async def _connect(self) -> _Connection:
        params = connections[self._alias].get_connection_params()
        del params["cursor_factory"]  # Django's is not async
        params["prepare_threshold"] = None  # a pooler may use another server connection for the next check
        return await _Connection.connect(**params, autocommit=True)

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _models() -> list[type[Model]]:
    """Return the models of those Better Auth tables that requests read."""
    sessions = [Session] if conf.BETTER_AUTH_SESSION_SOURCE == "database" else []
    return [User, *sessions, *([SigningKey] if _needs_keys() and conf.BETTER_AUTH_KEYS == "database" else [])]


def _query_without_rows(model: type[Model]) -> str:
    """Return SQL that finds no row, but fails if the table, a column or the grant to read is missing."""
    nothing = model._default_manager.using(conf.BETTER_AUTH_DATABASE).extra(where=["FALSE"])
    return str(nothing.query)


async def _check_sqlite(alias: str, queries: list[str]) -> str:
    def execute() -> None:
        with connections[alias].cursor() as cursor:
            for query in queries:
                cursor.execute(query)

    try:
        await _in_worker(execute)
    except DatabaseError:
        return UNREADABLE
    except TimeoutError:
        return UNREACHABLE
    return OK


async def _in_worker(call: Callable[[], T]) -> T:
    """Call the function in a worker thread. Raises ``TimeoutError``."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        return await asyncio.get_running_loop().run_in_executor(workers, call)


def _needs_keys() -> bool:
    return "jwt" in conf.BETTER_AUTH_CREDENTIALS


async def _check_keys() -> str:
    """Return the result for the keys. Empty if no credential needs keys."""
    if not _needs_keys():
        return ""
    if keys.known_ids():  # cached keys can verify tokens even while the source of keys is down
        return OK
    try:
        return OK if await _in_worker(keys.has_keys) else MISSING
    except (Unavailable, TimeoutError):
        return UNREACHABLE


async def _check_session_source() -> str:
    """Return the result for the Redis server that has the sessions. Empty if the database has them."""
    if conf.BETTER_AUTH_SESSION_SOURCE == "database":
        return ""
    import redis.asyncio as redis

    client = redis.Redis.from_url(conf.BETTER_AUTH_SESSION_SOURCE)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await client.ping()
    except (redis.RedisError, OSError):  # TimeoutError is an OSError
        return UNREACHABLE
    finally:
        await client.aclose()
    return OK
