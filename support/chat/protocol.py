"""Parses and validates ChatKit's requests."""

import base64
import binascii
import functools
import json
from dataclasses import dataclass
from typing import Any, Literal

import pydantic
from chatkit.types import (
    ChatKitReq,
    InputTranscribeReq,
    ThreadsAddUserMessageReq,
    ThreadsCreateReq,
    ThreadsUpdateReq,
    UserMessageContent,
    UserMessageTextContent,
)
from pydantic.json_schema import GenerateJsonSchema
from rest_framework.exceptions import ParseError

from support.conf import conf

MAX_PARTS = 100  # texts and tags in one message
MAX_TITLE = 200  # characters
# Knows all operations of the ChatKit SDK, and the fields of each.
CHATKIT_REQUEST: pydantic.TypeAdapter[ChatKitReq] = pydantic.TypeAdapter(ChatKitReq)

# What ``_error_text`` says for pydantic's error types. pydantic's own messages quote the request.
ERROR_TEXTS = {
    "missing": "is missing",
    "union_tag_not_found": "needs a type",
    "union_tag_invalid": "has an unknown type",
    "literal_error": "is not one of the allowed values",
}


@dataclass(frozen=True)
class OtherOperation:
    """An operation that the ChatKit SDK does not know. A team's own ``process`` may know it.

    ``type``: the label for metrics. It is not the type in the request.
    """

    type: Literal["other"] = "other"


def parse(body: bytes, allow_unknown_types: bool = False) -> ChatKitReq | OtherOperation:
    """Parse and check the body of a request.

    Uses the ChatKit SDK's own rules. For example, ``"limit": "20"`` is the number 20.

    ``allow_unknown_types``: return ``OtherOperation`` for a type that the ChatKit SDK does not know.
    Raises ``ParseError`` (400). Its message names the wrong field and never quotes the body.
    """
    request: ChatKitReq | OtherOperation
    try:
        request = CHATKIT_REQUEST.validate_json(body)
    except pydantic.ValidationError as exc:
        if not (allow_unknown_types and is_unknown_type(exc) and isinstance(json.loads(body)["type"], str)):
            raise ParseError(_error_text(exc)) from None  # the text of ``exc`` quotes the body
        request = OtherOperation()
    # PostgreSQL cannot store NUL in text or JSON. Refuse it before anything is stored.
    if b"\\u0000" in body and has_nul(json.loads(body)):
        raise ParseError("The request contains a NUL character")
    if isinstance(request, InputTranscribeReq) and not _is_base64(request.params.audio_base64):
        raise ParseError("params.audio_base64 is not valid")
    _check_lengths(request)
    return request


def is_unknown_type(exc: pydantic.ValidationError) -> bool:
    """Whether pydantic refused the request because the ChatKit SDK does not know the operation."""
    error = _first_error(exc)
    return (error["type"], error["loc"]) == ("union_tag_invalid", ())


def _check_lengths(request: ChatKitReq | OtherOperation) -> None:
    """Raise ``ParseError`` if a message or a title is too long.

    Other fields have no limit of their own: the limit for the whole body is enough, because they are not
    stored, listed or sent to a model.
    """
    if isinstance(request, ThreadsCreateReq | ThreadsAddUserMessageReq):
        message = request.params.input
        if len(message.content) > MAX_PARTS:
            raise ParseError(f"params.input.content has more than {MAX_PARTS} parts")
        length = len(message.quoted_text or "") + sum(_length(part) for part in message.content)
        if length > conf.SUPPORT_MESSAGE_LENGTH:
            raise ParseError(f"params.input is longer than {conf.SUPPORT_MESSAGE_LENGTH} characters")
    elif isinstance(request, ThreadsUpdateReq) and len(request.params.title) > MAX_TITLE:
        raise ParseError(f"params.title is longer than {MAX_TITLE} characters")


def _length(part: UserMessageContent) -> int:
    """Return the number of characters of a text, or of a tag as JSON."""
    return len(part.text) if isinstance(part, UserMessageTextContent) else len(part.model_dump_json())


def cache_request_parser() -> None:
    """Make ``ChatKitServer.process`` reuse one parser.

    The ChatKit SDK (1.6.5, server.py) builds ``TypeAdapter(ChatKitReq)`` for every request. The construction
    takes 7 ms, more than the rest of the request. So this function replaces the name ``TypeAdapter`` in the
    SDK's module. If a later version of the SDK does not have this name, the function does nothing.
    """
    from chatkit import server

    if getattr(server, "TypeAdapter", None) is pydantic.TypeAdapter:
        setattr(server, "TypeAdapter", _CachedTypeAdapter)  # noqa: B010


class _CachedTypeAdapter:
    """Called like pydantic's ``TypeAdapter``. Returns the one parser for ``ChatKitReq``."""

    def __class_getitem__(cls, kind: Any) -> type["_CachedTypeAdapter"]:
        return cls

    def __new__(cls, kind: Any, **options: Any) -> pydantic.TypeAdapter[Any]:  # type: ignore[misc]
        return CHATKIT_REQUEST if kind is ChatKitReq else pydantic.TypeAdapter(kind, **options)


def _error_text(exc: pydantic.ValidationError) -> str:
    """Return a sentence for the caller, such as "params.title is missing". It never quotes the request."""
    error = _first_error(exc)
    if error["type"] == "json_invalid":
        return "The request body is not valid JSON"
    _tag, *rest = error["loc"] or ("",)
    # Keep only the field names of the ChatKit SDK. pydantic's path also has tags of unions, and keys that the
    # caller chose.
    path = [str(part) for part in rest if isinstance(part, int) or part in _field_names()]
    field = ".".join(path) or "The request"
    return f"{field} {ERROR_TEXTS.get(error['type'], 'is not valid')}"


def _first_error(exc: pydantic.ValidationError) -> Any:
    """The first error, without the caller's input."""
    return exc.errors(include_url=False, include_context=False, include_input=False)[0]


@functools.cache
def _field_names() -> frozenset[str]:
    """Return the names of all fields of the ChatKit SDK's requests."""
    names: set[str] = set()

    def collect(schema: Any) -> None:
        if isinstance(schema, dict):
            names.update(schema.get("properties", {}))
            for part in schema.values():
                collect(part)
        elif isinstance(schema, list):
            for part in schema:
                collect(part)

    collect(CHATKIT_REQUEST.json_schema(schema_generator=_QuietSchema))
    return frozenset(names)


class _QuietSchema(GenerateJsonSchema):
    # The ChatKit SDK's default for Action.type is not JSON. pydantic would warn about it.
    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}


def _is_base64(text: str) -> bool:
    """Whether the text is base64. White space is allowed.

    Without this check, the ChatKit SDK would silently drop all characters that are not base64.
    """
    try:
        base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):  # ValueError: the text is not ASCII
        return False
    return True


def has_nul(value: Any) -> bool:
    """Whether a string or a key anywhere in the JSON value has a NUL character."""
    match value:
        case str():
            return "\0" in value
        case list():
            return any(map(has_nul, value))
        case dict():
            return any(has_nul(part) for pair in value.items() for part in pair)
    return False
