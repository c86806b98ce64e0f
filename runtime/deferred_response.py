"""Responses of sync views that come from async code.

A view with its authentication and middleware is sync. What a ChatKit server does is async, and may take a
while. So the view waits in its thread for the response, as any sync code does. Middleware sees the status and
the time of this response. A worker thread that waits gives its place to another thread meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from asgiref.sync import async_to_sync
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from runtime.worker_threads import use_worker_threads, workers

R = TypeVar("R")

Receive = Callable[[], Awaitable[Any]]  # ASGI's

CLIENT_CLOSED_REQUEST = 499  # nginx's status, for middleware and metrics: the client has left


def wait_for_response(
    request: HttpRequest, respond: Callable[[], Coroutine[Any, Any, HttpResponseBase]]
) -> HttpResponseBase:
    """Run ``respond`` in the event loop. Raises what it raises, and ``TooManyWaiting``.

    With our ASGI handler, ``respond`` is cancelled when the client leaves. The response then has status 499.
    With WSGI and in Django's test client, the response of a stream is there when the stream has ended.
    """
    # Requests of Django's own handlers and of its test client have no ``receive``.
    receive: Receive | None = getattr(request, "receive", None)

    failures: list[Exception] = []

    async def respond_in_event_loop() -> HttpResponseBase:
        try:
            async with use_worker_threads():
                response = await (while_connected(receive, respond()) if receive else respond())
                # WSGI or Django's test client: the event loop ends here, so the stream has to end, too.
                if isinstance(response, StreamingHttpResponse) and not isinstance(request, ASGIRequest):
                    response.streaming_content = [part async for part in response]
                return response
        except RequestAborted:
            return HttpResponse(status=CLIENT_CLOSED_REQUEST, reason="Client Closed Request")
        except Exception as exc:  # raised below: asgiref would keep it in a cycle, with the request's body
            failures.append(exc)
            return HttpResponse()

    with workers.waiting():
        response = async_to_sync(respond_in_event_loop)()
    if failures:
        raise failures.pop()
    return response


async def while_connected(receive: Receive, work: Coroutine[Any, Any, R]) -> R:
    """Cancel the work when the client leaves, wait for its end, and raise ``RequestAborted``."""
    working, leaving = asyncio.create_task(work), asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        has_left = not working.done()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.wait([working, leaving])
    try:
        if not has_left:
            return working.result()
        with suppress(asyncio.CancelledError):
            working.result()  # raises an error of its clean-up
        raise RequestAborted
    finally:
        del working  # break the cycle task → exception → traceback → task


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
