"""Quirks by name: requests that OpenAI accepts and some providers refuse, over both APIs."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Json = dict[str, Any]

SHORT_CONTEXT = 2_000  # characters
OWN_ID = re.compile(r"(msg|fc|rs|call)_[0-9a-f]{32}")  # as tests/model_answers.py makes them


def refusal(names: Iterable[str], body: Json) -> tuple[int, Json] | None:
    """The status and body of an error, if one of these quirks refuses the request."""
    for name in names:
        status, code, check = QUIRKS[name]
        if message := check(body):
            error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
            return status, {"error": error}
    return None


def _no_pictures(body: Json) -> str:
    kinds = {part["type"] for part in _parts(body)}
    return "This model does not support image input" if kinds & {"input_image", "image_url"} else ""


def _no_files(body: Json) -> str:
    kinds = {part["type"] for part in _parts(body)}
    return "unknown variant `file`, expected `text`" if kinds & {"input_file", "file"} else ""


def _strict_roles(body: Json) -> str:
    allowed = {"": "user", "user": "assistant", "assistant": "user", "call": "tool", "tool": "tool assistant"}
    before = ""
    for role in _roles(body):
        if role == "call" and before in ("user", "assistant", "call", "tool"):
            before = "call"  # a call is a part of the assistant's turn
        elif role in allowed[before].split():
            before = role
        else:
            return f"Conversation roles must alternate user/assistant: '{role}' after '{before}'"
    return "" if before in ("user", "tool") else "The last message must be the user's"


def _strings_only(body: Json) -> str:
    lists = [said for said in _said(body) if "id" not in said and isinstance(_content(said), list)]
    return "content: input should be a valid string" if lists else ""


def _no_empty_text(body: Json) -> str:
    texts = [part["text"] for part in _parts(body) if "text" in part]
    return "text content must be non-empty" if any(not text.strip() for text in texts) else ""


def _keeps_nothing(body: Json) -> str:
    ids = [said["id"] for said in _said(body) if "id" in said]
    return f"Item with id '{ids[0]}' not found: items are not kept" if ids else ""


def _foreign_ids(body: Json) -> str:
    said = _said(body)
    for place, item in enumerate(said):
        calls = [call["id"] for call in item.get("tool_calls") or ()]
        own = [item[name] for name in ("id", "call_id", "tool_call_id") if name in item]
        if unknown := [each for each in [*calls, *own] if not OWN_ID.fullmatch(each)]:
            return f"unknown id '{unknown[0]}'"
        followers = {each.get("type") for each in said[place + 1 : place + 2]}
        if item.get("type") == "reasoning" and not followers & {"message", "function_call", "reasoning"}:
            return "reasoning was provided without its required following item"
    return ""


def _short_context(body: Json) -> str:
    length = sum(len(part.get("text", "")) for part in _parts(body))
    return f"maximum context length exceeded: {length}" if length > SHORT_CONTEXT else ""


QUIRKS: dict[str, tuple[int, str, Callable[[Json], str]]] = {
    "no-pictures": (400, "unsupported_content", _no_pictures),
    "no-files": (422, "invalid_request", _no_files),
    "fails-at-files": (500, "server_error", lambda body: _no_pictures(body) or _no_files(body)),
    "strict-roles": (400, "invalid_roles", _strict_roles),
    "strings-only": (422, "invalid_request", _strings_only),
    "no-empty-text": (400, "invalid_request", _no_empty_text),
    "keeps-nothing": (404, "not_found", _keeps_nothing),
    "foreign-ids": (400, "unknown_id", _foreign_ids),
    "short-context": (413, "context_length_exceeded", _short_context),
}


def _said(body: Json) -> list[Json]:
    said = body.get("input", body.get("messages", []))
    return [{"role": "user", "content": said}] if isinstance(said, str) else list(said)


def _content(said: Json) -> Any:
    return said["output"] if said.get("type") == "function_call_output" else said.get("content")


def _parts(body: Json) -> Iterator[Json]:
    for said in _said(body):
        content = _content(said)
        yield from [{"type": "text", "text": content}] if isinstance(content, str) else content or ()


def _roles(body: Json) -> Iterator[str]:
    """All roles but the system's. A message with tool calls gives two roles, in the order of the Responses
    API."""
    for said in _said(body):
        kind = said.get("type", "message")
        if kind == "message" and said["role"] != "system":
            if said.get("content") or not said.get("tool_calls"):
                yield said["role"]
            yield from ["call"] * len(said.get("tool_calls") or ())
        elif kind in ("function_call", "function_call_output"):
            yield "call" if kind == "function_call" else "tool"
