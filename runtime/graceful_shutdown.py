"""Requests that no shutdown of the server breaks off: the streams end a moment later, and in good order."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

_under_way: set["asyncio.Task[None]"] = set()


async def unhurried(request: Coroutine[Any, Any, None]) -> None:
    """Wait for it, also when cancelled, which only a server that shuts down does. Cancelled itself, Django
    would leave two tasks of its own behind, and the client would hear the connection break.
    """
    task = asyncio.create_task(request)
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    task.result()


def all_unhurried(application: Any) -> Any:
    """The ASGI application, of which no request is broken off."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        await unhurried(application(scope, receive, send))

    return serve


async def finish(seconds: float) -> None:
    """Wait for all of them, but no longer than that."""
    if _under_way:
        await asyncio.wait(_under_way, timeout=seconds)
