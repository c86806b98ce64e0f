"""Lets requests finish when the server shuts down. Otherwise the server would cancel them."""

import asyncio
from collections.abc import Coroutine
from typing import Any

# A key in the ASGI scope of a request that is answered with a stream. Value: a function that ends the stream.
END_STREAM = "runtime.end_stream"

_running: set["asyncio.Task[None]"] = set()


def shielded(application: Any) -> Any:
    """Wrap the ASGI application so that its requests ignore a cancellation.

    A server cancels a request only at its shutdown. If Django's handler were cancelled, it would leave two
    tasks behind, and the client would see a broken connection. If the response is a stream, a cancellation
    ends the stream: its partial answer is stored, and its last event is an error. Servers without the
    lifespan protocol, such as Daphne, announce a shutdown in no other way.
    """

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        await _shielded(application(scope, receive, send), scope)

    return serve


async def wait_for_requests(seconds: float) -> None:
    """Wait until all requests have ended, but no longer than ``seconds``."""
    if _running:
        await asyncio.wait(_running, timeout=seconds)


async def _shielded(request: Coroutine[Any, Any, None], scope: Any) -> None:
    task = asyncio.create_task(request)
    _running.add(task)
    task.add_done_callback(_running.discard)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if END_STREAM in scope:
                scope[END_STREAM]()
    task.result()
