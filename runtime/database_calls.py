"""Runs the database queries of async code in the worker threads."""

import asyncio
import contextvars
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import AsyncToSync
from django.db import DatabaseError, InterfaceError
from django.urls import get_script_prefix, set_script_prefix

from runtime.outages import is_outage
from runtime.worker_threads import workers

P = ParamSpec("P")
R = TypeVar("R")

# A restart of PostgreSQL takes one or two seconds. At a shutdown, our server waits ten seconds for streams.
RETRY_FOR_SECONDS = 8.0
RETRY_EVERY_SECONDS = 0.5

# Whether the current code belongs to a stream that has already sent an event to its client.
stream_has_begun: ContextVar[bool] = ContextVar("stream_has_begun", default=False)


def on_database(query: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Turn a function that uses the ORM into an async function that runs it in a worker thread.

    Inside ``run_inline``, the async function runs the query in the current thread.
    """

    @wraps(query)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        loop = _running_loop()
        if loop is None:  # inside ``run_inline``
            return query(*args, **kwargs)
        # The path at which the application is mounted. asgiref does not pass it to threads.
        prefix = get_script_prefix()

        def run() -> R:
            set_script_prefix(prefix)
            try:
                return query(*args, **kwargs)
            except StopIteration as exc:
                # No future of asyncio can hold it, so the caller would wait for ever.
                raise RuntimeError("The function raised StopIteration") from exc

        # The query is submitted here and not in a task, because a task may be cancelled before it begins. For
        # example, a partial answer is stored while tasks are being cancelled.
        # After a cancellation, we still wait for the query. A thread cannot be interrupted, so a write
        # happens in any case. Code that cleans up afterwards needs the finished write.
        return await _wait_to_the_end(_submit(partial(contextvars.copy_context().run, run)))

    return call


def retry_on_outage(query: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Like ``on_database``, but retry the query during an outage. The query must be safe to run twice.

    A query is retried for ``RETRY_FOR_SECONDS``, and only in a stream that has begun. Such a stream can no
    longer answer 503, and its partial answer would be lost.
    """
    once = on_database(query)

    @wraps(query)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await once(*args, **kwargs)
        except (DatabaseError, InterfaceError) as exc:
            if not stream_has_begun.get() or not is_outage(exc):
                raise
        return await _wait_to_the_end(asyncio.ensure_future(again(*args, **kwargs)))

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


def run_inline(work: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine in the current thread, without an event loop. It may await only ``on_database``."""
    try:
        contextvars.copy_context().run(work.send, None)
    except StopIteration as finished:
        result: R = finished.value
        return result
    work.close()
    raise RuntimeError("It awaits something other than the database")


def _submit(call: Callable[[], R]) -> "asyncio.Future[R]":
    # A sync view may wait for this call in ``async_to_sync``. Then the view's own thread runs the call, as
    # asgiref does for thread-sensitive code. Otherwise all worker threads could wait for a free worker
    # thread, and none of them would ever end.
    waiting_thread = getattr(AsyncToSync.executors, "current", None)
    if waiting_thread is not None:
        with suppress(RuntimeError):  # ``submit`` raises it if the thread no longer waits
            return asyncio.wrap_future(waiting_thread.submit(_run_in_worker, call))
    return workers.call(call)


def _run_in_worker(call: Callable[[], R]) -> R:
    return call() if workers.is_worker() else workers.submit(call).result()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    # A separate function: otherwise the traceback of a failed query would begin with this RuntimeError.
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def _wait_to_the_end(work: "asyncio.Future[R]") -> R:
    """Wait for the work, even if this task is cancelled several times.

    A server that shuts down waits for tasks, but not for threads.
    """
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        raise
    finally:
        del work  # break the cycle future → exception → traceback → future, which would keep the request
