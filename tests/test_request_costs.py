"""What one authenticated request costs, in things that can be counted: no machine is too slow for these."""

import gc
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakSet

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from django.db import connection
from django.db.backends.signals import connection_created
from django.db.models.sql.compiler import SQLCompiler

from runtime.handler import OneHopHandler
from runtime.worker_threads import workers
from support.chat.configured_server import chatkit_server
from tests.fixtures.accounts.people import Person
from tests.fixtures.environment import PAGE_ORIGIN
from tests.fixtures.servers.api import add, create, operation
from tests.fixtures.servers.forkserver import python

pytestmark = pytest.mark.django_db(transaction=True)

Ask = Callable[[], int]
Handle = Callable[..., int]


@pytest.fixture
def handle(settings: Any) -> Handle:
    """Calls the handler with a body, a token or cookies, and the exception that a failing server raises.

    Gives the status when all is sent.
    """
    settings.ALLOWED_HOSTS, settings.SUPPORT_RATE_PER_USER = ["testserver"], "100000/min"
    settings.SECURE_SSL_REDIRECT = False
    one_hop = OneHopHandler()

    async def communicate(body: Any, token: str, cookies: str = "", fails: str = "") -> int:
        shown = (b"cookie", cookies.encode()) if cookies else (b"authorization", f"Bearer {token}".encode())
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/support/chatkit",
            "query_string": b"",
            "http_version": "1.1",
            "headers": [
                (b"host", b"testserver"),
                (b"origin", PAGE_ORIGIN.encode()),
                (b"x-fails", fails.encode()),
                shown,
            ],
        }
        communicator = ApplicationCommunicator(one_hop, scope)
        await communicator.send_input({"type": "http.request", "body": json.dumps(body).encode()})
        start = await communicator.receive_output(10)
        while (await communicator.receive_output(10)).get("more_body"):
            pass
        await communicator.wait(10)
        return int(start["status"])

    return async_to_sync(communicate)


@pytest.fixture
def ask(handle: Handle, person: Person) -> Ask:
    """``threads.list`` of somebody who is signed in. Gives the status."""
    token = person.token()

    def once() -> int:
        return handle(operation("threads.list"), token)

    chatkit_server()
    for _ in range(2 * workers.size):  # each of the workers has its connection now
        assert once() == 200
    return once


@pytest.fixture
def statements(every_connection: WeakSet[Any]) -> Iterator[list[tuple[str, Any]]]:
    said: list[tuple[str, Any]] = []

    def record(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        said.append((sql, params))
        return execute(sql, params, many, context)

    for each in every_connection:
        each.execute_wrappers.append(record)
    yield said
    for each in every_connection:
        if record in each.execute_wrappers:
            each.execute_wrappers.remove(record)


def test_a_request_is_two_statements_one_hop_and_nothing_made_anew(
    ask: Ask, statements: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Counter[str] = Counter()

    def count(owner: Any, name: str) -> None:
        really = getattr(owner, name)

        def counting(*args: Any, **kwargs: Any) -> Any:
            made[name] += 1
            return really(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    count(type(workers), "submit")
    count(SQLCompiler, "as_sql")
    count(connection_created, "send")
    modules = set(sys.modules)

    statuses = [ask() for _ in range(10)]

    assert statuses == [200] * 10
    assert len(statements) == 20
    assert made == {"submit": 10}
    assert set(sys.modules) == modules


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (operation("threads.list"), 200),
        (create("Hello"), 200),
        (operation("threads.get_by_id", thread_id="thr_none"), 404),
        (add("thr_none"), 404),
        ({"type": "nothing"}, 400),
    ],
    ids=["json", "stream", "not found", "not found later", "bad"],
)
def test_a_request_leaves_the_collector_nothing(
    handle: Handle, person: Person, caplog: pytest.LogCaptureFixture, body: Any, status: int
) -> None:
    caplog.set_level(logging.CRITICAL, "django.request")  # pytest keeps every record, and its request
    token = person.token()

    statuses, left = left_by_five(lambda: handle(body, token))

    assert statuses == [status] * 5
    assert left < 5


@pytest.mark.parametrize(
    ("body", "fails", "status"),
    [
        (create("Hello"), "respond: http", 200),
        (create("Hello"), "add user_message: http", 402),
        (add("thr_1"), "load_thread: http", 402),
        (operation("threads.update", thread_id="thr_1", title="x"), "load_thread: http", 402),
        (operation("threads.update", thread_id="thr_1", title="x"), "load_thread: NotFoundError", 404),
        (operation("threads.update", thread_id="thr_1", title="x"), "context: http", 402),
    ],
)
def test_a_refusal_of_a_teams_server_leaves_the_collector_nothing_either(
    handle: Handle,
    person: Person,
    caplog: pytest.LogCaptureFixture,
    settings: Any,
    body: Any,
    fails: str,
    status: int,
) -> None:
    caplog.set_level(logging.CRITICAL)
    settings.CHATKIT_SERVER = "tests.fixtures.chatkit.failing_server.FailingServer"
    settings.CHATKIT_CONTEXT = "tests.fixtures.chatkit.failing_server.build"
    token = person.token()

    statuses, left = left_by_five(lambda: handle(body, token, fails=fails))

    assert statuses == [status] * 5
    assert left < 5


NAME = "better-auth.session_token"


@pytest.mark.parametrize(
    ("token", "cookies"),
    [("", ""), ("x.y.z", ""), ("", f"{NAME}=x; {NAME}=y")],
    ids=["none", "bad", "cookies"],
)
def test_a_refused_request_leaves_it_nothing_either(
    handle: Handle, caplog: pytest.LogCaptureFixture, settings: Any, token: str, cookies: str
) -> None:
    settings.BETTER_AUTH_CREDENTIALS = ["jwt", "cookie"]
    caplog.set_level(logging.CRITICAL, "django.request")

    statuses, left = left_by_five(lambda: handle(operation("threads.list"), token, cookies))

    assert statuses == [401] * 5
    assert left < 5


def left_by_five(ask: Ask) -> tuple[list[int], int]:
    """The statuses, and how many objects only Python's collector can take away.

    The least of three times: what a request leaves it leaves each time, what an earlier test's threads let go
    of meanwhile comes once.
    """
    statuses, left = zip(*[_left_by_five(ask) for _ in range(3)], strict=True)
    return statuses[-1], min(left)


def _left_by_five(ask: Ask) -> tuple[list[int], int]:
    ask()
    gc.collect()
    gc.disable()
    try:
        return [ask() for _ in range(5)], gc.collect()
    finally:
        gc.enable()


def test_what_a_request_has_needed_is_given_back(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "authn.audit")  # pytest keeps every record

    def blocks_after(requests: int) -> int:
        for _ in range(requests):
            ask()
        gc.collect()
        return sys.getallocatedblocks()

    blocks_after(50)
    before = blocks_after(50)

    after = blocks_after(200)

    assert (after - before) / 200 < 5  # a request that is kept is a hundred


STARTED = """
import asyncio, gc
from chatbackend.asgi import application

async def main():
    received, sent = asyncio.Queue(), asyncio.Queue()
    received.put_nowait({"type": "lifespan.startup"})
    running = asyncio.create_task(application({"type": "lifespan"}, received.get, sent.put))
    await sent.get()
    kept = [[number] for number in range(500_000)]  # about as much as a thousand streams are
    print(gc.get_freeze_count() > frozen, gc.get_stats()[2]["collections"] - gone_by)
    running.cancel()

frozen = gc.get_freeze_count()
gone_by = gc.get_stats()[2]["collections"] + 1  # the start itself looks through everything, once
asyncio.run(main())
"""


def test_what_lives_long_is_not_looked_through_for_garbage_again_and_again(
    auth: Any, database_url: str
) -> None:
    told = python(STARTED, DATABASE_URL=database_url)

    assert "True 0" in told.stdout.splitlines(), told.stderr


def test_the_user_and_the_session_are_found_by_indexes_alone(
    ask: Ask, statements: list[tuple[str, Any]]
) -> None:
    ask()

    sql, params = next(each for each in statements if '"session"' in each[0])
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")  # a table of ten rows is read whole otherwise
        try:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", params)
            plan = cursor.fetchone()[0][0]["Plan"]
        finally:
            cursor.execute("RESET enable_seqscan")
    assert sorted(looked_up(plan)) == ["session_pkey", "user_email_key"]  # the token names its session


def looked_up(plan: dict[str, Any]) -> Iterator[str]:
    """The indexes of the scans; for a scan without an index, its kind."""
    if "Scan" in plan["Node Type"] and plan["Actual Loops"]:
        yield plan.get("Index Name", plan["Node Type"])
    for part in plan.get("Plans", []):
        yield from looked_up(part)
