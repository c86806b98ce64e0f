"""Sorts the exceptions of the ChatKit server that CHATKIT_SERVER names.

"The team" are the developers who write that server, its stores and its context. Each exception is one of
these:

- A caller's mistake: the ChatKit SDK itself raised the exception, or a store did not find something.
- A refusal: the team's code raised an exception with an HTTP status.
- A ``CustomStreamError``: the ChatKit SDK's exception with a text for the user. Only streams can send it.
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

# The server's methods that yield events. If they raise an exception, the ChatKit SDK sends an error event
# without a text. Only ``CustomStreamError`` gets an event with its text.
STREAMING_METHODS = ("respond", "action")
# The store's methods that the ChatKit SDK calls while it streams.
STORE_WRITES = ("add_thread_item", "save_item", "delete_thread_item", "save_thread")


class ServerRefusal(APIException):
    """A refusal as an exception of REST framework, with the status, the text and two headers of the refusal.

    ``detail``: see ``_text``. ``headers``: only Retry-After in seconds and WWW-Authenticate are kept, because
    REST framework sends no others. It reads them from ``wait`` and ``auth_header``.
    """

    def __init__(self, status_code: int, detail: Any, headers: Mapping[str, Any] | None = None) -> None:
        super().__init__(_text(detail) or responses.get(status_code, "Refused"))
        self.status_code = status_code
        for name, value in (headers or {}).items():
            text = str(value)
            match name.lower():
                case "retry-after" if text.isascii() and text.isdigit():
                    self.wait = int(text)
                case "www-authenticate" if text.isascii() and text.isprintable():
                    self.auth_header = text


def is_callers_mistake(exc: Exception) -> bool:
    """Whether the ChatKit SDK itself raised the exception, or a store did not find something.

    The team's code may raise the same classes for its own faults. So this function reads the traceback.
    """
    # Compare the exact class with ValueError and NotImplementedError. The ChatKit SDK raises no subclasses of
    # them, but pydantic does: its ValidationError is a ValueError.
    if not isinstance(exc, NotFoundError) and type(exc) not in (ValueError, NotImplementedError):
        return False
    frames = list(_traceback_frames(exc))
    if any(frame.f_code is _translate_refusals_in_stream.__code__ for frame in frames):
        return False  # ``respond`` or ``action`` was running, so the exception is about the server's own work
    packages = [frame.f_globals.get("__name__", "").partition(".")[0] for frame in frames]
    if packages[-1:] == ["support"] and not isinstance(exc, ValueError):
        # Our own code raised the exception: NotFoundError from our store, or NotImplementedError because no
        # model is set for dictation.
        return True
    if isinstance(exc, NotFoundError) and _was_raised_by_store(frames, packages):
        return True
    return _was_raised_by_sdk(packages)


def refusal_of(exc: Exception) -> ServerRefusal | None:
    """Return the exception as a ``ServerRefusal``, or ``None`` if it is not a refusal."""
    match exc:
        case Refused():
            return None  # authn answers its own refusals
        case APIException():
            return _make_refusal(exc.status_code, exc.detail, {"Retry-After": getattr(exc, "wait", "")})
        case Http404():
            return ServerRefusal(HTTPStatus.NOT_FOUND, _text(*exc.args[:1]) or "Not found")
        case PermissionDenied():
            return ServerRefusal(HTTPStatus.FORBIDDEN, _text(*exc.args[:1]))
        case SuspiciousOperation() | BadRequest():
            # Like Django, do not show the text of these exceptions.
            return ServerRefusal(HTTPStatus.BAD_REQUEST, "Bad request")
    # FastAPI's and Starlette's HTTPException, and similar classes, have ``detail`` and ``status_code``. The
    # errors of httpx and openai also have a status, but for a request that the team's server sent. These
    # errors have a ``response`` or a ``request``, and are faults.
    if hasattr(exc, "detail") and not (hasattr(exc, "response") or hasattr(exc, "request")):
        return _make_refusal(getattr(exc, "status_code", None), exc.detail, getattr(exc, "headers", None))
    return None


def is_expected(exc: Exception) -> bool:
    """Whether this exception is expected, so that it is not logged as an error.

    A caller's mistake, a refusal with a 4xx and a ``CustomStreamError`` are expected. A fault and a refusal
    with a 5xx are not.
    """
    return isinstance(exc, CustomStreamError) or _is_4xx_refusal(exc) or is_callers_mistake(exc)


@contextmanager
def refusals_as_api_exceptions() -> Iterator[None]:
    """If the code in the block raises a refusal, raise it as a ``ServerRefusal``.

    REST framework makes the response from a ``ServerRefusal``. A 5xx is logged with its traceback. Other
    exceptions pass through unchanged.
    """
    try:
        yield
    except Exception as exc:
        if not (status := _status_of(exc)):
            raise
        if status >= 500:
            logger.exception("The ChatKit server answers with %d", status)
        # Do not keep the refusal in a local variable. Its traceback refers to this frame, and the frame would
        # refer to the refusal: a reference cycle.
        raise refusal_of(exc) from exc  # type: ignore[misc]


def send_refusals_as_events(server: Any) -> None:
    """Replace methods of the server and of its store, so that a client sees the text of a refusal.

    A refusal with a 4xx leaves these methods as ``CustomStreamError``. The ChatKit SDK sends the text of this
    exception in an ``error`` event of the stream.
    """
    for name in STREAMING_METHODS:
        setattr(server, name, partial(_translate_refusals_in_stream, getattr(server, name)))
    if not type(server.store).__module__.startswith("support."):  # our own store raises no refusals
        for name in STORE_WRITES:
            with suppress(AttributeError):  # a class with __slots__ may not allow new attributes
                setattr(server.store, name, partial(_translate_refusal_of_write, getattr(server.store, name)))


def custom_stream_error(exc: Exception) -> CustomStreamError | None:
    """Return the error whose text a stream sends to the client for this exception, or ``None``.

    Returns ``None`` for a fault, a caller's mistake and a refusal with a 5xx. The stream then sends an error
    event without a text. In a stream, the client must not see the text of a 5xx.
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
    """Yield the method's events. Raise its refusal with a 4xx as ``CustomStreamError``."""
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
    """Call the store's method. If a stream has begun, raise a refusal with a 4xx as ``CustomStreamError``.

    Before the stream begins, the refusal itself is raised, and the response gets its status.
    """
    try:
        await method(*args, **kwargs)
    except Exception as exc:
        if not stream_has_begun.get() or not _is_4xx_refusal(exc):
            raise
        raise custom_stream_error(exc) from exc  # type: ignore[misc]


def _is_4xx_refusal(exc: Exception) -> bool:
    return 400 <= _status_of(exc) < 500


def _status_of(exc: Exception) -> int:
    """Return the HTTP status of a refusal, or 0 for any other exception."""
    refusal = refusal_of(exc)
    return refusal.status_code if refusal else 0


def _make_refusal(status_code: object, detail: object, headers: object) -> ServerRefusal | None:
    """Return a ``ServerRefusal``, or ``None`` if the status is not a number from 400 to 599."""
    if type(status_code) is not int or not 400 <= status_code < 600:
        return None
    return ServerRefusal(status_code, detail, headers if isinstance(headers, Mapping) else None)


def _text(detail: object = "") -> str:
    """Return the text of ``detail``, which FastAPI lets be any JSON. Empty if it has no text.

    The text of an object is its ``message``.
    """
    if isinstance(detail, Mapping):
        detail = detail.get("message")
    return str(detail) if isinstance(detail, str) else ""


def _was_raised_by_store(frames: list[FrameType], packages: list[str]) -> bool:
    """Whether the exception comes from a call of the team's store by the ChatKit SDK or by our view.

    Looks at the frames from our view to the place of the error. The first frame that is a method of the
    team's store or of the team's server decides:

    - The store: the function returns true.
    - The server: the function returns false. The server looked something up for itself, and an error there is
      not the caller's mistake.
    """
    from chatkit.server import ChatKitServer

    for frame, package in zip(frames, packages, strict=True):
        if package in ("chatkit", "support") or frame.f_code.co_name == "process":
            # Skip a ``process`` that the team overrides: it passes the request on to the ChatKit SDK's.
            continue
        first_argument = next(iter(frame.f_code.co_varnames[: frame.f_code.co_argcount]), "")
        called_object = frame.f_locals.get(first_argument)  # the method's ``self``
        if isinstance(called_object, Store | AttachmentStore):
            return True
        if isinstance(called_object, ChatKitServer):
            return False
    return False


def _was_raised_by_sdk(packages: list[str]) -> bool:
    """Whether all frames after the first frame of the ChatKit SDK are also the ChatKit SDK's.

    Returns false if the ChatKit SDK has no frame.
    """
    return "chatkit" in packages and set(packages[packages.index("chatkit") :]) == {"chatkit"}


def _traceback_frames(exc: BaseException) -> Iterator[FrameType]:
    traceback = exc.__traceback__
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next
