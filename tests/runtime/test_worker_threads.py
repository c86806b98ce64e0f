"""Few threads, few connections: each is kept, looked after, and left as it was found."""

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
    """Of the server's side of this thread's connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


process_id = on_database(own_process_id)


@pytest.fixture
def made() -> Iterator[list[int]]:
    """The connections that are made during the test, by their server's process."""
    made: list[int] = []

    def listen(connection: Any, **_: Any) -> None:
        made.append(connection.connection.info.backend_pid)

    connection_created.connect(listen)
    yield made
    connection_created.disconnect(listen)


def all_process_ids() -> set[int]:
    """The process ids of all workers' connections: one call for each place, held until all are busy."""
    together = threading.Barrier(workers.size, timeout=10)

    @on_database
    def hold() -> int:
        together.wait()
        return own_process_id()

    async def work() -> list[int]:
        return await asyncio.gather(*(hold() for _ in range(workers.size)))

    return set(asyncio.run(work()))


def test_a_worker_keeps_its_connection(made: list[int]) -> None:
    kept = all_process_ids()
    del made[:]

    async def work() -> set[int]:
        return {await process_id() for _ in range(30)}

    used = asyncio.run(work())

    assert used <= kept
    assert made == []


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


def test_connections_that_the_server_has_closed_are_replaced_unnoticed(postgres_url: str) -> None:
    dead = all_process_ids()
    with psycopg.connect(postgres_url) as elsewhere:
        for number in dead:
            elsewhere.execute("SELECT pg_terminate_backend(%s, 1000)", [number])

    alive = all_process_ids()

    assert not alive & dead


def test_an_idle_connection_is_asked_how_it_is_without_a_round_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    all_process_ids()
    asked: list[Any] = []
    monkeypatch.setattr(base.DatabaseWrapper, "is_usable", lambda connection: not asked.append(connection))

    all_process_ids()

    assert asked == []


def test_statements_are_prepared_unless_a_pooler_is_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pooler tells its clients of processes that are none of the server's, as PgBouncer 1.18 does."""

    def prepares() -> bool:
        connection.close()
        connection.ensure_connection()
        return connection.connection.prepare_threshold is not None

    direct = prepares()
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", property(lambda _: -1))

    assert (direct, prepares()) == (True, False)
    connection.close()


def test_a_connection_is_replaced_after_an_error_of_the_database() -> None:
    """A statement that was prepared for a table that has changed is wrong for as long as it is kept."""

    @on_database
    def go_wrong() -> int:
        with connection.cursor() as cursor, pytest.raises(ProgrammingError):
            cursor.execute("SELECT * FROM nowhere")
        return int(connection.connection.info.backend_pid)

    bad = asyncio.run(go_wrong())

    assert bad not in all_process_ids()


def test_a_refused_value_costs_no_connection(ada: Owner, made: list[int]) -> None:
    ada.starts()
    all_process_ids()
    del made[:]

    async def work() -> None:
        with pytest.raises(NotFoundError):
            await STORE.load_thread("thr_9", ada)
        with pytest.raises(NotFoundError):
            await STORE.add_thread_item("thr_9", message(), ada)
        with pytest.raises(DataError):
            await STORE.add_thread_item("thr_1", message("msg_" + 300 * "x"), ada)

    asyncio.run(work())

    all_process_ids()
    assert made == []


def test_a_transaction_that_a_call_leaves_open_is_rolled_back(
    ada: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        async with use_worker_threads():  # as in a stream of a team's own server
            await sync_to_async(transaction.atomic().__enter__)()
            await sync_to_async(of_all_workers_in_threads)()

    def of_all_workers_in_threads() -> None:
        Thread.objects.create(user_id="ada", thread_id="thr_1", created_at="2026-03-01T00:00:00Z", data={})

    asyncio.run(work())

    assert "A transaction was left open, and is rolled back" in caplog.text
    assert Thread.objects.owned_by("ada").exists()


def test_django_s_async_orm_uses_the_workers_inside_a_stream() -> None:
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
        with psycopg.connect(postgres_url) as elsewhere:
            elsewhere.execute("SELECT FROM support_item FOR UPDATE")
            saving = asyncio.create_task(STORE.save_item("thr_1", message("msg_1", "changed"), ada))
            await asyncio.to_thread(wait_for_lock, elsewhere)

            saving.cancel()
            _, unfinished = await asyncio.wait([saving], timeout=0.2)
            assert unfinished == {saving}

            elsewhere.rollback()
            with pytest.raises(asyncio.CancelledError):
                await saving
        assert await STORE.load_item("thr_1", "msg_1", ada) == message("msg_1", "changed")

    asyncio.run(work())


def test_run_inline_runs_the_queries_in_the_current_thread() -> None:
    async def where() -> tuple[int, int]:
        await process_id()
        return threading.get_ident(), await on_database(threading.get_ident)()

    assert run_inline(where()) == (threading.get_ident(), threading.get_ident())


def test_run_inline_refuses_a_coroutine_that_awaits_something_else() -> None:
    async def sleepy() -> None:
        await Pause()

    with pytest.raises(RuntimeError, match="something other than the database"):
        run_inline(sleepy())


class Pause:
    def __await__(self) -> Iterator[None]:
        yield


def test_there_are_as_many_places_as_the_setting_says(settings: Any) -> None:
    assert workers.size == settings.WORKER_THREADS


def test_a_thread_that_waits_gives_its_place_and_connection_to_another(made: list[int]) -> None:
    kept = all_process_ids()
    del made[:]
    go_on = threading.Event()

    def wait() -> tuple[int, int]:
        before = own_process_id()
        with workers.waiting():
            go_on.wait(10)
        return before, own_process_id()

    waiting = [workers.submit(wait) for _ in range(2 * workers.size)]
    between = workers.submit(own_process_id).result(10)
    go_on.set()
    used = {number for each in waiting for number in each.result(10)} | {between}

    assert used <= kept
    assert made == []


def number_of_connections() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def test_a_thread_that_waits_in_a_transaction_keeps_its_connection_and_others_get_new_ones() -> None:
    all_process_ids()
    before_all = number_of_connections()
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
    before_and_after = [each.result(10) for each in waiting]

    assert all(before == after for before, after in before_and_after)
    assert not others & {before for before, _ in before_and_after}
    eventually(number_of_connections, lambda number: number <= before_all)


@pytest.mark.parametrize("state", ["autocommit off", "execute_wrapper", "debug cursor"])
def test_a_thread_that_waits_keeps_a_connection_that_its_call_has_changed(state: str) -> None:
    seen: list[str] = []

    def record(execute: Callable[..., Any], sql: str, *others: Any) -> Any:
        seen.append(sql)
        return execute(sql, *others)

    @contextmanager
    def changed() -> Iterator[None]:
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
        with changed():
            before = own_process_id()
            Thread.objects.create(user_id="ada", thread_id="thr_1", created_at=datetime.now(UTC), data={})
            with workers.waiting():
                waits.set()
                go_on.wait(10)
            return before, own_process_id()

    waiting = workers.submit(wait)
    assert waits.wait(10)
    statements = len(seen)
    others = all_process_ids()
    assert len(seen) == statements
    go_on.set()
    before, after = waiting.result(10)

    assert before == after
    assert before not in others
    assert Thread.objects.owned_by("ada").exists()


def test_a_thread_that_resumes_replaces_a_connection_that_the_server_has_closed(postgres_url: str) -> None:
    go_on, waits = threading.Event(), threading.Event()

    def wait() -> int:
        own_process_id()  # after a query, Django itself does not check the connection again
        with workers.waiting():
            waits.set()
            go_on.wait(10)
        return own_process_id()

    dead = all_process_ids()
    waiting = workers.submit(wait)
    assert waits.wait(10)
    with psycopg.connect(postgres_url) as elsewhere:
        for number in dead:
            elsewhere.execute("SELECT pg_terminate_backend(%s, 1000)", [number])
    go_on.set()

    assert waiting.result(10) not in dead


def test_threads_resume_in_the_order_in_which_their_waits_end() -> None:
    pool, order = worker_threads.WorkerThreads(1), []
    ends, busy = [threading.Event() for _ in range(4)], threading.Event()
    waits = threading.Semaphore(0)

    def wait(number: int) -> None:
        with pool.waiting():
            waits.release()
            ends[number].wait(10)
        order.append(number)

    calls = [pool.submit(wait, number) for number in range(4)]
    for _ in calls:
        waits.acquire(timeout=10)
    pool.submit(busy.wait, 10)
    for number, end in enumerate(ends):
        end.set()
        eventually(lambda: len(pool._resuming), lambda length, number=number: length == number + 1)
    busy.set()
    for call in calls:
        call.result(10)

    assert order == [0, 1, 2, 3]


def test_a_long_call_before_a_wait_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_threads, "LONG_CALL_SECONDS", -1.0)
    before, seen = workers.last_long_call_at, []

    def wait() -> None:
        with workers.waiting():
            seen.append(workers.last_long_call_at)

    workers.submit(wait).result(10)

    assert seen[0] > before


def test_a_query_of_a_waiting_thread_that_is_no_worker_runs_in_a_worker() -> None:
    kept = all_process_ids()

    async def work() -> int:
        return await asyncio.to_thread(async_to_sync(process_id))

    assert asyncio.run(work()) in kept


def test_only_so_many_threads_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_threads, "MAX_WAITING", 2)
    go_on, all_wait = threading.Event(), threading.Semaphore(0)

    def wait() -> None:
        with workers.waiting():
            all_wait.release()
            go_on.wait(10)

    waiting = [workers.submit(wait) for _ in range(2)]
    for _ in waiting:
        all_wait.acquire(timeout=10)
    with pytest.raises(worker_threads.TooManyWaiting):
        workers.submit(wait).result(10)
    go_on.set()

    assert [each.result(10) for each in waiting] == [None, None]
    assert workers.submit(wait).result(10) is None


def test_waiting_has_no_effect_in_a_thread_that_is_no_worker() -> None:
    before = own_process_id()

    with workers.waiting():
        assert own_process_id() == before
