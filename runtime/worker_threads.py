"""The threads in which sync code runs: middleware, views and database calls.

At most ``WORKER_THREADS`` threads work at the same time. Each working thread has a *place*. A place is a set
of database connections, one for each database. The connections stay open from call to call. While a thread
waits for the event loop (``waiting``), another thread has its place. So slow responses do not occupy places,
and the number of connections stays the same.
"""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from asgiref.sync import ThreadSensitiveContext
from django.conf import settings
from django.db import connections

R = TypeVar("R")

logger = logging.getLogger(__name__)

DEFAULT_WORKER_THREADS = 4
MAX_WAITING = 100  # threads that may wait for the event loop at the same time; each costs some memory
LONG_CALL_SECONDS = 1.0  # a longer call suggests that something hangs, not that the machine is busy

Place = dict[str, Any]  # database connections by alias


class TooManyWaiting(Exception):
    """As many threads as are allowed already wait for the event loop."""


class WorkerThreads(Executor):
    """An executor with ``size`` places."""

    last_long_call_at = -math.inf  # time.monotonic() at the end of the last call over LONG_CALL_SECONDS

    def __init__(self, size: int) -> None:
        self.size = size
        self._threads = ThreadPoolExecutor(size + MAX_WAITING, thread_name_prefix="worker")
        self._lock = threading.Lock()
        self._free_places: list[Place] = [{} for _ in range(size)]
        # Three queues for a place, the first one first. Work that has begun comes before new requests. So in
        # a burst of requests, few threads wait for a call of their own.
        self._resuming: deque[Future[Place]] = deque()
        self._calls: deque[Callable[[], None]] = deque()
        self._requests: deque[Callable[[], None]] = deque()
        self._waiting = 0  # number of threads in a ``waiting`` block
        # ``begun_at``: when this thread began or resumed its call. Only worker threads have this attribute.
        self._current = threading.local()

    def submit(self, call: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        future: Future[R] = Future()
        self._submit(self._calls, partial(self._run, future, partial(call, *args, **kwargs)))
        return future

    def call(self, call: Callable[[], R]) -> "asyncio.Future[R]":
        """Like ``submit``, for code in an event loop. An ``asyncio.Future`` alone takes less time."""
        return self._call_from_loop(self._calls, call)

    def call_for_request(self, call: Callable[[], R]) -> "asyncio.Future[R]":
        """Like ``call``, for a new request. It waits until no other call waits."""
        return self._call_from_loop(self._requests, call)

    def _call_from_loop(
        self, queue: "deque[Callable[[], None]]", call: Callable[[], R]
    ) -> "asyncio.Future[R]":
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._submit(queue, partial(self._run_for_loop, loop, future, call))
        return future

    def _submit(self, queue: "deque[Callable[[], None]]", run: Callable[[], None]) -> None:
        with self._lock:
            place = self._free_places.pop() if self._free_places else None
            if place is None:
                queue.append(run)
        if place is not None:
            self._threads.submit(self._work, place, [run])

    @contextmanager
    def waiting(self, share: float = 1) -> Iterator[None]:
        """In this ``with`` block the worker thread must only wait. Another thread can use its place.

        ``share``: the part of ``MAX_WAITING`` that this wait may fill. A long wait leaves a part for others.

        The block has no effect in a thread that is not a worker. Raises ``TooManyWaiting``.
        """
        if not self.is_worker():
            yield
            return
        with self._lock:
            if self._waiting >= MAX_WAITING * share:
                raise TooManyWaiting(f"{self._waiting} threads already wait for the event loop")
            self._waiting += 1
        # A thread whose call has changed a connection keeps its connections. The next thread gets an empty
        # place and opens new connections.
        keeps_connections = any(map(_has_state_of_its_call, connections.all(initialized_only=True)))
        self._note_long_call()
        try:
            self._give_away({} if keeps_connections else _remove_connections())
            yield
        finally:
            place = self._next_place()
            if keeps_connections:
                for connection in place.values():  # not needed: this thread still has its own
                    connection.close()
            else:
                _use_connections(place)
                _close_unusable_connections()
            self._current.begun_at = time.monotonic()
            with self._lock:
                self._waiting -= 1

    def load(self) -> tuple[int, int]:
        """Return two numbers: threads that work, and calls and threads that wait for a place."""
        waiting = len(self._resuming) + len(self._calls) + len(self._requests)
        return self.size - len(self._free_places), waiting

    def is_worker(self) -> bool:
        """Whether the current thread is a worker thread."""
        return hasattr(self._current, "begun_at")

    def _work(self, place: Place, calls: list[Callable[[], None]]) -> None:
        """Run the one call in ``calls`` in the current thread, and then calls that wait for a place.

        ``calls`` is a list because the thread pool keeps its arguments. Removing the call from the list lets
        Python delete the call and its exception.
        """
        _use_connections(place)
        run: Callable[[], None] | None = calls.pop()
        while run is not None:
            run()
            run = self._next_call()

    def _run(self, future: Future[R], call: Callable[[], R]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = self._call(call)
        except BaseException as exc:
            future.set_exception(exc)
            del future, call  # break the cycle exception → traceback → frame → future → exception
        else:
            future.set_result(result)

    def _run_for_loop(
        self, loop: asyncio.AbstractEventLoop, future: "asyncio.Future[R]", call: Callable[[], R]
    ) -> None:
        if future.cancelled():
            return
        try:
            set_outcome = partial(future.set_result, self._call(call))
        except BaseException as exc:
            set_outcome = partial(future.set_exception, exc)
        with suppress(RuntimeError):  # the event loop is closed
            loop.call_soon_threadsafe(_unless_done, future, set_outcome)
        del future, call, set_outcome  # break the cycle exception → traceback → frame → future → exception

    def _call(self, call: Callable[[], R]) -> R:
        self._current.begun_at = time.monotonic()
        try:
            _close_unusable_connections()
            return call()
        finally:
            self._note_long_call()

    def _note_long_call(self) -> None:
        if (now := time.monotonic()) - self._current.begun_at > LONG_CALL_SECONDS:
            self.last_long_call_at = now

    def _next_call(self) -> Callable[[], None] | None:
        """Return the next call for this thread.

        If no call waits, or if a thread waits to resume, give the place away and return ``None``.
        """
        with self._lock:
            if not self._resuming and (queue := self._calls or self._requests):
                return queue.popleft()
        self._give_away(_remove_connections())
        return None

    def _give_away(self, place: Place) -> None:
        """Give the place to a thread that resumes, or else to a new call. Otherwise it becomes free."""
        with self._lock:
            if self._resuming:
                self._resuming.popleft().set_result(place)
                return
            queue = self._calls or self._requests
            if not queue:
                self._free_places.append(place)
                return
            call = queue.popleft()
        self._threads.submit(self._work, place, [call])

    def _next_place(self) -> Place:
        """Wait for a place and return it. For a thread that resumes its call."""
        with self._lock:
            if self._free_places:
                return self._free_places.pop()
            place: Future[Place] = Future()
            self._resuming.append(place)
        return place.result()


def _unless_done(future: "asyncio.Future[Any]", set_outcome: Callable[[], None]) -> None:
    if not future.done():  # a future that is cancelled is done
        set_outcome()


def _has_state_of_its_call(connection: Any) -> bool:
    """Whether the call has changed the connection, so that no other call may use it during the wait.

    Examples: the call has opened a transaction, or has added a wrapper that records its statements.
    """
    return (
        connection.in_atomic_block
        or (connection.connection is not None and not connection.get_autocommit())
        or bool(connection.execute_wrappers)
        or connection.force_debug_cursor
    )


def _close_unusable_connections() -> None:
    for connection in _connections():
        connection.close_if_unusable_or_obsolete()


def _use_connections(place: Place) -> None:
    for alias, connection in place.items():
        connections[alias] = connection


def _remove_connections() -> Place:
    """Remove all connections from the current thread and return them."""
    place = {}
    for connection in _connections():
        if not connection.allow_thread_sharing:
            connection.inc_thread_sharing()  # several threads use it, but never at the same time
        place[connection.alias] = connection
        del connections[connection.alias]
    return place


def _connections() -> Iterator[Any]:
    """Yield the connections of the current thread. A connection with an open transaction is closed instead.

    A call that begins a transaction must also end it. A later call may get another connection, and other
    calls would write into the open transaction.
    """
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            logger.error("A transaction was left open, and is rolled back")
            connection.close()
            del connections[connection.alias]
        else:
            yield connection


workers = WorkerThreads(getattr(settings, "WORKER_THREADS", DEFAULT_WORKER_THREADS))


class Requests(Executor):
    """Runs new requests in ``workers``. For ``loop.run_in_executor``, which accepts an ``asyncio.Future``."""

    def submit(self, call: Callable[..., R], /, *args: Any, **kwargs: Any) -> Any:
        return workers.call_for_request(partial(call, *args, **kwargs))


def use_worker_threads() -> ThreadSensitiveContext:
    """Return an async context manager. In it, Django's async ORM and ``sync_to_async`` use the workers.

    Without it, each stream would get its own thread and database connection.
    """
    return ThreadSensitiveContext(executor=workers)
