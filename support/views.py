"""``POST /support/chatkit``: passes a request to the ChatKit server and returns its response."""

from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, cast

from chatkit.store import NotFoundError
from chatkit.types import (
    ChatKitReq,
    InputTranscribeReq,
    ThreadsAddUserMessageReq,
    ThreadsCreateReq,
    is_streaming_req,
)
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from pydantic import ValidationError
from rest_framework import status
from rest_framework.exceptions import APIException, NotFound, ParseError
from rest_framework.request import Request

from authn.authentication import BetterAuthAuthentication
from authn.errors import BodyTooLarge, Unavailable
from authn.sessions import Identity
from runtime.database_calls import run_inline
from runtime.deferred_response import stream_in_context, wait_for_response
from runtime.handler import Request as WorkerRequest
from runtime.worker_threads import TooManyWaiting
from support.api_view import NO_STORE, MeasuredView, NotSupported
from support.assistant import dictation, model_choice
from support.chat import protocol, server_errors, slots, streaming, unstored_messages
from support.chat.configured_server import (
    chatkit_server,
    context_builder,
    overrides_process,
    uses_only_our_store,
)
from support.conf import conf
from support.files import signed_urls, validation
from support.storage import feedback
from support.storage.store import Store
from support.throttling import PerUserThrottle

# For these operations, the ChatKit SDK only calls the store. It calls no method that a team writes.
STORE_OPERATIONS = {"threads.list", "threads.get_by_id", "threads.update", "threads.delete", "items.list"}

Operation = ChatKitReq | protocol.OtherOperation
Start = Callable[[AsyncIterable[bytes], str], Awaitable[streaming.EventStream]]


class TooManyStreams(APIException):
    """Status 429. ``wait``: seconds for the header ``Retry-After``, about as long as an answer takes."""

    status_code = status.HTTP_429_TOO_MANY_REQUESTS
    default_detail = "Too many answers at once. Wait for one of them to end"
    wait = 10


class ChatKitView(MeasuredView):
    """ChatKit's only endpoint. It answers with JSON or with a stream of server-sent events."""

    http_method_names = ["post"]
    authentication_classes = [BetterAuthAuthentication]
    throttle_classes = [PerUserThrottle]

    # With ATOMIC_REQUESTS, a waiting view would be in a transaction. Its locks could block the queries of the
    # ChatKit server, which run on other connections.
    @transaction.non_atomic_requests
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return super().dispatch(request, *args, **kwargs)

    def post(self, request: Request) -> HttpResponseBase:
        server = chatkit_server()
        body, operation = _read(request, allow_unknown_types=overrides_process(server))
        self.operation = operation.type
        if is_streaming_req(operation) and not _can_stream(request._request):  # type: ignore[arg-type]
            raise NotSupported("The assistant needs an ASGI server")
        if operation.type.startswith("attachments.") and server.attachment_store is None:
            raise NotSupported
        with _api_exceptions(), signed_urls.use_host_of(request._request):
            context = context_builder()(request)
            # Run in this thread, because this is a third faster than in the event loop.
            if operation.type in STORE_OPERATIONS and uses_only_our_store(server):
                return _json(run_inline(server.process(body, context)).json)
            user_id = cast(Identity, request.auth).user_id
            if is_streaming_req(operation):  # type: ignore[arg-type]
                signed_urls.keep_only_host()
            respond = partial(_respond, server, operation, body, context, user_id)
            if _begins_in_thread(server, operation, request._request):
                event_loop = cast(WorkerRequest, request._request).event_loop
                begin = partial(streaming.begin_in_thread, event_loop=event_loop)
                return stream_in_context(request._request, run_inline(respond(begin)))
            return wait_for_response(request._request, partial(respond, streaming.start))


@contextmanager
def _api_exceptions() -> Iterator[None]:
    """Turn refusals and callers' mistakes into REST framework's exceptions.

    Other exceptions are faults of the server. They pass through, and the client gets a 500.
    """
    try:
        with server_errors.refusals_as_api_exceptions():
            yield
    except slots.StreamLimitReached as exc:
        raise TooManyStreams from exc
    except (
        dictation.AudioRefused,
        feedback.FeedbackRefused,
        validation.FileRefused,
        model_choice.ModelChoiceRefused,
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


def _can_stream(request: HttpRequest) -> bool:
    """Whether the server can send a stream while it runs. A WSGI server would send it when it has ended.

    Django's test client is like WSGI, but collects the whole stream. Only its requests have this attribute.
    """
    return isinstance(request, ASGIRequest) or hasattr(request, "_dont_enforce_csrf_checks")


def _json(content: bytes) -> HttpResponse:
    return HttpResponse(content, content_type="application/json", headers=NO_STORE)


def _read(request: Request, allow_unknown_types: bool) -> tuple[bytes, Operation]:
    """Return the body and its operation. Raises ``BodyTooLarge``.

    Only a dictation may be longer than DATA_UPLOAD_MAX_MEMORY_SIZE.
    """
    usual, longest = settings.DATA_UPLOAD_MAX_MEMORY_SIZE, longest_body()
    announced = int(request.META.get("CONTENT_LENGTH") or 0)
    _check_length(announced, longest)
    # ``request.body`` raises if the body is longer than the usual limit, and ``read`` does not.
    body: bytes = request.read() if announced > usual else request.body
    operation = protocol.parse(body, allow_unknown_types)
    if operation.type != "input.transcribe":
        _check_length(len(body), usual)
    return body, operation


def longest_body() -> int:
    """Return the maximum length of a request body for ``ChatKitView``, in bytes."""
    usual: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    return max(usual, dictation.MAX_BODY_BYTES) if conf.SUPPORT_TRANSCRIPTION_MODEL else usual


def _check_length(length: int, limit: int) -> None:
    if length > limit:
        raise BodyTooLarge.over(limit)


def _begins_in_thread(server: Any, operation: Operation, request: HttpRequest) -> bool:
    """Whether ``streaming.begin_in_thread`` may begin the stream of this operation.

    Before the first event of a message without attachments, the ChatKit SDK only calls the store. The
    attachments take more queries, and a client that leaves must be able to stop between them.
    """
    return (
        isinstance(operation, ThreadsCreateReq | ThreadsAddUserMessageReq)
        and not operation.params.input.attachments
        and isinstance(request, WorkerRequest)
        and uses_only_our_store(server)
    )


async def _respond(
    server: Any, operation: Operation, body: bytes, context: Any, user_id: str, start: Start
) -> HttpResponseBase:
    """Return the response of the ChatKit server. ``start``: begins a stream, and returns it.

    A stream is returned after its first event. If it fails before that, the exception is raised here, so the
    response has the status of the error.
    """
    if isinstance(operation, ThreadsCreateReq | ThreadsAddUserMessageReq):
        # Only our default server has this method.
        if check_model_choice := getattr(server, "check_model_choice", None):
            check_model_choice(operation.params.input.inference_options)
        await _require_attachments(server.store, operation, context)
    # While a recording is transcribed, memory holds several copies of it. So the limits on streams count a
    # dictation as a stream.
    is_dictation = isinstance(operation, InputTranscribeReq)
    with slots.held(user_id) if is_dictation else nullcontext():
        result = await _process(server, operation, body, context)
    # ``json`` marks a NonStreamingResult. An import of this class would import the agent libraries.
    if hasattr(result, "json"):
        return _json(bytes(result.json))
    events = unstored_messages.events_of(result, operation, server)
    return (await start(events, user_id)).response()


async def _process(server: Any, operation: Operation, body: bytes, context: Any) -> Any:
    try:
        return await server.process(body, context)
    except ValidationError as exc:
        # A team's ``process`` may pass an unknown operation to the ChatKit SDK's, and it raises this error.
        if not (isinstance(operation, protocol.OtherOperation) and protocol.is_unknown_type(exc)):
            raise
        # ``from None``, because the text of the error quotes the body.
        raise ParseError("The request has an unknown type") from None


async def _require_attachments(
    store: Any, operation: ThreadsCreateReq | ThreadsAddUserMessageReq, context: Any
) -> None:
    """Raise if an attachment of the message does not exist or cannot be sent.

    The ChatKit SDK would check attachments only after it has created the thread and sent its first event.
    """
    attachment_ids = operation.params.input.attachments
    if attachment_ids and isinstance(store, Store):
        await store.require_sendable(attachment_ids, context)
    elif isinstance(operation, ThreadsCreateReq):
        for attachment_id in attachment_ids:
            await store.load_attachment(attachment_id, context)


@csrf_exempt  # otherwise a POST gets 403 from the CSRF check, and not 405
@require_safe
def health(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": "healthy"}, headers=NO_STORE)
