"""A conversation as text, for staff to read: a page of it at a time, however long it is.

It is made of what is stored and not of the SDK's objects, so that what a newer version of the SDK has written
can be read as well. All of it is somebody else's words: the template escapes them, and none becomes a link.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from support.models import INSERTION_ORDER, Attachment, Item, Thread

PAGE = 50  # items
MOST = 200  # texts of one item, such as the tasks of a workflow
LONGEST = 20_000  # characters of one text: a tool's answer, or an image as a data: address, may be megabytes

SPEAKERS = {
    "user_message": "User",
    "assistant_message": "Assistant",
    "client_tool_call": "Tool",
    "widget": "Widget",
    "generated_image": "Image",
    "structured_input": "Questions",
    "workflow": "Workflow",
    "task": "Task",
    "end_of_turn": "End of turn",
    "hidden_context_item": "Hidden from the user",
    "sdk_hidden_context": "Hidden from the user",
}
# What of a widget can be read, in the order in which it is on the screen, more or less.
IN_WIDGETS = ("title", "label", "value", "text", "caption", "alt", "placeholder", "src", "url", "href")


@dataclass(frozen=True, slots=True)
class File:
    """``can_be_read``: it was uploaded, and is there."""

    attachment_id: str
    name: str
    mime_type: str
    can_be_read: bool


@dataclass(frozen=True, slots=True)
class Entry:
    speaker: str
    created_at: datetime
    texts: list[str]
    feedback: str
    files: list[File] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Page:
    """``earlier``, ``later``: the items to ask for more ``before`` and ``after``; ``None`` at the ends."""

    entries: list[Entry]
    earlier: int | None
    later: int | None


def page(thread: Thread, *, before: int | None = None, after: int | None = None) -> Page:
    """The end of the conversation, or what stands before or after an item."""
    items = Item.objects.filter(thread=thread).select_related("feedback").alias(place=INSERTION_ORDER)
    if after is not None:
        rows = list(items.filter(place__gt=after).order_by("place")[: PAGE + 1])
        has_earlier, has_later = True, len(rows) > PAGE
        rows = rows[:PAGE]
    else:
        earlier = items if before is None else items.filter(place__lt=before)
        rows = list(earlier.order_by("-place")[: PAGE + 1])
        has_earlier, has_later = len(rows) > PAGE, before is not None
        rows = rows[:PAGE][::-1]
    return Page(
        entries=_entries(thread, rows),
        earlier=rows[0].pk if rows and has_earlier else None,
        later=rows[-1].pk if rows and has_later else None,
    )


def _entries(thread: Thread, rows: list[Item]) -> list[Entry]:
    attached = {
        row.pk: [each for each in _list(row.data, "attachments") if isinstance(each, dict)] for row in rows
    }
    ids = [str(each.get("id")) for files in attached.values() for each in files]
    uploaded = Attachment.objects.owned_by(thread.user_id).filter(attachment_id__in=ids).exclude(file="")
    there = set(uploaded.values_list("attachment_id", flat=True)) if ids else set()
    return [
        Entry(
            speaker=_speaker(row),
            created_at=row.created_at,
            texts=_most(_cut(text) for text in _texts(row.data) if text),
            feedback=row.feedback.get_kind_display() if hasattr(row, "feedback") else "",
            files=[_file(each, there) for each in attached[row.pk]],
        )
        for row in rows
    ]


def _speaker(row: Item) -> str:
    match row.data:
        case {"type": "workflow", "workflow": {"type": "reasoning"}}:
            return "Assistant's thoughts"
    return SPEAKERS.get(row.type, row.type)


def _most(texts: Iterator[str]) -> list[str]:
    told = list(islice(texts, MOST))
    more = sum(1 for _ in texts)
    return [*told, f"… ({more} more)"] if more else told


def _file(stored: dict[str, Any], there: set[str]) -> File:
    attachment_id = str(stored.get("id"))
    name, mime_type = str(stored.get("name", "")), str(stored.get("mime_type", ""))
    return File(attachment_id, _cut(name), _cut(mime_type), attachment_id in there)


def _texts(data: Any) -> Iterator[str]:
    match data:
        case {"type": "user_message", "content": list(parts)}:
            if data.get("quoted_text"):
                yield f"> {data['quoted_text']}"
            yield from map(_part, parts)
        case {"type": "assistant_message", "content": list(parts)}:
            for part in parts:
                yield _part(part)
                yield from (_source(each.get("source")) for each in _list(part, "annotations"))
        case {"type": "client_tool_call", "name": name, "arguments": arguments}:
            yield f"{name}({_json(arguments)})"
            yield f"→ {_json(data['output'])}" if data.get("output") is not None else "→ no answer yet"
        case {"type": "widget", "widget": widget}:
            yield "\n".join(_in_widget(widget))
        case {"type": "generated_image"}:
            image = data.get("image")
            yield str(image.get("url")) if isinstance(image, dict) else "not made yet"
        case {"type": "structured_input", "inputs": list(questions)}:
            yield from map(_question, questions)
        case {"type": "task", "task": task}:
            yield _task(task)
        case {"type": "workflow", "workflow": dict(workflow)}:
            yield _task(workflow.get("summary") or {})
            yield from map(_task, _list(workflow, "tasks"))
        case {"type": "hidden_context_item" | "sdk_hidden_context", "content": content}:
            yield content if isinstance(content, str) else _json(content)
        case {"type": "end_of_turn"}:
            return
        case _:
            yield _json(data)


def _part(part: Any) -> str:
    match part:
        case {"type": "input_tag", "text": text}:
            return f"@{text}"
        case {"text": str(text)}:
            return text
    return _json(part)


def _source(source: Any) -> str:
    match source:
        case dict():
            told = (source.get(name) for name in ("title", "url", "filename", "id"))
            return f"Source: {', '.join(str(each) for each in told if each)}"
    return f"Source: {_json(source)}"


def _question(question: Any) -> str:
    if not isinstance(question, dict):
        return _json(question)
    answer = question.get("answer")
    if not isinstance(answer, dict):
        said = "no answer yet"
    else:
        said = "skipped" if answer.get("skipped") else ", ".join(map(str, _list(answer, "values")))
    return f"{question.get('question', '')} → {said}"


def _task(task: Any) -> str:
    """Of whatever kind: a title, a thought, what was searched for and found, how long it took."""
    if not isinstance(task, dict):
        return _json(task)
    told = [task.get("title"), task.get("title_query"), *_list(task, "queries"), task.get("content")]
    if task.get("duration") is not None:
        told.append(f"{task['duration']} s")
    return "\n".join([*(str(each) for each in told if each), *map(_source, _list(task, "sources"))])


def _in_widget(node: Any) -> Iterator[str]:
    """What it says, a line each, in the order of its parts."""
    match node:
        case dict():
            for name in IN_WIDGETS:
                if isinstance(node.get(name), str | int | float):
                    yield str(node[name])
            for name in sorted(node, key=lambda name: name != "children"):  # then a card's buttons
                if isinstance(node[name], dict | list):
                    yield from _in_widget(node[name])
        case list():
            for part in node:
                yield from _in_widget(part)


def _list(data: Any, name: str) -> list[Any]:
    value = data.get(name) if isinstance(data, dict) else None
    return value if isinstance(value, list) else []


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text) - LONGEST} characters more)"
