"""Lets a sync view wait for a response that async code makes.

A view is sync, like its authentication and middleware. A ChatKit server is async and may take seconds. So the
view waits in its thread for the response. Middleware then sees the real response, with its status and
duration. While a worker thread waits, another thread can use its database connections (see ``waiting`` in
``worker_threads``).
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar, cast

from asgiref.sync import async_to_sync
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from runtime.graceful_shutdown import END_STREAM, end_cancelled_stream
from runtime.worker_threads import use_worker_threads, workers

R = TypeVar("R")

Receive = Callable[[], Awaitable[Any]]  # ASGI's ``receive``

CLIENT_CLOSED_REQUEST = 499  # nginx logs this status if the client has left


def wait_for_response(
    request: HttpRequest, respond: Callable[[], Coroutine[Any, Any, HttpResponseBase]], share: float = 1
) -> HttpResponseBase:
    """Run ``respond`` in the event loop and return its response. ``share``: see ``WorkerThreads.waiting``.

    Raises the exceptions of ``respond``, and ``TooManyWaiting``.

    With our ASGI handler: if the client leaves, ``respond`` is cancelled and the response has status 499.
    Under WSGI and in Django's test client: a streaming response is returned after its stream has ended.
    """
    # Only a request of our ASGI handler has ``receive``.
    receive: Receive | None = getattr(request, "receive", None)
    # Exceptions are passed in a list and raised below. asgiref would keep an exception in a reference cycle,
    # together with the body of the request.
    failures: list[Exception] = []

    async def respond_in_event_loop() -> HttpResponseBase:
        try:
            async with use_worker_threads():
                # A task of its own keeps changes of context variables from the middleware.
                response = await (
                    while_connected(receive, asyncio.create_task(respond())) if receive else respond()
                )
                # Under WSGI and in Django's test client, the event loop ends here. So read the whole stream.
                if isinstance(response, StreamingHttpResponse) and not isinstance(request, ASGIRequest):
                    response.streaming_content = [part async for part in response]
                return response
        except RequestAborted:
            return _client_closed_request()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            failures.append(RuntimeError("The ChatKit server has awaited a cancelled task"))
        except Exception as exc:
            failures.append(exc)
        return HttpResponse()

    with workers.waiting(share):
        response = async_to_sync(respond_in_event_loop)()
    if failures:
        raise failures.pop()
    _let_request_end_stream(request, response)
    return response


def stream_in_context(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Return the response of a view that has not waited. Its stream runs when our ASGI handler sends it.

    For the stream, the context variables have their current values again, even if middleware resets them. The
    response is closed before the stream runs, so the stream may not need the request.
    """
    request.view_context = copy_context()  # type: ignore[attr-defined]  # the handler reads it
    _let_request_end_stream(request, response)
    return response


def _let_request_end_stream(request: HttpRequest, response: HttpResponseBase) -> None:
    if isinstance(request, ASGIRequest) and hasattr(response, "abandon"):
        cast(Any, request.scope)[END_STREAM] = response.abandon
        end_cancelled_stream(request.scope)
    if hasattr(request, "receive"):
        request.deferred_response = response  # type: ignore[attr-defined]  # for ``abandon_replaced``


def abandon_replaced(request: HttpRequest, response: HttpResponseBase) -> None:
    """Stop the view's stream if middleware has failed, or has returned a response without a stream."""
    # The attribute is removed: the response refers to the request, so it would be a reference cycle.
    deferred: Any = vars(request).pop("deferred_response", None)
    if deferred is not response and not response.streaming and hasattr(deferred, "abandon"):
        deferred.abandon()


def _client_closed_request() -> HttpResponse:
    response = HttpResponse(status=CLIENT_CLOSED_REQUEST, reason="Client Closed Request")
    response._has_been_logged = True  # type: ignore[attr-defined]  # otherwise Django logs a warning
    return response


async def while_connected(receive: Receive, work: Awaitable[R]) -> R:
    """Return the result of ``work``. If the client leaves first, cancel it and raise ``RequestAborted``."""
    try:
        # A timeout that expires when the client leaves can interrupt this task only while it awaits ``work``.
        async with asyncio.timeout(None) as connection:
            leaving = asyncio.create_task(_expire_at_disconnect(connection, receive))
            try:
                result = await work
            finally:
                leaving.cancel()
                del work  # break the cycle task → exception → traceback → task
    except TimeoutError as exc:
        if not isinstance(exc.__cause__, asyncio.CancelledError):
            raise  # it is an exception of ``work``
    if connection.expired():
        raise RequestAborted
    return result


async def _expire_at_disconnect(connection: asyncio.Timeout, receive: Receive) -> None:
    with suppress(Exception):  # a server that cannot say whether the client is there
        while (await receive())["type"] != "http.disconnect":
            pass
    connection.reschedule(asyncio.get_running_loop().time())
