"""Database connections are lent for as long as a query takes, and no longer."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections

P = ParamSpec("P")
R = TypeVar("R")


def give_back() -> None:
    """Return this thread's connections to their pools. Inside a transaction they stay."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()


def on_database(query: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Lift a function that uses the ORM to async: one hop to a worker thread, one connection, given back."""

    @wraps(query)
    def lend(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return query(*args, **kwargs)
        finally:
            give_back()

    lifted = sync_to_async(lend, thread_sensitive=False)

    @wraps(query)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        # A thread cannot be interrupted: a write that was under way when the client left happens all
        # the same. Whoever cleans up after the cancellation must find it done, so we wait for it.
        work = asyncio.ensure_future(lifted(*args, **kwargs))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise

    return call
