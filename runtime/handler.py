"""An ASGI handler for Django. It runs the sync part of a request in one call in a worker thread.

Django's own handler starts a thread for each request, and switches threads for each middleware hook and each
signal. This handler runs signals, middleware and the view in one call. Async views and streams run in the
event loop.

The handler differs from Django's documentation in two points:

- If a response is not a stream, the signal ``request_finished`` is sent before the response. Django sends the
  signal after the response. The same is true for the streams of ``stream_in_context``. Most answers are such
  streams.
- A sync view continues after its client has left, because a thread cannot be interrupted.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, cast
from urllib.parse import quote

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, ASGIRequest, get_script_prefix
from django.http import FileResponse
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

from runtime.deferred_response import Receive, abandon_replaced, wait_for_response, while_connected
from runtime.worker_threads import Requests, use_worker_threads, workers

# A key in the ASGI scope. Value: when the request was queued (time.monotonic()).
QUEUED_AT = "runtime.queued_at"

logger = logging.getLogger(__name__)


class Request(ASGIRequest):
    receive: Receive  # ``wait_for_response`` reads it
    event_loop: asyncio.AbstractEventLoop  # the one that sends the response

    def __init__(self, scope: Any, body_file: Any) -> None:
        # If the query string has bytes that are not UTF-8, Django answers 400 before any middleware runs.
        # That answer is not JSON. Django accepts the same bytes if they are percent-encoded.
        if not scope["query_string"].isascii():
            scope = scope | {"query_string": quote(scope["query_string"], safe="%&=+").encode()}
        super().__init__(scope, body_file)


class WorkerThreadHandler(ASGIHandler):
    request_class = Request

    def __init__(self) -> None:
        super().__init__()
        # Created once, because ``_in_worker`` is slow.
        self._respond_in_worker = _in_worker(self._respond, Requests())
        self._close_in_worker = _in_worker(_close, workers)

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    def make_view_atomic(self, view: Callable[..., Any]) -> Callable[..., Any]:
        """Return a sync view that waits for the given async view. Django calls this for each view."""
        view = super().make_view_atomic(view)
        if not iscoroutinefunction(view):
            return view
        return lambda request, *args, **kwargs: wait_for_response(
            request, partial(view, request, *args, **kwargs)
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise ValueError(f"Django can only handle ASGI/HTTP connections, not {scope['type']}.")
        await self.handle(scope, receive, send)

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            body_file = await self.read_body(receive)
        except RequestAborted:
            return
        with body_file:
            scope[QUEUED_AT] = time.monotonic()
            loop = asyncio.get_running_loop()
            # Not a variable: it would keep the response in memory as long as its stream runs.
            await self._send(await self._respond_in_worker(scope, body_file, receive, loop), receive, send)

    def _respond(
        self, scope: Any, body_file: Any, receive: Receive, event_loop: asyncio.AbstractEventLoop
    ) -> HttpResponseBase:
        """Run the sync part of the request, and close the response unless it is a stream of the request.

        Closing it here saves a second call in a worker thread.
        """
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        request: Any
        response: Any
        view_context: Any = {}
        request, response = self.create_request(scope, body_file)
        if request is not None:
            request.receive, request.event_loop = receive, event_loop
            response = self.get_response(request)
            abandon_replaced(request, response)
            view_context = vars(request).pop("view_context", {})
        response._handler_class = self.__class__
        if isinstance(response, FileResponse):
            response.block_size = self.chunk_size
        # Middleware may have put the stream into a response of its own, which has to stay open.
        if not response.streaming or (view_context and hasattr(response, "abandon")):
            try:
                response.close()
            except Exception:  # a receiver of ``request_finished`` has failed
                logger.exception("Closing the response failed. The response is sent anyway")
        for variable, value in view_context.items():  # asgiref takes the variables to the event loop
            variable.set(value)
        return cast(HttpResponseBase, response)

    async def _send(self, response: Any, receive: Receive, send: Any) -> None:
        if not response.streaming:
            await self.send_response(response, send)
            return
        abandon = getattr(response, "abandon", None)
        close = None if response.closed else partial(self._close_in_worker, response)
        # Django's ``send_response`` would keep the response and its headers in memory.
        send_stream = self._send_parts if response.is_async else self.send_response
        sending = send_stream(response, send)
        del response
        try:
            async with use_worker_threads():
                with suppress(RequestAborted):
                    await while_connected(receive, sending)
        finally:
            if abandon:
                abandon()  # middleware may have wrapped the events, and may still have the response
            if close:
                # Outside ``while_connected``: some servers report a disconnect even after a complete
                # response, and it would cancel this call.
                await close()

    async def _send_parts(self, response: Any, send: Any) -> None:
        """Send an async stream."""
        async with aclosing(aiter(response)) as parts:
            await send(_start_message(response))
            del response
            async for part in parts:
                for chunk, _ in self.chunk_bytes(part):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})


def _start_message(response: HttpResponseBase) -> dict[str, Any]:
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
    cookies = [cookie.OutputString().encode("ascii") for cookie in response.cookies.values()]
    headers += [(b"Set-Cookie", cookie) for cookie in cookies]
    return {"type": "http.response.start", "status": response.status_code, "headers": headers}


def _close(response: HttpResponseBase) -> None:
    response.close()


def _in_worker(call: Callable[..., Any], executor: Executor) -> Any:
    return sync_to_async(call, thread_sensitive=False, executor=cast(Any, executor))
