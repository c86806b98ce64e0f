"""Lets requests finish when the server shuts down. Otherwise the server would cancel them."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

_running: set["asyncio.Task[None]"] = set()


def shielded(application: Any) -> Any:
    """Wrap the ASGI application so that its requests ignore a cancellation.

    A server cancels a request only at its shutdown. If Django's handler were cancelled, it would leave two
    tasks behind, and the client would see a broken connection.
    """

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        await _shielded(application(scope, receive, send))

    return serve


async def wait_for_requests(seconds: float) -> None:
    """Wait until all requests have ended, but no longer than ``seconds``."""
    if _running:
        await asyncio.wait(_running, timeout=seconds)


async def _shielded(request: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(request)
    _running.add(task)
    task.add_done_callback(_running.discard)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    task.result()
