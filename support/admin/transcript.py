"""Turns a conversation into pages of text, which staff read in the admin.

This module reads the stored JSON and not the ChatKit SDK's objects. So it can also show items that a newer
version of the SDK has written. Users, models and tools wrote all of the text. The template escapes it, except
for the Markdown of the assistant (``support.admin.markdown``).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any

from django.utils.safestring import SafeString

from support import media_types
from support.admin import markdown
from support.models import INSERTION_ORDER, Attachment, Item, Thread

PAGE_SIZE = 50  # items
MAX_TEXTS = 200  # of one item, such as the tasks of a workflow
MAX_TEXT_LENGTH = 20_000  # characters. A tool's output or an image in a data: URL may have megabytes.
# Characters of Markdown on one page; more is shown as plain text. Hostile Markdown of this length takes about
# two seconds.
MAX_MARKDOWN_LENGTH = 200_000
MAX_TABLE_CELLS = 5_000  # in one text. The parser needs about 0.2 s for them.
MAX_TABLE_CELLS_ON_PAGE = 20_000

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
SUMMARY_LENGTH = 100  # characters
# The sides of the conversation. Everything else is between them.
SIDES = {"user_message": "user", "assistant_message": "assistant"}
# Staff open these only if they need them.
FOLDED = {"client_tool_call", "workflow", "task", "hidden_context_item", "sdk_hidden_context"}
# The properties of widgets that have text, roughly in the order in which the client shows them.
WIDGET_TEXTS = ("title", "label", "value", "text", "caption", "alt", "placeholder", "src", "url", "href")


@dataclass(frozen=True, slots=True)
class File:
    """An attachment of an item. ``is_stored``: whether the file was uploaded and still exists."""

    attachment_id: str
    name: str
    mime_type: str
    is_stored: bool

    @property
    def is_picture(self) -> bool:
        return self.is_stored and self.mime_type in media_types.IMAGES


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    is_markdown: bool = False

    @property
    def html(self) -> SafeString:
        return markdown.to_html(self.text)


@dataclass(frozen=True, slots=True)
class Entry:
    """``side``: "user", "assistant" or "other"."""

    speaker: str
    side: str
    is_folded: bool
    created_at: datetime
    texts: list[Text]
    feedback: str
    files: list[File] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """The beginning of the first line."""
        first, _, _ = self.texts[0].text.partition("\n") if self.texts else ("", "", "")
        return first if len(first) <= SUMMARY_LENGTH else f"{first[:SUMMARY_LENGTH]}…"


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the conversation, with the arguments of ``page`` for the two neighbouring pages.

    ``earlier``: ``before`` for the previous page. ``later``: ``after`` for the next page. Both are primary
    keys of items, or ``None`` if there is no such page.
    """

    entries: list[Entry]
    earlier: int | None
    later: int | None


def page(thread: Thread, *, before: int | None = None, after: int | None = None) -> Page:
    """Return the last page of the conversation, or the page before or after an item.

    ``before``, ``after``: primary keys of items.
    """
    items = Item.objects.filter(thread=thread).select_related("feedback").alias(position=INSERTION_ORDER)
    if after is not None:
        rows = list(items.filter(position__gt=after).order_by("position")[: PAGE_SIZE + 1])
        has_earlier, has_later = True, len(rows) > PAGE_SIZE
        rows = rows[:PAGE_SIZE]
    else:
        earlier = items if before is None else items.filter(position__lt=before)
        rows = list(earlier.order_by("-position")[: PAGE_SIZE + 1])
        has_earlier, has_later = len(rows) > PAGE_SIZE, before is not None
        rows = rows[:PAGE_SIZE][::-1]
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
    stored = set(uploaded.values_list("attachment_id", flat=True)) if ids else set()
    entries = [
        Entry(
            speaker=_speaker(row),
            side=SIDES.get(row.type, "other"),
            is_folded=row.type in FOLDED,
            created_at=row.created_at,
            texts=_limited(_texts(row.data)),
            feedback=row.feedback.get_kind_display() if hasattr(row, "feedback") else "",
            files=[_file(each, stored) for each in attached[row.pk]],
        )
        for row in rows
    ]
    _limit_markdown(entries)
    return entries


def _speaker(row: Item) -> str:
    match row.data:
        case {"type": "workflow", "workflow": {"type": "reasoning"}}:
            return "Assistant's thoughts"
    return SPEAKERS.get(row.type, row.type)


def _limited(texts: Iterator[str | Text]) -> list[Text]:
    all_texts = (each if isinstance(each, Text) else Text(each) for each in texts if each)
    shown = [replace(each, text=_shortened(each.text)) for each in islice(all_texts, MAX_TEXTS)]
    more = sum(1 for _ in all_texts)
    return [*shown, Text(f"… ({more} more)")] if more else shown


def _limit_markdown(entries: list[Entry]) -> None:
    """Show the Markdown of the oldest entries as plain text, and also Markdown that would take long."""
    length = cells = 0
    for entry in reversed(entries):
        for number, each in enumerate(entry.texts):
            if not each.is_markdown:
                continue
            length += len(each.text)
            added = markdown.most_table_cells(each.text)
            if (
                length > MAX_MARKDOWN_LENGTH
                or added > MAX_TABLE_CELLS
                or cells + added > MAX_TABLE_CELLS_ON_PAGE
            ):
                entry.texts[number] = Text(each.text)
            else:
                cells += added


def _file(attachment: dict[str, Any], stored: set[str]) -> File:
    attachment_id = str(attachment.get("id"))
    name, mime_type = str(attachment.get("name", "")), str(attachment.get("mime_type", ""))
    return File(attachment_id, _shortened(name), _shortened(mime_type), attachment_id in stored)


def _texts(data: Any) -> Iterator[str | Text]:
    match data:
        case {"type": "user_message", "content": list(parts)}:
            if data.get("quoted_text"):
                yield f"> {data['quoted_text']}"
            yield from map(_part, parts)
        case {"type": "assistant_message", "content": list(parts)}:
            for part in parts:
                if text := _part(part):
                    yield Text(text, is_markdown=True)
                yield from (_source(each.get("source")) for each in _list(part, "annotations"))
        case {"type": "client_tool_call", "name": name, "arguments": arguments}:
            yield f"{name}({_json(arguments)})"
            yield f"→ {_json(data['output'])}" if data.get("output") is not None else "→ no answer yet"
        case {"type": "widget", "widget": widget}:
            yield "\n".join(_widget_texts(widget))
        case {"type": "generated_image"}:
            image = data.get("image")
            yield str(image.get("url")) if isinstance(image, dict) else "not generated yet"
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
            parts = (source.get(name) for name in ("title", "url", "filename", "id"))
            return f"Source: {', '.join(str(part) for part in parts if part)}"
    return f"Source: {_json(source)}"


def _question(question: Any) -> str:
    if not isinstance(question, dict):
        return _json(question)
    answer = question.get("answer")
    if not isinstance(answer, dict):
        answered = "no answer yet"
    else:
        answered = "skipped" if answer.get("skipped") else ", ".join(map(str, _list(answer, "values")))
    return f"{question.get('question', '')} → {answered}"


def _task(task: Any) -> str:
    """Return the title, thought, searches, sources and duration of a task, as far as the task has them."""
    if not isinstance(task, dict):
        return _json(task)
    parts = [task.get("title"), task.get("title_query"), *_list(task, "queries"), task.get("content")]
    if task.get("duration") is not None:
        parts.append(f"{task['duration']} s")
    return "\n".join([*(str(each) for each in parts if each), *map(_source, _list(task, "sources"))])


def _widget_texts(node: Any) -> Iterator[str]:
    """Yield the texts of a widget in the order of its components. Each text becomes a line."""
    match node:
        case dict():
            for name in WIDGET_TEXTS:
                if isinstance(node.get(name), str | int | float):
                    yield str(node[name])
            # Show the children first, and after them other parts, such as the buttons of a card.
            for name in sorted(node, key=lambda name: name != "children"):
                if isinstance(node[name], dict | list):
                    yield from _widget_texts(node[name])
        case list():
            for part in node:
                yield from _widget_texts(part)


def _list(data: Any, name: str) -> list[Any]:
    value = data.get(name) if isinstance(data, dict) else None
    return value if isinstance(value, list) else []


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shortened(text: str) -> str:
    rest = len(text) - MAX_TEXT_LENGTH
    return text if rest <= 0 else f"{text[:MAX_TEXT_LENGTH]}… ({rest} more characters)"
