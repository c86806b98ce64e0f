"""Simplifies the input of a model, for providers that accept less than OpenAI does.

The input is a list of the Agents SDK's input items. Some providers refuse:

- a message whose content is a list of parts
- two messages of one role in a row
- a message without text
- pictures, files or ids

No function of this module changes its arguments.
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
    """Merge neighbouring messages of one role, and write content that is only text as one string.

    If the first item is not a user's message, one is put before it.
    """
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
    """Move the pictures in the tools' results to a user's message after these results.

    This is for Chat Completions, where a tool's result may only be text.
    """
    messages: list[Item] = []
    pictures: list[Item] = []
    for item in items:
        # Chat Completions requires all results of one turn before any other message.
        if pictures and item.get("type") != "function_call_output":
            messages.append(_user_message(IMAGE_FROM_TOOL, *pictures))
            pictures = []
        if item.get("type") == "function_call_output":
            pictures += [part for part in files_in([item]) if part["type"] == PICTURE]
            item = _replace_files(item, lambda part: part["type"] == PICTURE, IMAGE_IN_NEXT_MESSAGE)
        messages.append(item)
    return [*messages, _user_message(IMAGE_FROM_TOOL, *pictures)] if pictures else messages


def files_in(items: Iterable[Item]) -> list[Item]:
    """Return the parts that are pictures or files."""
    return [part for item in items for part in _parts(item) if part.get("type") in (PICTURE, FILE)]


def without_files(items: Iterable[Item], is_removed: Callable[[Item], bool]) -> list[Item]:
    """Replace each picture or file for which ``is_removed`` is true with a sentence.

    The sentence does not name the file, because the text before the file does.
    """
    return [_replace_files(item, is_removed, FILE_NOT_SHOWN) for item in items]


def without_ids(items: Sequence[Item]) -> list[Item]:
    """Remove ids and reasoning items. A provider that does not store its answers cannot find them by id."""
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
    """Return the key under which the item has its content."""
    return "output" if item.get("type") == "function_call_output" else "content"


def _parts(item: Item) -> list[Item]:
    """Return the content of the item as a list of parts."""
    content = item.get(_content_key(item)) or []
    return [_text(content)] if isinstance(content, str) else list(content)


def _with_plain_text(item: Item) -> Item:
    """Return the item with its content as one string, if the content has only text."""
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
