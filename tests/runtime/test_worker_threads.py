"""The worker threads and their connections. runtime/worker_threads.py explains the *place* of a thread."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from chatkit.store import NotFoundError
from django.db import DataError, ProgrammingError, connection, transaction
from django.db.backends.postgresql import base
from django.db.backends.signals import connection_created
from django.test.utils import CaptureQueriesContext

from runtime import worker_threads
from runtime.database_calls import on_database, run_inline
from runtime.worker_threads import use_worker_threads, workers
from support.models import Thread
from tests.fixtures.database.concurrent_commits import wait_for_lock
from tests.fixtures.owner import STORE, Owner, message
from tests.fixtures.servers.api import eventually

pytestmark = pytest.mark.django_db(transaction=True)


def own_process_id() -> int:
    """Return the id of PostgreSQL's process for the connection of this thread."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


process_id = on_database(own_process_id)


@pytest.fixture
def new_process_ids() -> Iterator[list[int]]:
    """The process ids of the connections that are opened during the test."""
    process_ids: list[int] = []

    def note(connection: Any, **_: Any) -> None:
        process_ids.append(connection.connection.info.backend_pid)

    connection_created.connect(note)
    yield process_ids
    connection_created.disconnect(note)


def all_process_ids() -> set[int]:
    """Return the process ids of the connections of all places.

    It runs one call in each place. A call ends only when all of them have begun.
    """
    all_calls = threading.Barrier(workers.size, timeout=10)

    @on_database
    def hold() -> int:
        all_calls.wait()
        return own_process_id()

    async def work() -> list[int]:
        return await asyncio.gather(*(hold() for _ in range(workers.size)))

    return set(asyncio.run(work()))


def test_calls_reuse_the_connections_of_earlier_calls(new_process_ids: list[int]) -> None:
    kept = all_process_ids()
    new_process_ids.clear()

    async def work() -> set[int]:
        return {await process_id() for _ in range(30)}

    used = asyncio.run(work())

    assert used <= kept
    assert new_process_ids == []


def test_many_calls_at_once_share_few_connections(ada: Owner) -> None:
    ada.starts()
    kept = all_process_ids()

    async def work() -> list[int]:
        saves = (STORE.add_thread_item("thr_1", message(f"msg_{n}"), ada) for n in range(40))
        await asyncio.gather(*saves)
        return await asyncio.gather(*(process_id() for _ in range(40)))

    used = set(asyncio.run(work()))

    assert len(set(ada.item_ids(limit=100))) == 40
    assert used <= kept
    assert len(kept) == workers.size


def test_connections_that_the_server_has_closed_are_replaced_without_an_error(postgres_url: str) -> None:
    closed = all_process_ids()
    terminate(postgres_url, closed)

    replacements = all_process_ids()

    assert not replacements & closed


def terminate(postgres_url: str, process_ids: set[int]) -> None:
    with psycopg.connect(postgres_url) as other_connection:
        for number in process_ids:
            other_connection.execute("SELECT pg_terminate_backend(%s, 1000)", [number])


def test_an_idle_connection_is_checked_without_a_query(monkeypatch: pytest.MonkeyPatch) -> None:
    all_process_ids()
    queried: list[Any] = []
    monkeypatch.setattr(base.DatabaseWrapper, "is_usable", lambda connection: not queried.append(connection))

    all_process_ids()

    assert queried == []


def test_statements_are_not_prepared_behind_a_pooler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pooler sends its clients a process id that is not PostgreSQL's, as PgBouncer 1.18 does."""

    def prepares() -> bool:
        connection.close()
        connection.ensure_connection()
        return connection.connection.prepare_threshold is not None

    without_pooler = prepares()
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", property(lambda _: -1))
    behind_pooler = prepares()
    connection.close()

    assert (without_pooler, behind_pooler) == (True, False)


def test_a_connection_is_replaced_after_a_database_error() -> None:
    """Otherwise a prepared statement whose table has changed would fail at each later call."""

    @on_database
    def fail() -> int:
        with connection.cursor() as cursor, pytest.raises(ProgrammingError):
            cursor.execute("SELECT * FROM nowhere")
        return int(connection.connection.info.backend_pid)

    failed = asyncio.run(fail())

    assert failed not in all_process_ids()


def test_a_refused_value_does_not_close_the_connection(ada: Owner, new_process_ids: list[int]) -> None:
    ada.starts()
    all_process_ids()
    new_process_ids.clear()

    async def work() -> None:
        with pytest.raises(NotFoundError):
            await STORE.load_thread("thr_9", ada)
        with pytest.raises(NotFoundError):
            await STORE.add_thread_item("thr_9", message(), ada)
        with pytest.raises(DataError):
            await STORE.add_thread_item("thr_1", message("msg_" + 300 * "x"), ada)

    asyncio.run(work())

    all_process_ids()
    assert new_process_ids == []


def test_a_transaction_that_a_call_leaves_open_is_rolled_back(
    ada: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        async with use_worker_threads():  # as for the stream of a ChatKit server
            await sync_to_async(transaction.atomic().__enter__)()
            await sync_to_async(create_thread)()

    def create_thread() -> None:
        Thread.objects.create(user_id="ada", thread_id="thr_1", created_at="2026-03-01T00:00:00Z", data={})

    asyncio.run(work())

    assert "A transaction was left open, and is rolled back" in caplog.text
    assert Thread.objects.owned_by("ada").exists()


def test_django_s_async_orm_uses_the_worker_threads_inside_use_worker_threads() -> None:
    kept = all_process_ids()

    async def work() -> set[int]:
        async with use_worker_threads():
            await Thread.objects.acount()
            return {await sync_to_async(own_process_id)() for _ in range(5)}

    assert asyncio.run(work()) <= kept


def test_a_cancelled_call_waits_for_its_write(ada: Owner, postgres_url: str) -> None:
    ada.starts()
    ada.add_thread_item("thr_1", message())

    async def work() -> None:
        with psycopg.connect(postgres_url) as other_connection:
            other_connection.execute("SELECT FROM support_item FOR UPDATE")
            saving = asyncio.create_task(STORE.save_item("thr_1", message("msg_1", "changed"), ada))
            await asyncio.to_thread(wait_for_lock, other_connection)

            saving.cancel()
            _, unfinished = await asyncio.wait([saving], timeout=0.2)
            assert unfinished == {saving}

            other_connection.rollback()
            with pytest.raises(asyncio.CancelledError):
                await saving
        assert await STORE.load_item("thr_1", "msg_1", ada) == message("msg_1", "changed")

    asyncio.run(work())


def test_run_inline_runs_the_queries_in_the_current_thread() -> None:
    async def thread_ids() -> tuple[int, int]:
        await process_id()
        return threading.get_ident(), await on_database(threading.get_ident)()

    assert run_inline(thread_ids()) == (threading.get_ident(), threading.get_ident())


def test_a_function_that_raises_stop_iteration_ends_its_call() -> None:
    @on_database
    def find_nothing() -> None:
        next(iter(()))

    loop = asyncio.new_event_loop()
    call = loop.create_task(find_nothing())
    loop.run_until_complete(asyncio.wait([call], timeout=5))
    loop.close()

    assert call.done()
    assert isinstance(call.exception(), RuntimeError)


def test_run_inline_refuses_a_coroutine_that_awaits_something_else() -> None:
    async def pause() -> None:
        await Pause()

    with pytest.raises(RuntimeError, match="something other than the database"):
        run_inline(pause())


class Pause:
    def __await__(self) -> Iterator[None]:
        yield


def test_the_setting_worker_threads_is_the_number_of_places(settings: Any) -> None:
    assert workers.size == settings.WORKER_THREADS


def test_a_thread_that_waits_gives_its_place_and_connection_to_another(new_process_ids: list[int]) -> None:
    kept = all_process_ids()
    new_process_ids.clear()
    go_on = threading.Event()

    def wait() -> tuple[int, int]:
        before = own_process_id()
        with workers.waiting():
            go_on.wait(10)
        return before, own_process_id()

    waiting = [workers.submit(wait) for _ in range(2 * workers.size)]
    meanwhile = workers.submit(own_process_id).result(10)
    go_on.set()
    used = {number for call in waiting for number in call.result(10)} | {meanwhile}

    assert used <= kept
    assert new_process_ids == []


def number_of_connections() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def test_a_thread_that_waits_in_a_transaction_keeps_its_connection_and_others_get_new_connections() -> None:
    all_process_ids()
    number_before = number_of_connections()
    go_on = threading.Event()

    def wait() -> tuple[int, int]:
        with transaction.atomic():
            before = own_process_id()
            with workers.waiting():
                go_on.wait(10)
            return before, own_process_id()

    waiting = [workers.submit(wait) for _ in range(workers.size)]
    others = {workers.submit(own_process_id).result(10) for _ in range(3 * workers.size)}
    go_on.set()
    before_and_after = [call.result(10) for call in waiting]

    assert all(before == after for before, after in before_and_after)
    assert not others & {before for before, _ in before_and_after}
    eventually(number_of_connections, lambda number: number <= number_before)


@pytest.mark.parametrize("state", ["autocommit off", "execute_wrapper", "debug cursor"])
def test_a_thread_that_waits_keeps_a_connection_that_its_call_has_changed(state: str) -> None:
    recorded: list[str] = []

    def record(execute: Callable[..., Any], sql: str, *others: Any) -> Any:
        recorded.append(sql)
        return execute(sql, *others)

    @contextmanager
    def changed_connection() -> Iterator[None]:
        with ExitStack() as stack:
            if state == "autocommit off":
                transaction.set_autocommit(False)
                stack.callback(transaction.set_autocommit, True)
                stack.callback(transaction.commit)
            elif state == "execute_wrapper":
                stack.enter_context(connection.execute_wrapper(record))
            else:
                stack.enter_context(CaptureQueriesContext(connection))
            yield

    go_on, waits = threading.Event(), threading.Event()

    def wait() -> tuple[int, int]:
        own_process_id()
        with changed_connection():
            before = own_process_id()
            Thread.objects.create(user_id="ada", thread_id="thr_1", created_at=datetime.now(UTC), data={})
            with workers.waiting():
                waits.set()
                go_on.wait(10)
            return before, own_process_id()

    waiting = workers.submit(wait)
    assert waits.wait(10)
    recorded_before = len(recorded)
    others = all_process_ids()
    recorded_meanwhile = len(recorded) - recorded_before
    go_on.set()
    before, after = waiting.result(10)

    assert recorded_meanwhile == 0
    assert before == after
    assert before not in others
    assert Thread.objects.owned_by("ada").exists()


def test_a_thread_that_resumes_replaces_a_connection_that_the_server_has_closed(postgres_url: str) -> None:
    go_on, waits = threading.Event(), threading.Event()

    def wait() -> int:
        own_process_id()  # after this query, Django does not check the connection again in this call
        with workers.waiting():
            waits.set()
            go_on.wait(10)
        return own_process_id()

    closed = all_process_ids()
    waiting = workers.submit(wait)
    assert waits.wait(10)
    terminate(postgres_url, closed)
    go_on.set()

    assert waiting.result(10) not in closed


def test_threads_resume_in_the_order_in_which_their_waits_end() -> None:
    pool, order = worker_threads.WorkerThreads(1), []
    ends, place_is_free = [threading.Event() for _ in range(4)], threading.Event()
    waits = threading.Semaphore(0)

    def wait(number: int) -> None:
        with pool.waiting():
            waits.release()
            ends[number].wait(10)
        order.append(number)

    calls = [pool.submit(wait, number) for number in range(4)]
    for _ in calls:
        waits.acquire(timeout=10)
    pool.submit(place_is_free.wait, 10)
    for number, end in enumerate(ends):
        end.set()
        eventually(lambda: len(pool._resuming), lambda length, number=number: length == number + 1)
    place_is_free.set()
    for call in calls:
        call.result(10)

    assert order == [0, 1, 2, 3]


def test_a_call_of_a_request_that_has_begun_comes_before_new_requests() -> None:
    pool, release, order = worker_threads.WorkerThreads(1), threading.Event(), list[str]()

    async def submit_both() -> None:
        first = pool.submit(release.wait, 10)
        request = pool.call_for_request(lambda: order.append("new request"))
        call = pool.call(lambda: order.append("call"))
        release.set()
        await asyncio.gather(asyncio.wrap_future(first), request, call)

    asyncio.run(submit_both())

    assert order == ["call", "new request"]


def test_a_call_that_is_cancelled_before_it_starts_does_not_run() -> None:
    pool, release, ran = worker_threads.WorkerThreads(1), threading.Event(), list[str]()

    async def cancel_one_of_two() -> None:
        first = pool.submit(release.wait, 10)
        cancelled, other = pool.call(lambda: ran.append("cancelled")), pool.call(lambda: ran.append("other"))
        cancelled.cancel()
        release.set()
        await asyncio.gather(asyncio.wrap_future(first), other)

    asyncio.run(cancel_one_of_two())

    assert ran == ["other"]


def test_a_call_may_end_after_its_event_loop() -> None:
    pool, started, release = worker_threads.WorkerThreads(1), threading.Event(), threading.Event()

    def wait() -> None:
        started.set()
        release.wait(10)

    async def leave() -> None:
        pool.call(wait)
        await asyncio.to_thread(started.wait, 10)

    asyncio.run(leave())
    release.set()

    assert pool.submit(lambda: "the next call").result(10) == "the next call"


def test_an_exception_of_a_call_is_raised_where_it_is_awaited() -> None:
    pool = worker_threads.WorkerThreads(1)

    async def fail() -> None:
        await pool.call(lambda: 1 / 0)  # type: ignore[arg-type]

    with pytest.raises(ZeroDivisionError):
        asyncio.run(fail())


def test_a_long_call_before_a_wait_counts_as_a_long_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_threads, "LONG_CALL_SECONDS", -1.0)
    before, during_wait = workers.last_long_call_at, []

    def wait() -> None:
        with workers.waiting():
            during_wait.append(workers.last_long_call_at)

    workers.submit(wait).result(10)

    assert during_wait[0] > before


def test_a_query_of_a_waiting_thread_that_is_no_worker_runs_in_a_worker() -> None:
    kept = all_process_ids()

    async def work() -> int:
        return await asyncio.to_thread(async_to_sync(process_id))

    assert asyncio.run(work()) in kept


def test_a_thread_over_the_maximum_of_waiting_threads_gets_an_exception(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_threads, "MAX_WAITING", 2)
    go_on, all_wait = threading.Event(), threading.Semaphore(0)

    def wait(share: float = 1) -> None:
        with workers.waiting(share):
            all_wait.release()
            go_on.wait(10)

    waiting = [workers.submit(wait, 0.5)]
    all_wait.acquire(timeout=10)
    with pytest.raises(worker_threads.TooManyWaiting):
        workers.submit(wait, 0.5).result(10)  # the other half is for others
    waiting.append(workers.submit(wait))
    all_wait.acquire(timeout=10)
    with pytest.raises(worker_threads.TooManyWaiting):
        workers.submit(wait).result(10)
    go_on.set()

    assert [call.result(10) for call in waiting] == [None, None]
    assert workers.submit(wait).result(10) is None


def test_waiting_has_no_effect_in_a_thread_that_is_no_worker() -> None:
    before = own_process_id()

    with workers.waiting():
        assert own_process_id() == before
