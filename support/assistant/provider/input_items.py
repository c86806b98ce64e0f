"""Makes a conversation plainer, for providers that accept less than OpenAI. Its items are the Agents SDK's.

Some providers accept no list of parts, no two messages of one role in a row, or no message without text. Some
accept no pictures, no files or no ids. The functions here change nothing in place.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

Item = dict[str, Any]

PICTURE, FILE = "input_image", "input_file"
BEGINNING = "(The part of the conversation that you can read begins here.)"
EMPTY = "(Nothing is said here.)"
FILE_NOT_SHOWN = "It cannot be shown to you."
FOLLOWS = "The image is in the message after this."
FROM_A_TOOL = "A tool returned this image:"


def plain(items: Iterable[Item]) -> list[Item]:
    """Begin with the user, join neighbours of one role, and write text alone as one string."""
    messages: list[Item] = []
    for item in items:
        previous = messages[-1] if messages else {}
        if _is_message(item) and _is_message(previous) and item["role"] == previous["role"]:
            messages[-1] = previous | {"content": [*_parts(previous), *_parts(item)]}
        else:
            messages.append(item)
    if not messages or messages[0].get("role") != "user":
        messages.insert(0, _from_the_user(BEGINNING))
    return [_with_plain_text(item) for item in messages]


def with_pictures_after_tools(items: Iterable[Item]) -> list[Item]:
    """For Chat Completions, where a tool's result is only text. Its pictures follow in a user's message."""
    messages: list[Item] = []
    pictures: list[Item] = []
    for item in items:
        # All results come before anything else, as they do in the API.
        if pictures and item.get("type") != "function_call_output":
            messages.append(_from_the_user(FROM_A_TOOL, *pictures))
            pictures = []
        if item.get("type") == "function_call_output":
            pictures += [part for part in files_in([item]) if part["type"] == PICTURE]
            item = _replace(item, lambda part: part["type"] == PICTURE, FOLLOWS)
        messages.append(item)
    return [*messages, _from_the_user(FROM_A_TOOL, *pictures)] if pictures else messages


def files_in(items: Iterable[Item]) -> list[Item]:
    """The parts that are pictures or files."""
    return [part for item in items for part in _parts(item) if part.get("type") in (PICTURE, FILE)]


def without_files(items: Iterable[Item], is_left_out: Callable[[Item], bool]) -> list[Item]:
    """Put a sentence in place of each file. The text before it already names the file."""
    return [_replace(item, is_left_out, FILE_NOT_SHOWN) for item in items]


def without_ids(items: Sequence[Item]) -> list[Item]:
    """For a provider that does not store its answers: remove reasoning, and ids that refer to them."""
    if not any("id" in item for item in items):
        return list(items)
    kept = (item for item in items if item.get("type") != "reasoning")
    return [{name: value for name, value in _as_plain_message(item).items() if name != "id"} for item in kept]


def _is_message(item: Item) -> bool:
    """Whether it is a message that may be joined with its neighbour. One with an id is the provider's own."""
    return item.get("type", "message") == "message" and "role" in item and "id" not in item


def _from_the_user(text: str, *parts: Item) -> Item:
    return {"type": "message", "role": "user", "content": [_text(text), *parts]}


def _text(text: str) -> Item:
    return {"type": "input_text", "text": text}


def _content_name(item: Item) -> str:
    return "output" if item.get("type") == "function_call_output" else "content"


def _parts(item: Item) -> list[Item]:
    content = item.get(_content_name(item)) or []
    return [_text(content)] if isinstance(content, str) else list(content)


def _with_plain_text(item: Item) -> Item:
    name = _content_name(item)
    if name == "content" and not _is_message(item):
        return item
    parts = [part for part in _parts(item) if part.get("type") != "input_text" or part["text"].strip()]
    if any(part.get("type") != "input_text" for part in parts):
        return item | {name: parts}
    return item | {name: "\n\n".join(part["text"] for part in parts) or EMPTY}


def _replace(item: Item, is_replaced: Callable[[Item], bool], text: str) -> Item:
    if not any(is_replaced(part) for part in files_in([item])):
        return item
    parts = [
        _text(text) if part.get("type") in (PICTURE, FILE) and is_replaced(part) else part
        for part in _parts(item)
    ]
    return item | {_content_name(item): parts}


def _as_plain_message(item: Item) -> Item:
    """A message of the provider's own, in the form of ours."""
    if item.get("type") != "message" or "id" not in item:
        return item
    text = "".join(part.get("text") or part.get("refusal") or "" for part in item["content"])
    return {"type": "message", "role": item["role"], "content": text}
