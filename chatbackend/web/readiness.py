"""Whether what every request needs is there: the databases with their tables, the keys, the sessions."""

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

# However many ask, however often: one look at a time, and none within a second of the last.
FRESH_SECONDS = 1.0
PATIENCE_SECONDS = 0.8  # of one look; those who ask give up after a second (Kubernetes)

OK, UNREACHABLE, UNREADABLE, MISSING = "ok", "unreachable", "unreadable", "missing"


class Readiness:
    def __init__(self) -> None:
        self._look: asyncio.Task[dict[str, str]] | None = None
        self._looked_at = 0.0
        self._found: dict[str, str] = {}
        self._lines: dict[str, _Line] = {}

    async def checks(self) -> dict[str, str]:
        """A word for each thing that was looked at, about a second ago at most: ``ok``, or what is wrong."""
        now = time.monotonic()
        if self._look is None or (self._look.done() and now - self._looked_at >= FRESH_SECONDS):
            self._look, self._looked_at = asyncio.create_task(self._look_again()), now
        return await asyncio.shield(self._look)  # of those who ask, one may leave

    async def _look_again(self) -> dict[str, str]:
        (database, tables), key_set, sessions = await asyncio.gather(
            self._databases(), _keys(), _session_source()
        )
        found = {"database": database, "better_auth_tables": tables, "keys": key_set, "sessions": sessions}
        found = {name: word for name, word in found.items() if word}
        if found != self._found:
            self._found = found
            is_ready = set(found.values()) == {OK}
            logger.log(logging.INFO if is_ready else logging.WARNING, "Ready for requests: %s", found)
        return found

    async def _databases(self) -> tuple[str, str]:
        """Of our own, and of Better Auth's tables."""
        alias, queries = conf.BETTER_AUTH_DATABASE, [_of_no_row(model) for model in _models()]
        if alias == "default":
            tables = await self._line(alias).word_for(queries)
            return (UNREACHABLE if tables == UNREACHABLE else OK), tables
        own = self._line("default").word_for(["SELECT 1"])
        if connections[alias].vendor == "sqlite":  # a file, and no connection to keep
            return await own, await _word_for_file(alias, queries)
        database, tables = await asyncio.gather(own, self._line(alias).word_for(queries))
        return database, tables

    def _line(self, alias: str) -> "_Line":
        return self._lines.setdefault(alias, _Line(alias))


class _Connection(psycopg.AsyncConnection[Any]):
    async def wait(
        self,
        gen: PQGen[T],
        interval: float = 0.1,
        timeout: float | None = None,  # noqa: ASYNC109  # the base class's name
    ) -> T:
        """psycopg's own, when cancelled, waits ten seconds for the server to agree. It must not be closed
        to spare them: uvloop ends the process where what it watches is closed."""
        return await waiting.wait_async(gen, self.pgconn.socket, interval, timeout)


class _Line:
    """A connection of our own, and kept. Those of the workers may all be in use, which is no reason to send
    callers elsewhere; and a server without a connection left would refuse a new one, although the workers'
    go on working."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._connection: _Connection | None = None

    async def word_for(self, queries: list[str]) -> str:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self._ask(queries)
        except TimeoutError:
            await self._hang_up()
            return UNREACHABLE

    async def _ask(self, queries: list[str]) -> str:
        for _ in range(2):  # the connection kept may be of before a restart, or of before a database's sleep
            try:
                if self._connection is None:
                    self._connection = await self._connect()
                for query in queries:
                    await self._connection.execute(query)
            except (psycopg.OperationalError, psycopg.InterfaceError, OSError):
                await self._hang_up()
            except psycopg.Error:
                return UNREADABLE
            else:
                return OK
        return UNREACHABLE

    async def _connect(self) -> _Connection:
        params = connections[self._alias].get_connection_params()
        del params["cursor_factory"]  # Django's, which is sync
        params["prepare_threshold"] = None  # behind a pooler, the next look may be at another connection
        return await _Connection.connect(**params, autocommit=True)

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _models() -> list[type[Model]]:
    sessions = [Session] if conf.BETTER_AUTH_SESSION_SOURCE == "database" else []
    return [User, *sessions, *([SigningKey] if _wants_keys() and conf.BETTER_AUTH_KEYS == "database" else [])]


def _of_no_row(model: type[Model]) -> str:
    """SQL that fails as any of ours would (no table, no column, no right), and finds nobody."""
    nobody = model._default_manager.using(conf.BETTER_AUTH_DATABASE).extra(where=["FALSE"])
    return str(nobody.query)


async def _word_for_file(alias: str, queries: list[str]) -> str:
    def ask() -> None:
        with connections[alias].cursor() as cursor:
            for query in queries:
                cursor.execute(query)

    try:
        await _in_worker(ask)
    except DatabaseError:
        return UNREADABLE
    except TimeoutError:
        return UNREACHABLE
    return OK


async def _in_worker(call: Callable[[], T]) -> T:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await asyncio.get_running_loop().run_in_executor(workers, call)


def _wants_keys() -> bool:
    return "jwt" in conf.BETTER_AUTH_CREDENTIALS


async def _keys() -> str:
    if not _wants_keys():
        return ""
    if keys.known():  # in memory, and good for the next request whatever becomes of their source
        return OK
    try:
        return OK if await _in_worker(keys.are_there) else MISSING
    except (Unavailable, TimeoutError):
        return UNREACHABLE


async def _session_source() -> str:
    if conf.BETTER_AUTH_SESSION_SOURCE == "database":
        return ""
    import redis.asyncio as redis

    client = redis.Redis.from_url(conf.BETTER_AUTH_SESSION_SOURCE)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await client.ping()  # type: ignore[misc]  # the stubs share it with the sync client
    except (redis.RedisError, OSError):
        return UNREACHABLE
    finally:
        await client.aclose()
    return OK
