"""Django's ASGI handler, with the sync part of a request as one piece of work for one of a few threads.

Django's own makes a thread for each request, and changes threads for each hook of a middleware and for
each signal. Here signals, middleware and a sync view are one hop, to ``runtime.worker_threads.workers``;
what is async (a stream, ``runtime.deferred_response``, an async view) is the event loop's. Two things
differ from what Django documents: ``request_finished`` is sent before a body that is no stream leaves, not
after; and a sync view is not told of a client that leaves while it runs, which could not stop it anyway.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, ASGIRequest, get_script_prefix
from django.core.handlers.exception import response_for_exception
from django.db import connections
from django.http import FileResponse
from django.http.response import HttpResponseBase
from django.urls import Resolver404, URLResolver, get_resolver, resolve, set_script_prefix
from django.utils.log import log_response

from authn.responses import as_json
from chatbackend.web.service_unavailable import QUEUED_AT
from runtime.deferred_response import Later
from runtime.worker_threads import use_worker_threads, workers

logger = logging.getLogger(__name__)


class Request(ASGIRequest):
    answers_later = True

    def __init__(self, scope: Any, body_file: Any) -> None:
        # Django refuses bytes that are no UTF-8 before any middleware, and so not in JSON; %80 it takes.
        if not scope["query_string"].isascii():
            scope = scope | {"query_string": quote(scope["query_string"], safe="%&=+").encode()}
        super().__init__(scope, body_file)


class OneHopHandler(ASGIHandler):
    request_class = Request

    def __init__(self) -> None:
        super().__init__()
        # None of ours is async. Where a team has added one, it is Django's own handler that runs it, in a
        # thread for each request, which would take its connections along.
        self._of_async_views = ASGIHandler() if _has_async_views(get_resolver()) else None
        signals.request_finished.connect(_close_connections, sender=ASGIHandler)
        self._respond_in_a_worker = _hop(self._respond)  # once, as asgiref looks at what it wraps

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._of_async_views and _is_for_an_async_view(scope):
            await self._of_async_views(scope, receive, send)
        elif scope["type"] != "http":
            raise ValueError(f"Django can only handle ASGI/HTTP connections, not {scope['type']}.")
        else:
            await self.handle(scope, receive, send)

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            body_file = await self.read_body(receive)
        except RequestAborted:
            return
        with body_file:
            scope[QUEUED_AT] = time.monotonic()
            request, response = await self._respond_in_a_worker(scope, body_file)
            if response.closed:
                await self.send_response(response, send)
            else:
                await self._stream(request, response, receive, send)

    def _respond(self, scope: Any, body_file: Any) -> tuple[Any, HttpResponseBase]:
        """The sync part. A response that is complete is closed here, which saves the hop to do it later."""
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        request, error = self.create_request(scope, body_file)
        response: Any = error if request is None else self.get_response(request)
        response._handler_class = self.__class__
        if isinstance(response, FileResponse):
            response.block_size = self.chunk_size
        if not response.streaming:
            try:
                response.close()
            except Exception:  # of a receiver of request_finished, who is sent it before the answer
                logger.exception("A request's end failed, and its answer is sent")
        return request, response

    async def _stream(self, request: Any, response: HttpResponseBase, receive: Any, send: Any) -> None:
        try:
            await self._while_connected(receive, self._finish(request, response, send))
        finally:  # and no part of the work: a server says that the client has left when all is sent, too
            await _hop(response.close)()

    async def _finish(self, request: Any, response: HttpResponseBase, send: Any) -> None:
        async with use_worker_threads():
            if isinstance(response, Later):
                response = await self._answer(request, response)
            await self.send_response(response, send)

    async def _answer(self, request: Any, later: Later) -> Any:
        """As ``get_response`` answers: any exception is a response, and what is an error is logged."""
        try:
            response: Any = await later.answer()
        except Exception as exc:
            response = await _hop(self._response_for)(request, exc)
            response = as_json(request, later.dressed(response))
        if response.status_code >= 400:
            reason, path = response.reason_phrase, request.path
            log_response("%s: %s", reason, path, response=response, request=request)
        return response

    def _response_for(self, request: Any, exc: Exception) -> Any:
        try:
            if response := self.process_exception_by_middleware(exc, request):
                return response
        except Exception as another:
            exc = another
        return response_for_exception(request, exc)

    async def _while_connected(self, receive: Any, work: Coroutine[Any, Any, None]) -> None:
        """Until the client leaves: then the work is cancelled where it awaits something, and waited for."""
        working, leaving = asyncio.create_task(work), asyncio.create_task(self.listen_for_disconnect(receive))
        try:
            await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            working.cancel()
            leaving.cancel()
            await asyncio.wait([working, leaving])
        for task in (working, leaving):
            with suppress(asyncio.CancelledError, RequestAborted):
                task.result()


def _close_connections(**kwargs: Any) -> None:
    connections.close_all()


def _hop(call: Callable[..., Any]) -> Any:
    return sync_to_async(call, thread_sensitive=False, executor=workers)


def _has_async_views(resolver: URLResolver) -> bool:
    return any(
        _has_async_views(each) if isinstance(each, URLResolver) else iscoroutinefunction(each.callback)
        for each in resolver.url_patterns
    )


def _is_for_an_async_view(scope: Any) -> bool:
    prefix = get_script_prefix(scope).rstrip("/")
    try:
        return iscoroutinefunction(resolve(scope["path"].removeprefix(prefix)).func)
    except Resolver404:
        return False
