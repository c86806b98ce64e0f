"""/healthz and /readyz of a real server, whose real database hangs and is killed."""

import asyncio
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from subprocess import Popen
from typing import Any

import httpx2
import psycopg
import pytest

from chatbackend.dev.postgres import create_database, postgres_process
from chatbackend.dev.processes import free_port
from chatbackend.web.readiness import Readiness
from tests.fixtures.accounts.people import Person
from tests.fixtures.servers.api import Api, eventually, http

ALL_OK = {"database": "ok", "better_auth_tables": "ok", "keys": "ok"}
READY = (200, {"status": "ready", "checks": ALL_OK})


def unavailable(**faults: str) -> tuple[int, Any]:
    return 503, {"status": "unavailable", "checks": ALL_OK | faults}


def get(api: Api, path: str, **headers: str) -> httpx2.Response:
    return http.get(f"{api.origin}{path}", headers=headers, timeout=30)


def readiness(api: Api) -> tuple[int, Any]:
    answer = get(api, "/readyz")
    return answer.status_code, answer.json()


@pytest.fixture
def api_with_key(api: Api, person: Person) -> Api:
    """A server whose Better Auth has a key, because it has signed a token."""
    person.token()
    return api


def test_healthz_says_only_that_the_process_is_alive(api: Api) -> None:
    answer = get(api, "/healthz")

    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


def test_a_server_is_ready_if_all_checks_pass(api_with_key: Api) -> None:
    assert eventually(lambda: readiness(api_with_key), lambda seen: seen == READY)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_probe_is_not_cached_and_has_no_other_headers(api_with_key: Api, path: str) -> None:
    answer = get(api_with_key, path)

    ours = {name: value for name, value in answer.headers.items() if name not in ("date", "server")}
    assert ours == {
        "content-type": "application/json",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "content-length": str(len(answer.content)),
    }


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_probe_allows_only_get_and_head(api_with_key: Api, path: str) -> None:
    eventually(lambda: readiness(api_with_key), lambda seen: seen == READY)
    address = f"{api_with_key.origin}{path}"

    head, others = http.head(address), [http.request(method, address) for method in ("POST", "OPTIONS")]

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(get(api_with_key, path).content))
    assert [(each.status_code, each.headers["Allow"]) for each in others] == [(405, "GET, HEAD")] * 2


@pytest.mark.parametrize("method", ["POST", "DELETE", "TRACE"])
def test_support_health_allows_only_get_and_head(api: Api, method: str) -> None:
    answer = http.request(method, f"{api.origin}/support/health")

    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert answer.json()["error"] == "Method Not Allowed"


def test_probes_accept_any_host_and_plain_http(auth: Any, start_api: Callable[..., Any]) -> None:
    production = {"ALLOWED_HOSTS": "api.example.com", "SECURE_SSL_REDIRECT": "True"}
    with start_api(**production, BETTER_AUTH_TIME_ZONE="Asia/Kolkata") as running:
        auth.sign_up().token()

        probes = [get(running, path, Host="10.1.2.3:8000").status_code for path in ("/healthz", "/readyz")]
        others = [
            get(running, "/support/health", Host=host).status_code for host in ("10.1.2.3", "api.example.com")
        ]

    assert probes == [200, 200]
    assert others == [400, 301]


def test_a_server_is_not_ready_until_better_auth_has_a_key(
    postgres_url: str, start_better_auth: Callable[..., Any], start_api: Callable[..., Any]
) -> None:
    url = create_database(postgres_url, "without_keys")
    with (
        start_better_auth(DATABASE_URL=url) as auth,
        start_api(DATABASE_URL=url, BETTER_AUTH_URL=auth.origin) as api,
        psycopg.connect(url, autocommit=True) as database,
    ):
        assert readiness(api) == unavailable(keys="missing")

        auth.sign_up().token()

        eventually(lambda: readiness(api), lambda seen: seen == READY)
        database.execute('ALTER TABLE "session" RENAME COLUMN "expiresAt" TO "ends"')
        eventually(lambda: readiness(api), lambda seen: seen == unavailable(better_auth_tables="unreadable"))


@pytest.fixture
def own_stack(
    tmp_path: Path, start_better_auth: Callable[..., Any], start_api: Callable[..., Any]
) -> Iterator[tuple[Api, Popen[str], psycopg.Connection]]:
    """A ready server, the process of its database, and another connection to that database."""
    with ExitStack() as running:
        database, url = running.enter_context(postgres_process(tmp_path, throwaway=True))
        auth = running.enter_context(start_better_auth(DATABASE_URL=url))
        api = running.enter_context(start_api(DATABASE_URL=url, BETTER_AUTH_URL=auth.origin))
        auth.sign_up().token()
        eventually(lambda: readiness(api), lambda seen: seen == READY)
        yield api, database, running.enter_context(psycopg.connect(url, autocommit=True))


def backends(database: psycopg.Connection, condition: str) -> set[int]:
    """The ids of the database's backend processes, except for this connection's."""
    others = "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND "
    return {pid for (pid,) in database.execute(others + condition)}


def test_a_lost_connection_does_not_make_the_server_unready(
    database_url: str, person: Person, start_api: Callable[..., Any]
) -> None:
    person.token()  # makes Better Auth create its key
    with (
        start_api(DATABASE_URL=f"{database_url}?application_name=loses_one") as api,
        psycopg.connect(database_url, autocommit=True) as database,
    ):
        eventually(lambda: readiness(api), lambda seen: seen == READY)
        of_checks = "application_name = 'loses_one' AND query LIKE '%FALSE%'"
        lost, statuses = backends(database, of_checks), set()

        for pid in lost:
            database.execute("SELECT pg_terminate_backend(%s)", [pid])

        def ask() -> set[int]:
            statuses.add(readiness(api)[0])
            return backends(database, of_checks) - lost

        assert len(lost) == len(eventually(ask, lambda new: bool(new))) == 1
        assert statuses == {200}


def test_a_hanging_or_stopped_database_is_reported_quickly_and_the_process_stays_alive(
    own_stack: tuple[Api, Popen[str], psycopg.Connection],
) -> None:
    api, database, connection = own_stack
    gone = unavailable(database="unreachable", better_auth_tables="unreachable")
    processes, durations, alive = {database.pid} | backends(connection, "TRUE"), [], []

    def ask() -> tuple[int, Any]:
        started_at = time.monotonic()
        result = readiness(api)
        durations.append(time.monotonic() - started_at)
        alive.append(get(api, "/healthz").status_code)
        return result

    with hanging(processes):
        eventually(ask, lambda result: result == gone)
    eventually(ask, lambda result: result == READY)
    database.kill()
    eventually(ask, lambda result: result == gone)

    assert max(durations) < 5  # psycopg would wait ten seconds for a hanging server
    assert set(alive) == {200}


@contextmanager
def hanging(processes: set[int]) -> Iterator[None]:
    def send(number: int) -> None:
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    send(signal.SIGSTOP)
    try:
        yield
    finally:
        send(signal.SIGCONT)


def test_unreachable_keys_and_sessions_are_reported(auth: Any, start_api: Callable[..., Any]) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    elsewhere = {
        "BETTER_AUTH_KEYS": "jwks",
        "BETTER_AUTH_JWKS_URL": f"http://{nowhere}/jwks",
        "BETTER_AUTH_JWKS_PRIVATE": "True",
        "BETTER_AUTH_SESSION_SOURCE": f"redis://{nowhere}",
    }
    with start_api(**elsewhere) as running:
        seen = readiness(running)

    assert seen == unavailable(keys="unreachable", sessions="unreachable")


def test_sqlite_and_cookies_are_checked_without_keys(
    tmp_path: Path, redis_url: str, auth: Any, start_api: Callable[..., Any]
) -> None:
    file = tmp_path / "auth.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute(
            'CREATE TABLE "user" ("id" text, "name" text, "email" text, "emailVerified" integer,'
            ' "createdAt" date, "updatedAt" date)'
        )
    own = {
        "BETTER_AUTH_DATABASE_URL": f"sqlite:///{file}",
        "BETTER_AUTH_SESSION_SOURCE": redis_url,
        "BETTER_AUTH_CREDENTIALS": "cookie",
        "BETTER_AUTH_SECRET": "a-secret-of-the-tests-and-of-nothing-else",
        "BETTER_AUTH_KEYS": "jwks",  # cookies need no keys, so this source is not checked
        "BETTER_AUTH_JWKS_PRIVATE": "True",
    }
    with start_api(**own) as running:
        before = readiness(running)
        with closing(sqlite3.connect(file)) as database:
            database.execute('ALTER TABLE "user" RENAME TO "person"')
        after = eventually(lambda: readiness(running), lambda seen: seen != before)

    checks = {"database": "ok", "better_auth_tables": "ok", "sessions": "ok"}
    assert before == (200, {"status": "ready", "checks": checks})
    assert after == (503, {"status": "unavailable", "checks": checks | {"better_auth_tables": "unreadable"}})


# --- The number of checks -------------------------------------------------------------------------


class CountedReadiness(Readiness):
    """Counts its checks. A check takes until ``may_end`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.may_end = 0, asyncio.Event()

    async def _run_checks(self) -> dict[str, str]:
        self.count += 1
        await self.may_end.wait()
        return {"check": str(self.count)}


def test_many_probes_share_one_check(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr("chatbackend.web.readiness.time.monotonic", lambda: clock)

    async def flood() -> list[dict[str, str]]:
        nonlocal clock
        readiness = CountedReadiness()
        callers = [asyncio.create_task(readiness.checks()) for _ in range(100)]
        await asyncio.sleep(0)
        clock += 10  # a slow check does not start a second one
        callers += [asyncio.create_task(readiness.checks()) for _ in range(100)]
        await asyncio.sleep(0)
        callers[0].cancel()  # one caller disconnects; the others still get the result
        readiness.may_end.set()
        first = await asyncio.gather(*callers[1:])
        clock -= 9.1
        fresh = await readiness.checks()
        clock += 0.2
        return [*first, fresh, await readiness.checks()]

    *first, fresh, later = asyncio.run(flood())

    assert [*first, fresh] == [{"check": "1"}] * 200
    assert later == {"check": "2"}
