"""Sorts the exceptions of a team's ChatKit server into three kinds.

- A caller's mistake: the SDK itself raised the exception, or a store did not find something.
- A refusal: the team raised an exception with an HTTP status.
- A fault: any other exception.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus
from http.client import responses
from types import FrameType
from typing import Any, TypeVar

from chatkit.errors import CustomStreamError
from chatkit.store import AttachmentStore, NotFoundError, Store
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404
from rest_framework.exceptions import APIException

from authn.errors import Refused
from runtime.database_calls import stream_has_begun

logger = logging.getLogger(__name__)

T = TypeVar("T")

# The server's methods that stream. The SDK turns each of their exceptions into an error event without a text.
STREAMING_METHODS = ("respond", "action")
STORE_WRITES = ("add_thread_item", "save_item", "delete_thread_item", "save_thread")


class ServerRefusal(APIException):
    """A team's refusal as an exception of REST framework, with the same status, text and headers."""

    def __init__(self, status_code: int, detail: Any, headers: Mapping[str, Any] | None = None) -> None:
        super().__init__(_text(detail) or responses.get(status_code, "Refused"))
        self.status_code = status_code
        for name, value in (headers or {}).items():
            text = str(value)
            match name.lower():  # REST framework sends only these two headers, from these attributes
                case "retry-after" if text.isascii() and text.isdigit():
                    self.wait = int(text)
                case "www-authenticate" if text.isascii() and text.isprintable():
                    self.auth_header = text


def is_callers_mistake(exc: Exception) -> bool:
    """Whether the SDK itself raised the exception, or a store did not find something.

    A team's own code may raise the same classes. So this looks at the traceback.
    """
    if not isinstance(exc, NotFoundError) and type(exc) not in (ValueError, NotImplementedError):
        return False  # the SDK raises no subclasses, and pydantic's ValidationError is a ValueError
    frames = list(_traceback_frames(exc))
    if any(frame.f_code is _translate_refusals_in_stream.__code__ for frame in frames):
        return False  # the server was answering, so it looked up something of its own
    packages = [frame.f_globals.get("__name__", "").partition(".")[0] for frame in frames]
    if packages[-1:] == ["support"] and not isinstance(exc, ValueError):
        return True  # our own code: a store did not find something, or dictation has no model
    if isinstance(exc, NotFoundError) and _was_raised_by_store(frames, packages):
        return True
    return "chatkit" in packages and set(packages[packages.index("chatkit") :]) == {"chatkit"}


def refusal_of(exc: Exception) -> ServerRefusal | None:
    """The exception as a ``ServerRefusal``; ``None`` if it is not a refusal."""
    match exc:
        case Refused():
            return None  # authn handles its own refusals
        case APIException():
            return _make_refusal(exc.status_code, exc.detail, {"Retry-After": getattr(exc, "wait", "")})
        case Http404():
            return ServerRefusal(HTTPStatus.NOT_FOUND, _text(*exc.args[:1]) or "Not found")
        case PermissionDenied():
            return ServerRefusal(HTTPStatus.FORBIDDEN, _text(*exc.args[:1]))
        case SuspiciousOperation() | BadRequest():
            # Like Django, do not show the text of these exceptions.
            return ServerRefusal(HTTPStatus.BAD_REQUEST, "Bad request")
    # HTTPException of FastAPI and Starlette, and similar classes. A status alone is not enough: errors of
    # httpx and openai also have one, for a call that the team's server made. But they have a response or a
    # request.
    if hasattr(exc, "detail") and not (hasattr(exc, "response") or hasattr(exc, "request")):
        return _make_refusal(getattr(exc, "status_code", None), exc.detail, getattr(exc, "headers", ""))
    return None


def is_expected(exc: Exception) -> bool:
    """Whether the answer shows the caller what is wrong. Then the exception is not logged as a fault."""
    return isinstance(exc, CustomStreamError) or _is_4xx_refusal(exc) or is_callers_mistake(exc)


@contextmanager
def refusals_as_api_exceptions() -> Iterator[None]:
    """Wrap calls of a team's code. Raises its refusals as ``ServerRefusal``, for REST framework."""
    try:
        yield
    except Exception as exc:
        if not (status := _status_of(exc)):
            raise
        if status >= 500:
            logger.exception("The ChatKit server answers with %d", status)
        # Without a local variable: the exception's traceback would refer to the variable, which is a cycle.
        raise refusal_of(exc) from exc  # type: ignore[misc]


def send_refusals_as_events(server: Any) -> None:
    """Make the SDK send the text of a refusal to the client, in an ``error`` event of the stream.

    Wraps methods of the server and of its store. A refusal leaves them as ``CustomStreamError``.
    """
    for name in STREAMING_METHODS:
        setattr(server, name, partial(_translate_refusals_in_stream, getattr(server, name)))
    if not type(server.store).__module__.startswith("support."):  # our own store raises no refusals
        for name in STORE_WRITES:
            with suppress(AttributeError):  # a class with __slots__ may not allow new attributes
                setattr(server.store, name, partial(_translate_refusal_of_write, getattr(server.store, name)))


def custom_stream_error(exc: Exception) -> CustomStreamError | None:
    """The error to send to the client for an exception in a stream.

    ``None`` if the client must not see the reason: the exception is a fault, or a refusal with a 5xx.
    """
    if isinstance(exc, CustomStreamError):
        return exc
    refusal = refusal_of(exc)
    if refusal is None or refusal.status_code >= 500:
        return None
    logger.info("The ChatKit server refuses in a stream: %d, %s", refusal.status_code, type(exc).__name__)
    return CustomStreamError(str(refusal.detail), allow_retry=False)


async def _translate_refusals_in_stream(
    method: Callable[..., AsyncIterator[T]], *args: Any, **kwargs: Any
) -> AsyncIterator[T]:
    try:
        async for event in method(*args, **kwargs):
            yield event
    except Exception as exc:
        if not _is_4xx_refusal(exc):
            raise
        raise custom_stream_error(exc) from exc  # type: ignore[misc]


async def _translate_refusal_of_write(
    method: Callable[..., Awaitable[None]], *args: Any, **kwargs: Any
) -> None:
    try:
        await method(*args, **kwargs)
    except Exception as exc:
        if not stream_has_begun.get() or not _is_4xx_refusal(exc):
            raise
        raise custom_stream_error(exc) from exc  # type: ignore[misc]


def _is_4xx_refusal(exc: Exception) -> bool:
    """Whether the exception is a refusal with a 4xx. The caller must not see the text of a 5xx."""
    return 400 <= _status_of(exc) < 500


def _status_of(exc: Exception) -> int:
    refusal = refusal_of(exc)
    return refusal.status_code if refusal else 0


def _make_refusal(status_code: object, detail: object, headers: object) -> ServerRefusal | None:
    if type(status_code) is not int or not 400 <= status_code < 600:
        return None
    return ServerRefusal(status_code, detail, headers if isinstance(headers, Mapping) else None)


def _text(detail: object = "") -> str:
    """The text of FastAPI's ``detail``. It may be any JSON. If it is an object, its ``message`` is used."""
    if isinstance(detail, Mapping):
        detail = detail.get("message")
    return str(detail) if isinstance(detail, str) else ""


def _was_raised_by_store(frames: list[FrameType], packages: list[str]) -> bool:
    """Whether a store raised the exception, and the SDK or our view had called that store directly."""
    from chatkit.server import ChatKitServer

    for frame, package in zip(frames, packages, strict=True):
        if package in ("chatkit", "support") or frame.f_code.co_name == "process":
            continue  # a team's ``process`` may call the SDK's
        first_argument = next(iter(frame.f_code.co_varnames[: frame.f_code.co_argcount]), "")
        called_object = frame.f_locals.get(first_argument)  # the method's ``self``
        if isinstance(called_object, Store | AttachmentStore):
            return True
        if isinstance(called_object, ChatKitServer):
            return False
    return False


def _traceback_frames(exc: BaseException) -> Iterator[FrameType]:
    traceback = exc.__traceback__
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next
