"""The costs of one request that can be counted: SQL statements, worker calls, garbage and memory.

Counts do not depend on the speed of the machine.
"""

import gc
import logging
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from weakref import WeakSet

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.db.backends.signals import connection_created
from django.db.models.sql.compiler import SQLCompiler

from runtime.handler import WorkerThreadHandler
from runtime.worker_threads import workers
from support.chat.configured_server import chatkit_server
from tests.fixtures.accounts.people import Person
from tests.fixtures.accounts.session_tokens import COOKIE_NAME
from tests.fixtures.chatkit import endpoint
from tests.fixtures.servers.api import add, create, operation
from tests.fixtures.servers.forkserver import python

pytestmark = pytest.mark.django_db(transaction=True)

SendRequest = Callable[[], int]
Handle = Callable[..., int]


@pytest.fixture
def handle(settings: Any) -> Handle:
    """A function that sends ``POST /support/chatkit`` to the handler and returns the status of the response.

    The function has the arguments of ``endpoint.post``, without the handler.
    """
    settings.ALLOWED_HOSTS, settings.SUPPORT_RATE_PER_USER = ["testserver"], "100000/min"
    settings.SECURE_SSL_REDIRECT = False
    return partial(async_to_sync(endpoint.post), WorkerThreadHandler())


@pytest.fixture
def send_request(handle: Handle, person: Person) -> SendRequest:
    """A function that sends ``threads.list`` as a signed-in user and returns the status.

    Each place of ``workers`` (see runtime.worker_threads for this word) already has a database connection, so
    the function opens none.
    """
    token = person.token()

    def once() -> int:
        return handle(operation("threads.list"), token)

    chatkit_server()  # makes the server now, so that no test counts this work
    all_places = threading.Barrier(workers.size)

    def connect() -> None:
        connection.ensure_connection()
        all_places.wait(10)  # so that each place runs one of these calls

    for call in [workers.submit(connect) for _ in range(workers.size)]:
        call.result(10)
    assert once() == 200
    return once


@pytest.fixture
def statements(every_connection: WeakSet[Any]) -> Iterator[list[tuple[str, Any]]]:
    """The SQL statements of all connections during the test, each with its parameters."""
    executed: list[tuple[str, Any]] = []

    def record(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        executed.append((sql, params))
        return execute(sql, params, many, context)

    for each in every_connection:
        each.execute_wrappers.append(record)
    yield executed
    for each in every_connection:
        if record in each.execute_wrappers:
            each.execute_wrappers.remove(record)


def test_a_request_takes_two_sql_statements_and_one_worker_call_and_compiles_no_sql(
    send_request: SendRequest, statements: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()

    def count(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def counting(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    count(type(workers), "_submit")
    count(SQLCompiler, "as_sql")
    count(connection_created, "send")
    modules = set(sys.modules)

    statuses = [send_request() for _ in range(10)]

    assert statuses == [200] * 10
    assert len(statements) == 20
    assert calls == {"_submit": 10}  # no call of as_sql, and no new connection
    assert set(sys.modules) == modules  # no request imports a module


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (operation("threads.list"), 200),
        (create("Hello"), 200),
        (operation("threads.get_by_id", thread_id="thr_none"), 404),
        (add("thr_none"), 404),
        ({"type": "nothing"}, 400),
    ],
    ids=["json", "stream", "not found", "not found, in a stream operation", "bad"],
)
def test_a_request_leaves_no_garbage_to_collect(
    handle: Handle, person: Person, caplog: pytest.LogCaptureFixture, body: Any, status: int
) -> None:
    caplog.set_level(logging.CRITICAL, "django.request")  # pytest keeps every log record with its request
    token = person.token()

    statuses, garbage = garbage_of_five(lambda: handle(body, token))

    assert statuses == [status] * 5
    assert garbage < 5  # less than one object for each request


# ``fails`` is "<where>: <exception>": the method or other place that raises the exception, and a key of
# ``failing_server.EXCEPTIONS``. "http" is an HTTPException with the status 402. ``respond`` fails after the
# stream has begun, so the status is 200.
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
def test_an_exception_of_a_custom_server_leaves_no_garbage_to_collect(
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

    statuses, garbage = garbage_of_five(lambda: handle(body, token, fails=fails))

    assert statuses == [status] * 5
    assert garbage < 5  # less than one object for each request


@pytest.mark.parametrize(
    ("token", "cookies"),
    [("", ""), ("x.y.z", ""), ("", f"{COOKIE_NAME}=x; {COOKIE_NAME}=y")],
    ids=["none", "bad", "cookies"],
)
def test_a_refused_request_leaves_no_garbage_to_collect(
    handle: Handle, caplog: pytest.LogCaptureFixture, settings: Any, token: str, cookies: str
) -> None:
    settings.BETTER_AUTH_CREDENTIALS = ["jwt", "cookie"]
    caplog.set_level(logging.CRITICAL, "django.request")

    statuses, garbage = garbage_of_five(lambda: handle(operation("threads.list"), token, cookies))

    assert statuses == [401] * 5
    assert garbage < 5  # less than one object for each request


def garbage_of_five(send_request: SendRequest) -> tuple[list[int], int]:
    """Send five requests. Return their statuses, and the number of objects that only the collector can free.

    The number is the smallest of three attempts. Threads of earlier tests may add objects to one attempt, but
    the objects that the requests leave are in every attempt.
    """
    statuses, garbage = zip(*[_garbage_of_five(send_request) for _ in range(3)], strict=True)
    return statuses[-1], min(garbage)


def _garbage_of_five(send_request: SendRequest) -> tuple[list[int], int]:
    send_request()
    gc.collect()
    gc.disable()
    try:
        return [send_request() for _ in range(5)], gc.collect()
    finally:
        gc.enable()


def test_a_request_leaks_no_memory(send_request: SendRequest, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "authn.audit")  # pytest keeps every log record

    def blocks_after(requests: int) -> int:
        for _ in range(requests):
            send_request()
        gc.collect()
        return sys.getallocatedblocks()

    blocks_after(50)
    before = blocks_after(50)

    after = blocks_after(200)

    assert (after - before) / 200 < 5  # a leaked request takes about a hundred blocks of memory


FREEZES_AND_COLLECTS = """
import asyncio, gc
from chatbackend.asgi import application

frozen_before = gc.get_freeze_count()
collections_before = gc.get_stats()[2]["collections"]

async def main():
    received, sent = asyncio.Queue(), asyncio.Queue()
    received.put_nowait({"type": "lifespan.startup"})
    running = asyncio.create_task(application({"type": "lifespan"}, received.get, sent.put))
    await sent.get()
    kept = [[number] for number in range(500_000)]  # about as many objects as a thousand streams have
    collections = gc.get_stats()[2]["collections"] - collections_before
    # Prints "True 0" if objects were frozen, and if no full collection ran except the one at the start.
    print(gc.get_freeze_count() > frozen_before, collections - 1)
    running.cancel()

asyncio.run(main())
"""


def test_garbage_collection_skips_modules_and_is_rare(auth: Any, database_url: str) -> None:
    done = python(FREEZES_AND_COLLECTS, DATABASE_URL=database_url)

    assert "True 0" in done.stdout.splitlines(), done.stderr


def test_the_user_and_the_session_are_found_by_index(
    send_request: SendRequest, statements: list[tuple[str, Any]]
) -> None:
    send_request()

    sql, params = next(each for each in statements if '"session"' in each[0])
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")  # PostgreSQL scans a table of ten rows without its indexes
        try:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", params)
            plan = cursor.fetchone()[0][0]["Plan"]
        finally:
            cursor.execute("RESET enable_seqscan")
    assert sorted(indexes_of(plan)) == ["session_pkey", "user_email_key"]  # the token names the session's id


def indexes_of(plan: dict[str, Any]) -> Iterator[str]:
    """Yield the index of each scan in the plan. For a scan without an index, yield the kind of the scan."""
    if "Scan" in plan["Node Type"] and plan["Actual Loops"]:
        yield plan.get("Index Name", plan["Node Type"])
    for part in plan.get("Plans", []):
        yield from indexes_of(part)
