"""Sorts the exceptions of a team's ChatKit server into three kinds.

- A caller's mistake: the SDK itself raised it, or a store did not find something.
- A refusal: the team raised an exception that has a status.
- A fault: all others.
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
from runtime import worker_threads

logger = logging.getLogger(__name__)

T = TypeVar("T")

# The SDK turns every exception of these into an error event without a text.
STREAMING = ("respond", "action")
WRITES = ("add_thread_item", "save_item", "delete_thread_item", "save_thread")


class ServerRefusal(APIException):
    """A team's exception that has a status, in the form that REST framework answers."""

    def __init__(self, status_code: int, detail: Any, headers: Mapping[str, Any] | None = None) -> None:
        super().__init__(_text(detail) or responses.get(status_code, "Refused"))
        self.status_code = status_code
        for name, value in (headers or {}).items():
            text = str(value)
            match name.lower():  # REST framework sends only these two, from attributes
                case "retry-after" if text.isascii() and text.isdigit():
                    self.wait = int(text)
                case "www-authenticate" if text.isascii() and text.isprintable():
                    self.auth_header = text


def is_callers_mistake(exc: Exception) -> bool:
    """Whether the SDK itself raised it, or a store because it did not find something.

    A team's own code may raise the same classes. So the traceback decides.
    """
    if not isinstance(exc, NotFoundError) and type(exc) not in (ValueError, NotImplementedError):
        return False  # the SDK raises no subclass; pydantic's ValidationError is a ValueError
    frames = list(_frames(exc))
    if any(frame.f_code is _events.__code__ for frame in frames):
        return False  # the server was answering: what it looks up then is not the caller's request
    packages = [frame.f_globals.get("__name__", "").partition(".")[0] for frame in frames]
    if packages[-1:] == ["support"] and not isinstance(exc, ValueError):
        return True  # ours: a store that finds nothing, or dictation without a model
    if isinstance(exc, NotFoundError) and _is_of_a_store(frames, packages):
        return True
    return "chatkit" in packages and set(packages[packages.index("chatkit") :]) == {"chatkit"}


def refusal_of(exc: Exception) -> ServerRefusal | None:
    """The status, the text and the headers of an exception that has them; ``None`` for any other."""
    match exc:
        case Refused():
            return None  # authn answers these
        case APIException():
            return _refusal(exc.status_code, exc.detail, {"Retry-After": getattr(exc, "wait", "")})
        case Http404():
            return ServerRefusal(HTTPStatus.NOT_FOUND, _text(*exc.args[:1]) or "Not found")
        case PermissionDenied():
            return ServerRefusal(HTTPStatus.FORBIDDEN, _text(*exc.args[:1]))
        case SuspiciousOperation() | BadRequest():
            return ServerRefusal(HTTPStatus.BAD_REQUEST, "Bad request")  # Django never shows its text
    # FastAPI's and Starlette's HTTPException, and exceptions like it. A status alone is not enough. Errors of
    # httpx and openai have one too, for a call that the team's server made: they also have a response or
    # request.
    if hasattr(exc, "detail") and not (hasattr(exc, "response") or hasattr(exc, "request")):
        return _refusal(getattr(exc, "status_code", None), exc.detail, getattr(exc, "headers", ""))
    return None


def is_shown_to_caller(exc: Exception) -> bool:
    """Whether the caller is told what is wrong. Then it is no fault, and is not logged as one."""
    return isinstance(exc, CustomStreamError) or _is_4xx_refusal(exc) or is_callers_mistake(exc)


@contextmanager
def refusals_as_api_exceptions() -> Iterator[None]:
    """Wrap calls of a team's code. Its refusals leave as ``ServerRefusal``, which REST framework answers."""
    try:
        yield
    except Exception as exc:
        if not (status := _status_of(exc)):
            raise
        if status >= 500:
            logger.exception("The ChatKit server answers with %d", status)
        raise refusal_of(exc) from exc  # type: ignore[misc]  # no local name: a traceback would keep it


def send_refusals_as_events(server: Any) -> None:
    """Make the SDK send the text of a refusal to the client, in an ``error`` event of the stream."""
    for name in STREAMING:
        setattr(server, name, partial(_events, getattr(server, name)))
    if not type(server.store).__module__.startswith("support."):  # our store raises no refusals
        for name in WRITES:
            with suppress(AttributeError):  # a class may forbid new attributes, with __slots__
                setattr(server.store, name, partial(_write, getattr(server.store, name)))


def custom_stream_error(exc: Exception) -> CustomStreamError | None:
    """What a client is told of an exception in a stream; ``None`` if there is nothing for the client."""
    if isinstance(exc, CustomStreamError):
        return exc
    refusal = refusal_of(exc)
    if refusal is None or refusal.status_code >= 500:
        return None
    logger.info("The ChatKit server refuses in a stream: %d, %s", refusal.status_code, type(exc).__name__)
    return CustomStreamError(str(refusal.detail), allow_retry=False)


async def _events(events_of: Callable[..., AsyncIterator[T]], *args: Any, **kwargs: Any) -> AsyncIterator[T]:
    try:
        async for event in events_of(*args, **kwargs):
            yield event
    except Exception as exc:
        if not _is_4xx_refusal(exc):
            raise
        raise custom_stream_error(exc) from exc  # type: ignore[misc]


async def _write(write: Callable[..., Awaitable[None]], *args: Any, **kwargs: Any) -> None:
    try:
        await write(*args, **kwargs)
    except Exception as exc:
        if not worker_threads.has_begun.get() or not _is_4xx_refusal(exc):
            raise
        raise custom_stream_error(exc) from exc  # type: ignore[misc]


def _is_4xx_refusal(exc: Exception) -> bool:
    """Whether it is a team's refusal with a 4xx. The text of a 5xx is not for the caller."""
    return 400 <= _status_of(exc) < 500


def _status_of(exc: Exception) -> int:
    refusal = refusal_of(exc)
    return refusal.status_code if refusal else 0


def _refusal(status_code: object, detail: object, headers: object) -> ServerRefusal | None:
    if type(status_code) is not int or not 400 <= status_code < 600:
        return None
    return ServerRefusal(status_code, detail, headers if isinstance(headers, Mapping) else None)


def _text(detail: object = "") -> str:
    """FastAPI's detail may be any JSON. If it is an object, use its ``message``."""
    if isinstance(detail, Mapping):
        detail = detail.get("message")
    return str(detail) if isinstance(detail, str) else ""


def _is_of_a_store(frames: list[FrameType], packages: list[str]) -> bool:
    """Whether the SDK or our view called the store that raised it, with no code of the team in between."""
    from chatkit.server import ChatKitServer

    for frame, package in zip(frames, packages, strict=True):
        if package in ("chatkit", "support") or frame.f_code.co_name == "process":
            continue  # a team may override ``process`` and call the SDK's
        first_argument = next(iter(frame.f_code.co_varnames[: frame.f_code.co_argcount]), "")
        called = frame.f_locals.get(first_argument)
        if isinstance(called, Store | AttachmentStore):
            return True
        if isinstance(called, ChatKitServer):
            return False
    return False


def _frames(exc: BaseException) -> Iterator[FrameType]:
    traceback = exc.__traceback__
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next
