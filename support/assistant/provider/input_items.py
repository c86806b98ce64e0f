"""Simplifies a conversation for providers that accept less than OpenAI. The items are the Agents SDK's.

Some providers accept no list of parts, no two messages of one role in a row, or no message without text. Some
accept no pictures, no files or no ids. No function here changes its arguments.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

Item = dict[str, Any]

PICTURE, FILE = "input_image", "input_file"

# Sentences for the model.
EARLIER_MESSAGES_MISSING = "(The part of the conversation that you can read begins here.)"
EMPTY_MESSAGE = "(Nothing is said here.)"
FILE_NOT_SHOWN = "It cannot be shown to you."
IMAGE_IN_NEXT_MESSAGE = "The image is in the message after this."
IMAGE_FROM_TOOL = "A tool returned this image:"


def simplify(items: Iterable[Item]) -> list[Item]:
    """Begin with a user's message, merge neighbours of one role, and write text content as one string."""
    messages: list[Item] = []
    for item in items:
        previous = messages[-1] if messages else {}
        if _is_message(item) and _is_message(previous) and item["role"] == previous["role"]:
            messages[-1] = previous | {"content": [*_parts(previous), *_parts(item)]}
        else:
            messages.append(item)
    if not messages or messages[0].get("role") != "user":
        messages.insert(0, _user_message(EARLIER_MESSAGES_MISSING))
    return [_with_plain_text(item) for item in messages]


def with_pictures_after_tools(items: Iterable[Item]) -> list[Item]:
    """For Chat Completions: a tool's result may only be text there. So a user's message has its pictures."""
    messages: list[Item] = []
    pictures: list[Item] = []
    for item in items:
        # The API requires all results of one turn before any other message.
        if pictures and item.get("type") != "function_call_output":
            messages.append(_user_message(IMAGE_FROM_TOOL, *pictures))
            pictures = []
        if item.get("type") == "function_call_output":
            pictures += [part for part in files_in([item]) if part["type"] == PICTURE]
            item = _replace_files(item, lambda part: part["type"] == PICTURE, IMAGE_IN_NEXT_MESSAGE)
        messages.append(item)
    return [*messages, _user_message(IMAGE_FROM_TOOL, *pictures)] if pictures else messages


def files_in(items: Iterable[Item]) -> list[Item]:
    """The parts that are pictures or files."""
    return [part for item in items for part in _parts(item) if part.get("type") in (PICTURE, FILE)]


def without_files(items: Iterable[Item], is_removed: Callable[[Item], bool]) -> list[Item]:
    """Replace each of these files with a sentence. The text before it already names the file."""
    return [_replace_files(item, is_removed, FILE_NOT_SHOWN) for item in items]


def without_ids(items: Sequence[Item]) -> list[Item]:
    """Remove ids and reasoning. A provider that does not store its answers cannot look them up."""
    if not any("id" in item for item in items):
        return list(items)
    kept = (item for item in items if item.get("type") != "reasoning")
    return [{name: value for name, value in _as_our_message(item).items() if name != "id"} for item in kept]


def _is_message(item: Item) -> bool:
    """Whether the item is a message that can be merged. A message with an id is the provider's own."""
    return item.get("type", "message") == "message" and "role" in item and "id" not in item


def _user_message(text: str, *parts: Item) -> Item:
    return {"type": "message", "role": "user", "content": [_text(text), *parts]}


def _text(text: str) -> Item:
    return {"type": "input_text", "text": text}


def _content_key(item: Item) -> str:
    return "output" if item.get("type") == "function_call_output" else "content"


def _parts(item: Item) -> list[Item]:
    content = item.get(_content_key(item)) or []
    return [_text(content)] if isinstance(content, str) else list(content)


def _with_plain_text(item: Item) -> Item:
    key = _content_key(item)
    if key == "content" and not _is_message(item):
        return item
    parts = [part for part in _parts(item) if part.get("type") != "input_text" or part["text"].strip()]
    if any(part.get("type") != "input_text" for part in parts):
        return item | {key: parts}
    return item | {key: "\n\n".join(part["text"] for part in parts) or EMPTY_MESSAGE}


def _replace_files(item: Item, is_replaced: Callable[[Item], bool], text: str) -> Item:
    if not any(is_replaced(part) for part in files_in([item])):
        return item
    parts = [
        _text(text) if part.get("type") in (PICTURE, FILE) and is_replaced(part) else part
        for part in _parts(item)
    ]
    return item | {_content_key(item): parts}


def _as_our_message(item: Item) -> Item:
    """Convert a message that the provider returned to the form of the messages that we write."""
    if item.get("type") != "message" or "id" not in item:
        return item
    text = "".join(part.get("text") or part.get("refusal") or "" for part in item["content"])
    return {"type": "message", "role": item["role"], "content": text}
