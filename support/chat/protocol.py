"""ChatKit's request, checked before anything is done with it."""

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

MAX_PARTS = 100  # of a message: texts, and tags between them
MAX_TITLE = 200  # characters
CHATKIT_REQUEST: pydantic.TypeAdapter[ChatKitReq] = pydantic.TypeAdapter(ChatKitReq)

# pydantic's kinds of fault, in our words: its own messages quote what was sent.
FAULTS = {
    "missing": "is missing",
    "union_tag_not_found": "needs a type",
    "union_tag_invalid": "has an unknown type",
    "literal_error": "is not one of the allowed values",
}


@dataclass(frozen=True)
class OtherOperation:
    """An operation that the SDK does not know. ``type`` is a label for metrics, not the request's."""

    type: Literal["other"] = "other"


def parse(body: bytes, allow_unknown_types: bool = False) -> ChatKitReq | OtherOperation:
    """Read the request as the SDK reads it: ``"limit": "20"`` is the number 20.

    ``allow_unknown_types``: return ``OtherOperation`` for a type that the SDK does not know.
    Raises ``ParseError`` (400), which names the field at fault and never quotes the body.
    """
    request: ChatKitReq | OtherOperation
    try:
        request = CHATKIT_REQUEST.validate_json(body)
    except pydantic.ValidationError as exc:
        if not (allow_unknown_types and is_unknown_type(exc) and isinstance(json.loads(body)["type"], str)):
            raise ParseError(_explain(exc)) from None  # from None: the error's text quotes the body
        request = OtherOperation()
    # PostgreSQL stores no NUL in text or JSON. Refused here, and not when half of the work is done.
    if b"\\u0000" in body and _has_nul(json.loads(body)):
        raise ParseError("The request contains a NUL character")
    if isinstance(request, InputTranscribeReq) and not _is_base64(request.params.audio_base64):
        raise ParseError("params.audio_base64 is not valid")
    _check_lengths(request)
    return request


def is_unknown_type(exc: pydantic.ValidationError) -> bool:
    """Whether a request was refused because the SDK does not know its operation."""
    fault = _first_fault(exc)
    return (fault["type"], fault["loc"]) == ("union_tag_invalid", ())


def _check_lengths(request: ChatKitReq | OtherOperation) -> None:
    """Of what would be stored, shown in lists and given to a model; all else is bounded by the body alone."""
    if isinstance(request, ThreadsCreateReq | ThreadsAddUserMessageReq):
        said = request.params.input
        if len(said.content) > MAX_PARTS:
            raise ParseError(f"params.input.content has more than {MAX_PARTS} parts")
        length = len(said.quoted_text or "") + sum(_length(part) for part in said.content)
        if length > conf.SUPPORT_MESSAGE_LENGTH:
            raise ParseError(f"params.input is longer than {conf.SUPPORT_MESSAGE_LENGTH} characters")
    elif isinstance(request, ThreadsUpdateReq) and len(request.params.title) > MAX_TITLE:
        raise ParseError(f"params.title is longer than {MAX_TITLE} characters")


def _length(part: UserMessageContent) -> int:
    return len(part.text) if isinstance(part, UserMessageTextContent) else len(part.model_dump_json())


def cache_request_parser() -> None:
    """Have ``ChatKitServer.process`` use a parser that is built once.

    The SDK (1.6.5, server.py) builds ``TypeAdapter(ChatKitReq)`` for every request: 7 ms, more than
    all of the rest. It reaches the class by this module global; where that is gone, nothing happens.
    """
    from chatkit import server

    if getattr(server, "TypeAdapter", None) is pydantic.TypeAdapter:
        setattr(server, "TypeAdapter", _KeptTypeAdapter)  # noqa: B010


class _KeptTypeAdapter:
    def __class_getitem__(cls, kind: Any) -> type["_KeptTypeAdapter"]:
        return cls

    def __new__(cls, kind: Any, **options: Any) -> pydantic.TypeAdapter[Any]:  # type: ignore[misc]
        return CHATKIT_REQUEST if kind is ChatKitReq else pydantic.TypeAdapter(kind, **options)


def _explain(exc: pydantic.ValidationError) -> str:
    fault = _first_fault(exc)
    if fault["type"] == "json_invalid":
        return "The request body is not valid JSON"
    _tag, *rest = fault["loc"] or ("",)
    # The union's tags stand in the path, but are no fields; a key that the caller made up is not quoted.
    path = [str(part) for part in rest if isinstance(part, int) or part in _field_names()]
    field = ".".join(path) or "The request"
    return f"{field} {FAULTS.get(fault['type'], 'is not valid')}"


def _first_fault(exc: pydantic.ValidationError) -> Any:
    """Without what the caller sent."""
    return exc.errors(include_url=False, include_context=False, include_input=False)[0]


@functools.cache
def _field_names() -> frozenset[str]:
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
    # The SDK gives Action.type a default that is no JSON, which pydantic would warn of.
    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}


def _is_base64(text: str) -> bool:
    """Line breaks are allowed. The SDK would drop all other characters that it cannot decode."""
    try:
        base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):  # ValueError: not even ASCII
        return False
    return True


def _has_nul(value: Any) -> bool:
    match value:
        case str():
            return "\0" in value
        case list():
            return any(map(_has_nul, value))
        case dict():
            return any(_has_nul(part) for pair in value.items() for part in pair)
    return False
