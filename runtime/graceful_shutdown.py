"""Lets requests finish when the server shuts down. Otherwise the server would cancel them."""

import asyncio
from collections.abc import Coroutine
from typing import Any

# Two keys in the ASGI scope of a request. The first is set if the request is answered with a stream, and its
# value is a function that ends the stream. The second is set if the server has cancelled the request.
END_STREAM = "runtime.end_stream"
IS_CANCELLED = "runtime.is_cancelled"

_running: set["asyncio.Task[None]"] = set()


async def run_shielded(request: Coroutine[Any, Any, None], scope: Any) -> None:
    """Run the request of an ASGI application, and ignore a cancellation.

    A server cancels a request only at its shutdown. If Django's handler were cancelled, it would leave two
    tasks behind, and the client would see a broken connection. If the response is a stream, a cancellation
    ends the stream: its partial answer is stored, and its last event is an error. Servers without the
    lifespan protocol, such as Daphne, announce a shutdown in no other way.
    """
    task = asyncio.create_task(request)
    _running.add(task)
    task.add_done_callback(_running.discard)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            scope[IS_CANCELLED] = True
            end_cancelled_stream(scope)
    task.result()


def end_cancelled_stream(scope: Any) -> None:
    """End the stream if the server has cancelled the request. Does nothing if there is no stream yet.

    Call it after each change of the two keys. The stream is ended only once: a second cancellation could
    interrupt the storing of the partial answer.
    """
    if IS_CANCELLED in scope and (end_stream := scope.pop(END_STREAM, None)):
        end_stream()


async def wait_for_requests(seconds: float) -> None:
    """Wait until all requests have ended, but no longer than ``seconds``."""
    if _running:
        await asyncio.wait(_running, timeout=seconds)
