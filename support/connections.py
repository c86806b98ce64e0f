"""Database connections are lent for as long as a call takes, and no longer."""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import ThreadSensitiveContext
from django.db import connections

P = ParamSpec("P")
R = TypeVar("R")


def give_back() -> None:
    """Return this thread's connections to their pools. Inside a transaction they stay."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()


class _Workers(ThreadPoolExecutor):
    """Threads for what must wait for the database; each gives its connection back after every call."""

    def submit(self, call: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        return super().submit(_lend, call, *args, **kwargs)


workers = _Workers(thread_name_prefix="database")


@asynccontextmanager
async def lending() -> AsyncIterator[None]:
    """Inside, what asks asgiref for "the" thread, as Django's async ORM does, gets one of its own.

    The request's own is waiting for us, and gone when a stream goes on; and it would keep the
    connection until the end. The thread is made when first asked for: our own store never does.
    """
    thread = _Workers(max_workers=1, thread_name_prefix="lent")
    try:
        async with ThreadSensitiveContext(executor=thread):
            yield
    finally:
        thread.shutdown(wait=False)


def on_database(query: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Lift a function that uses the ORM to async: one hop to a worker thread, one connection, given back."""

    @wraps(query)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        # Handed over here and now, not by a task that might be cancelled before it begins: whoever
        # puts away what was said does so while everything around is being cancelled.
        in_context = partial(contextvars.copy_context().run, query, *args, **kwargs)
        work = asyncio.get_running_loop().run_in_executor(workers, in_context)
        # A thread cannot be interrupted: a write that was under way when the client left happens all
        # the same. Whoever cleans up after the cancellation must find it done, so we wait for it, also
        # when cancelled again: a server that shuts down does not wait for threads, but for us.
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            while not work.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([work])
            raise

    return call


def _lend(call: Callable[..., R], /, *args: Any, **kwargs: Any) -> R:
    try:
        return call(*args, **kwargs)
    finally:
        give_back()
