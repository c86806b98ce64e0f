"""Threads for all that waits for the database: few, each with a connection of its own that it keeps."""

import asyncio
import contextvars
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar, cast

from asgiref.sync import AsyncToSync, ThreadSensitiveContext
from django.db import DatabaseError, InterfaceError, connections
from django.urls import get_script_prefix, set_script_prefix

from authn.errors import is_outage
from support.conf import conf

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)

LONG_SECONDS = 1.0  # for a call: something hangs. What merely shares a busy machine is done sooner
RETRY_FOR_SECONDS = 8.0  # a restart takes one or two; a shutdown waits ten (support.chat.streaming)
RETRY_EVERY_SECONDS = 0.5

# Whether this is the work of a stream of which the client has had an event.
has_begun: ContextVar[bool] = ContextVar("has_begun", default=False)


class _Workers(ThreadPoolExecutor):
    last_long_at = -math.inf  # time.monotonic() at the end of a call that took longer than LONG_SECONDS

    def submit(self, call: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        return super().submit(_in_good_order, call, *args, **kwargs)

    def load(self) -> tuple[int, int]:
        """How many threads are at work, and how many calls wait for one."""
        return len(_busy), self._work_queue.qsize()


_busy: set[int] = set()  # threads, by their identifiers


# A bound on connections, too, and on how much waits for one thing. The threads are made when needed.
workers = _Workers(max_workers=conf.WORKER_THREADS, thread_name_prefix="worker")


@asynccontextmanager
async def use_worker_threads() -> AsyncIterator[None]:
    """Inside, what asks asgiref for "the" thread, as Django's async ORM does, gets one of the workers.

    The request's own is gone by then, and one for each stream would be a connection for each stream.
    """
    async with ThreadSensitiveContext(executor=workers):
        yield


def on_database(query: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Lift a function that uses the ORM to async: one hop to a worker; none for ``at_once``."""

    @wraps(query)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        loop = _running_loop()
        if loop is None:  # at_once: this is a worker already
            return query(*args, **kwargs)
        prefix = get_script_prefix()  # which asgiref keeps from other threads, and addresses begin with

        def there() -> R:
            set_script_prefix(prefix)
            return query(*args, **kwargs)

        run = partial(contextvars.copy_context().run, there)
        # Handed over here and now, not by a task that might be cancelled before it begins: whoever
        # puts away what was said does so while everything around is being cancelled. And waited for: a
        # thread cannot be interrupted, so a write that was under way when the client left happens all
        # the same, and whoever cleans up after the cancellation must find it done.
        return await _to_the_end(loop.run_in_executor(_executor(), run))

    return call


def retry_on_outage(query: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """``on_database``, for what may be done twice. In a stream that has begun, where nobody can be told to
    come again, it is done again until the database is back: what was said must not get lost."""
    once = on_database(query)

    @wraps(query)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await once(*args, **kwargs)
        except (DatabaseError, InterfaceError) as exc:
            if not has_begun.get() or not is_outage(exc):
                raise
        return await _to_the_end(asyncio.ensure_future(again(*args, **kwargs)))

    async def again(*args: P.args, **kwargs: P.kwargs) -> R:
        give_up_at = time.monotonic() + RETRY_FOR_SECONDS
        while True:
            await asyncio.sleep(RETRY_EVERY_SECONDS)
            try:
                return await once(*args, **kwargs)
            except (DatabaseError, InterfaceError) as exc:
                if not is_outage(exc) or time.monotonic() > give_up_at:
                    raise

    return call


def _running_loop() -> asyncio.AbstractEventLoop | None:
    # A separate function: else the traceback of a failed query would begin with this RuntimeError.
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def _to_the_end(work: "asyncio.Future[R]") -> R:
    """Wait for it, also when cancelled, and cancelled again: a server that shuts down does not wait for
    threads, but for us."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        raise
    finally:
        del work  # which keeps an exception that, by its traceback, would keep it, and all that was sent


def _executor() -> Executor:
    """The worker that waits for us in ``async_to_sync``, if one does, as a sync view may have it: if each
    waited for another one, all would for ever."""
    waiting = getattr(AsyncToSync.executors, "current", None)
    if waiting is None or waiting._broken or waiting._work_thread.ident not in _busy:
        return workers
    return cast(Executor, waiting)


def at_once(work: Coroutine[Any, Any, R]) -> R:
    """Run in this thread, and without an event loop, what awaits nothing but ``on_database``."""
    try:
        contextvars.copy_context().run(work.send, None)
    except StopIteration as finished:
        result: R = finished.value
        return result
    work.close()
    raise RuntimeError("It awaits something other than the database")


def _in_good_order(call: Callable[..., R], /, *args: Any, **kwargs: Any) -> R:
    _busy.add(threading.get_ident())
    begun = time.monotonic()
    try:
        for connection in connections.all(initialized_only=True):
            connection.close_if_unusable_or_obsolete()
        return call(*args, **kwargs)
    finally:
        _busy.discard(threading.get_ident())
        if (now := time.monotonic()) - begun > LONG_SECONDS:
            workers.last_long_at = now
        for connection in connections.all(initialized_only=True):
            # One that was begun here and is to be ended by another call, which may get another thread:
            # it would swallow what others write through this connection until then.
            if connection.in_atomic_block:
                logger.error("A transaction was left open, and is rolled back")
                connection.close()
                del connections[connection.alias]
