"""HTTP on one side, ChatKit's server on the other."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from typing import Any, cast

from chatkit.store import NotFoundError
from chatkit.types import ChatKitReq, InputTranscribeReq, ThreadsAddUserMessageReq, ThreadsCreateReq
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from pydantic import ValidationError
from rest_framework import status
from rest_framework.exceptions import APIException, NotFound, ParseError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from authn.authentication import BetterAuthAuthentication
from authn.errors import BodyTooLarge, Unavailable
from authn.sessions import Identity
from runtime.database_calls import run_inline
from runtime.deferred_response import wait_for_response
from runtime.worker_threads import TooManyWaiting
from support.assistant import dictation, model_choice
from support.chat import protocol, server_errors, streaming, unstored_messages
from support.conf import conf
from support.files import signed_urls, validation
from support.storage import feedback
from support.storage.store import Store
from support.throttling import PerUserThrottle

NO_STORE = {"Cache-Control": "no-store"}

# The SDK answers these operations with calls of the store, and calls no method that a team writes.
STORE_OPERATIONS = {"threads.list", "threads.get_by_id", "threads.update", "threads.delete", "items.list"}

Operation = ChatKitReq | protocol.OtherOperation

answered = Signal()  # operation, status, seconds: of a request to a MeasuredView; for whoever counts them


class NotSupported(APIException):
    status_code = status.HTTP_501_NOT_IMPLEMENTED
    default_detail = "This server does not support that operation"


class TooManyStreams(APIException):
    """``wait``: seconds, which REST framework says in ``Retry-After``: an answer takes about as long."""

    status_code = status.HTTP_429_TOO_MANY_REQUESTS
    default_detail = "Too many answers at once. Wait for one of them to end"
    wait = 10


class AnyAccept(BaseContentNegotiation):
    """ChatKit's client accepts text/event-stream alone, to which DRF would answer 406."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class MeasuredView(APIView):
    """Sends the signal ``answered`` for each request. ``operation``: set as soon as it is known.

    REST framework's requests and responses refer to themselves, and its views to both. Only Python's garbage
    collector would delete them, with the body of the request, and it seldom runs (chatbackend/asgi.py). So
    these references are removed here.
    """

    operation = "unknown"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        begun_at = time.perf_counter()
        status_code = 500  # Django's answer to an exception
        try:
            response: HttpResponseBase = super().dispatch(request, *args, **kwargs)
            status_code = response.status_code
        finally:
            seconds = time.perf_counter() - begun_at
            answered.send(None, operation=self.operation, status=status_code, seconds=seconds)
        self.request.parser_context.clear()
        del self.response
        return response

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Response:
        finalized = super().finalize_response(request, response, *args, **kwargs)
        if isinstance(finalized, Response):
            finalized.add_post_render_callback(lambda rendered: rendered.renderer_context.clear())
        return finalized


class ChatKitView(MeasuredView):
    """``POST /support/chatkit``: ChatKit's one endpoint. JSON, or a stream of server-sent events."""

    http_method_names = ["post"]
    authentication_classes = [BetterAuthAuthentication]
    throttle_classes = [PerUserThrottle]
    content_negotiation_class = AnyAccept

    def post(self, request: Request) -> HttpResponseBase:
        server = chatkit_server()
        body, operation = _read(request, allow_unknown_types=_has_own_process(server))
        self.operation = operation.type
        if operation.type.startswith("attachments.") and server.attachment_store is None:
            raise NotSupported
        with _api_exceptions():
            context = context_builder()(request)
        with _api_exceptions(), signed_urls.use_host_of(request._request):
            # In this thread: a third faster than through the event loop.
            if operation.type in STORE_OPERATIONS and _awaits_our_store_only(server):
                return _json(run_inline(server.process(body, context)).json)
            user_id = cast(Identity, request.auth).user_id
            respond = partial(_respond, server, operation, body, context, user_id)
            return wait_for_response(request._request, respond)


@contextmanager
def _api_exceptions() -> Iterator[None]:
    """Raise REST framework's exception for each mistake and refusal. Other exceptions are faults: a 500."""
    try:
        with server_errors.refusals_as_api_exceptions():
            yield
    except streaming.StreamLimitReached as exc:
        raise TooManyStreams from exc
    except (
        dictation.AudioRefused,
        feedback.FeedbackRefused,
        validation.FileRefused,
        model_choice.PickRefused,
    ) as exc:
        raise ParseError(str(exc)) from exc
    except (dictation.TranscriptionFailed, TooManyWaiting) as exc:
        raise Unavailable from exc
    except (NotFoundError, ValueError, NotImplementedError) as exc:
        if not server_errors.is_callers_mistake(exc):
            raise
        if isinstance(exc, NotFoundError):
            raise NotFound("Not found") from exc
        if isinstance(exc, ValueError):
            raise ParseError("The operation does not fit the state of its thread") from exc
        raise NotSupported from exc


def _json(content: bytes) -> HttpResponse:
    return HttpResponse(content, content_type="application/json", headers=NO_STORE)


def _awaits_our_store_only(server: Any) -> bool:
    """Whether the SDK's own ``process`` answers ``STORE_OPERATIONS``, and from our store."""
    return type(server.store) is Store and not _has_own_process(server)


@cache
def _has_own_process(server: Any) -> bool:
    """Whether a team has overridden ``process``. It may then know more operations than the SDK."""
    from chatkit.server import ChatKitServer

    return getattr(server.process, "__func__", None) is not ChatKitServer.process


def _read(request: Request, allow_unknown_types: bool) -> tuple[bytes, Operation]:
    """The body, and the operation in it. Only a dictation may be longer than DATA_UPLOAD_MAX_MEMORY_SIZE."""
    usual, longest = settings.DATA_UPLOAD_MAX_MEMORY_SIZE, longest_body()
    announced = int(request.META.get("CONTENT_LENGTH") or 0)
    _check_length(announced, longest)
    body: bytes = request.read() if announced > usual else request.body  # which itself checks for the usual
    operation = protocol.parse(body, allow_unknown_types)
    if operation.type != "input.transcribe":  # known only now
        _check_length(len(body), usual)
    return body, operation


def longest_body() -> int:
    """In bytes, of any request to ``ChatKitView``."""
    usual: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    return max(usual, dictation.MAX_BODY_BYTES) if conf.SUPPORT_TRANSCRIPTION_MODEL else usual


def _check_length(length: int, limit: int) -> None:
    if length > limit:
        raise BodyTooLarge(f"The request body exceeds {limit} bytes")


async def _respond(
    server: Any, operation: Operation, body: bytes, context: Any, user_id: str
) -> HttpResponseBase:
    """A stream's response is returned when its first event is there. Until then its error has a status."""
    if isinstance(operation, ThreadsCreateReq | ThreadsAddUserMessageReq):
        if check_picks := getattr(server, "check_picks", None):  # the default server has it
            check_picks(operation.params.input.inference_options)
        await _require_attachments(server.store, operation, context)
    # A recording is in memory several times for as long as the model listens to it.
    is_long = isinstance(operation, InputTranscribeReq)
    with streaming.slot(user_id) if is_long else nullcontext():
        result = await _process(server, operation, body, context)
    if hasattr(result, "json"):  # a NonStreamingResult; to name its class is to import the agent stack
        return _json(bytes(result.json))
    if isinstance(operation, ThreadsCreateReq | ThreadsAddUserMessageReq) and isinstance(server.store, Store):
        result = unstored_messages.undo_unless_stored(result, operation)
    return (await streaming.start(result, user_id)).response()


async def _process(server: Any, operation: Operation, body: bytes, context: Any) -> Any:
    try:
        return await server.process(body, context)
    except ValidationError as exc:  # a team's ``process`` may pass an unknown operation to the SDK's
        if not (isinstance(operation, protocol.OtherOperation) and protocol.is_unknown_type(exc)):
            raise
        raise ParseError("The request has an unknown type") from None  # the error's text quotes the body


async def _require_attachments(
    store: Any, operation: ThreadsCreateReq | ThreadsAddUserMessageReq, context: Any
) -> None:
    """The SDK looks for them only after it has made the thread and said so."""
    attachment_ids = operation.params.input.attachments
    if attachment_ids and isinstance(store, Store):
        await store.require_sendable(attachment_ids, context)
    elif isinstance(operation, ThreadsCreateReq):
        for attachment_id in attachment_ids:
            await store.load_attachment(attachment_id, context)


def chatkit_server() -> Any:
    """The ``ChatKitServer`` of CHATKIT_SERVER, one for the whole process."""
    return _server(conf.CHATKIT_SERVER)


def context_builder() -> Callable[[Request], Any]:
    builder: Callable[[Request], Any] = import_string(conf.CHATKIT_CONTEXT)
    return builder


@cache
def _server(path: str) -> Any:
    from chatkit.server import ChatKitServer

    protocol.cache_request_parser()
    named = import_string(path)
    server = named if isinstance(named, ChatKitServer) else named()
    if not isinstance(server, ChatKitServer):
        raise ImproperlyConfigured(f"CHATKIT_SERVER={path} gives no ChatKitServer.")
    server_errors.send_refusals_as_events(server)
    return server


@csrf_exempt  # it would call itself forbidden, where it is not allowed
@require_safe
def health(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": "healthy"}, headers=NO_STORE)
