"""The threads in which sync code runs: middleware, views and database calls.

``WORKER_THREADS`` of them work at the same time. Each of these has a *place*: a set of database connections,
which the place keeps from call to call. A thread that only waits for the event loop (``waiting``) gives its
place to another thread meanwhile. So a process never has more connections than places, and slow answers
leave all places free.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeVar

from asgiref.sync import ThreadSensitiveContext
from django.conf import settings
from django.db import connections

R = TypeVar("R")

logger = logging.getLogger(__name__)

DEFAULT_WORKER_THREADS = 4
MAX_WAITING = 100  # threads that wait for the event loop; each of them costs some memory, and no connection
LONG_CALL_SECONDS = 1.0  # a longer call suggests that something hangs, not that the machine is busy

Place = dict[str, Any]  # its database connections, by their alias


class TooManyWaiting(Exception):
    """``MAX_WAITING`` threads wait for the event loop already."""


class WorkerThreads(Executor):
    """``size``: how many threads work at the same time."""

    last_long_call_at = -math.inf  # time.monotonic() at the end of a call of more than LONG_CALL_SECONDS

    def __init__(self, size: int) -> None:
        self.size = size
        self._threads = ThreadPoolExecutor(size + MAX_WAITING, thread_name_prefix="worker")
        self._lock = threading.Lock()
        self._free_places: list[Place] = [{} for _ in range(size)]
        # Calls that wait for a place, and the futures of threads that wait for one to go on with their call.
        self._queue: deque[Callable[[], None] | Future[Place]] = deque()
        self._waiting = 0
        self._current = threading.local()  # ``begun_at``: since when this thread works at its call

    def submit(self, call: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        future: Future[R] = Future()
        run = partial(self._run, future, partial(call, *args, **kwargs))
        with self._lock:
            place = self._free_places.pop() if self._free_places else None
            if place is None:
                self._queue.append(run)
        if place is not None:
            self._threads.submit(self._work, place, [run])
        return future

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside, a worker thread only waits, and another one has its place. No effect in other threads.

        Raises ``TooManyWaiting``.
        """
        if not self._is_worker():
            yield
            return
        with self._lock:
            if self._waiting >= MAX_WAITING:
                raise TooManyWaiting
            self._waiting += 1
        # A transaction belongs to this call. So its connections stay here, and the other thread makes new
        # ones.
        is_in_transaction = any(each.in_atomic_block for each in connections.all(initialized_only=True))
        self._give_away({} if is_in_transaction else _remove_connections())
        try:
            yield
        finally:
            place = self._next_place()
            if is_in_transaction:
                for connection in place.values():
                    connection.close()
            else:
                _use_connections(place)
            self._current.begun_at = time.monotonic()
            with self._lock:
                self._waiting -= 1

    def load(self) -> tuple[int, int]:
        """How many threads work, and how many calls wait for a thread."""
        return self.size - len(self._free_places), len(self._queue)

    def _is_worker(self) -> bool:
        return hasattr(self._current, "begun_at")

    def _work(self, place: Place, calls: list[Callable[[], None]]) -> None:
        """In a thread: the one call, and then the calls that have waited for a place."""
        _use_connections(place)
        # Taken out of the list: the thread pool keeps its arguments, and so would keep the call's exception.
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
            del future, call  # they would keep the exception, which keeps them by its traceback
        else:
            future.set_result(result)

    def _call(self, call: Callable[[], R]) -> R:
        self._current.begun_at = time.monotonic()
        try:
            for connection in connections.all(initialized_only=True):
                connection.close_if_unusable_or_obsolete()
            return call()
        finally:
            if (now := time.monotonic()) - self._current.begun_at > LONG_CALL_SECONDS:
                self.last_long_call_at = now
            _close_open_transactions()

    def _next_call(self) -> Callable[[], None] | None:
        """The next call for this thread and its place. Without one, the place is given away."""
        with self._lock:
            if self._queue and not isinstance(self._queue[0], Future):
                return self._queue.popleft()  # type: ignore[return-value]
        self._give_away(_remove_connections())
        return None

    def _give_away(self, place: Place) -> None:
        """To the first in the queue, if anybody waits."""
        with self._lock:
            next_one = self._queue.popleft() if self._queue else None
            if next_one is None:
                self._free_places.append(place)
        if isinstance(next_one, Future):
            next_one.set_result(place)
        elif next_one is not None:
            self._threads.submit(self._work, place, [next_one])

    def _next_place(self) -> Place:
        """For a thread that goes on with its call. It is first in the queue."""
        with self._lock:
            if self._free_places:
                return self._free_places.pop()
            place: Future[Place] = Future()
            self._queue.appendleft(place)
        return place.result()


def _use_connections(place: Place) -> None:
    for alias, connection in place.items():
        connections[alias] = connection


def _remove_connections() -> Place:
    """Django keeps connections for each thread. These are taken from this one."""
    place = {}
    for connection in connections.all(initialized_only=True):
        if not connection.allow_thread_sharing:
            connection.inc_thread_sharing()  # by one thread after the other
        place[connection.alias] = connection
        del connections[connection.alias]
    return place


def _close_open_transactions() -> None:
    for connection in connections.all(initialized_only=True):
        # A call has begun it, and another call was to end it. That may get another thread, and until then the
        # transaction would swallow what others write through this connection.
        if connection.in_atomic_block:
            logger.error("A transaction was left open, and is rolled back")
            connection.close()
            del connections[connection.alias]


workers = WorkerThreads(getattr(settings, "WORKER_THREADS", DEFAULT_WORKER_THREADS))


@asynccontextmanager
async def use_worker_threads() -> AsyncIterator[None]:
    """Inside, Django's async ORM and ``sync_to_async`` use the worker threads.

    Otherwise each stream would get a thread and a database connection of its own.
    """
    async with ThreadSensitiveContext(executor=workers):
        yield
