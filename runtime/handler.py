"""Django's ASGI handler, with the sync part of a request as one call in a worker thread.

Django's own handler makes a thread for each request, and changes threads for each hook of a middleware and
for each signal. Here signals, middleware and the view are one call. Async code (``wait_for_response``, an
async view, a stream) runs in the event loop.

Two things differ from what Django documents:

- ``request_finished`` is sent before a body that is no stream is sent, not after it.
- A sync view goes on when its client leaves. It could not be interrupted anyway.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
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

from runtime.deferred_response import Receive, wait_for_response, while_connected
from runtime.worker_threads import use_worker_threads, workers

QUEUED_AT = "runtime.queued_at"  # in a request's scope: since when it waits for a thread (time.monotonic())

logger = logging.getLogger(__name__)


class Request(ASGIRequest):
    receive: Receive  # for ``wait_for_response``

    def __init__(self, scope: Any, body_file: Any) -> None:
        # Django answers 400 to bytes that are no UTF-8 before any middleware runs, and so not in JSON. It
        # accepts their percent-encoding.
        if not scope["query_string"].isascii():
            scope = scope | {"query_string": quote(scope["query_string"], safe="%&=+").encode()}
        super().__init__(scope, body_file)


class OneHopHandler(ASGIHandler):
    request_class = Request

    def __init__(self) -> None:
        super().__init__()
        self._respond_in_worker = _in_worker(self._respond)  # once: asgiref inspects what it wraps

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    def make_view_atomic(self, view: Callable[..., Any]) -> Callable[..., Any]:
        """Django calls it for each view. Here an async view becomes a sync one that waits."""
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
            response = await self._respond_in_worker(scope, body_file, receive)
            if response.closed:
                await self.send_response(response, send)
            else:
                await self._stream(response, receive, send)

    def _respond(self, scope: Any, body_file: Any, receive: Receive) -> HttpResponseBase:
        """The sync part. It closes a complete response, so that this needs no second call in a thread."""
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        request: Any
        response: Any
        request, response = self.create_request(scope, body_file)
        if request is not None:
            request.receive = receive
            response = self.get_response(request)
        response._handler_class = self.__class__
        if isinstance(response, FileResponse):
            response.block_size = self.chunk_size
        if not response.streaming:
            try:
                response.close()
            except Exception:  # a receiver of request_finished failed, before the response is sent
                logger.exception("A request's end failed, and its answer is sent")
        return cast(HttpResponseBase, response)

    async def _stream(self, response: HttpResponseBase, receive: Any, send: Any) -> None:
        try:
            async with use_worker_threads():
                with suppress(RequestAborted):
                    await while_connected(receive, self.send_response(response, send))
        finally:  # outside the work that is cancelled: servers report a disconnect after completion as well
            await _in_worker(response.close)()


def _in_worker(call: Callable[..., Any]) -> Any:
    return sync_to_async(call, thread_sensitive=False, executor=cast(Any, workers))
