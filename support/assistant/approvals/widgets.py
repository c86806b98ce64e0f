"""The widget that asks the user to approve calls of tools, and later shows the outcome.

A model chose the arguments, so nothing in them is trusted. Each text is in a component ``Text``, which shows
it unchanged: no Markdown, no link, no image.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chatkit.actions import ActionConfig
from chatkit.types import ThreadItem, WidgetItem
from chatkit.widgets import DynamicWidgetRoot, WidgetRoot

from support.models import ApprovalStatus

# The types of the two actions. The payload is {"approval": the id of the widget}.
APPROVE, DENY = "approval.approve", "approval.deny"

OPEN, CLOSED, BUTTONS = "approval_open", "approval_closed", "approval_buttons"  # ids of components

MAX_ARGUMENTS = 20  # of one call
MAX_LENGTH = 2000  # characters of one argument
MAX_NAME_LENGTH = 64

OUTCOMES = {
    ApprovalStatus.APPROVED: "You approved this.",
    ApprovalStatus.DENIED: "You denied this. It was not done.",
    ApprovalStatus.WITHDRAWN: "You wrote a new message instead. This was not done.",
    ApprovalStatus.EXPIRED: "You did not approve this in time. It was not done.",
    ApprovalStatus.OUTDATED: "This can no longer be done as it was asked. It was not done.",
}
# The same for the model, in later answers.
OUTCOMES_FOR_THE_MODEL = {
    ApprovalStatus.APPROVED: "The user approved this. If an answer follows, it has the result.",
    ApprovalStatus.DENIED: "The user denied this, and it was not done.",
    ApprovalStatus.WITHDRAWN: "The user wrote a new message instead, and it was not done.",
    ApprovalStatus.EXPIRED: "The user did not approve this in time, and it was not done.",
    ApprovalStatus.OUTDATED: "This could no longer be done, and it was not done.",
}


@dataclass(frozen=True, slots=True)
class Call:
    """A call that waits for approval. ``tool``: its name. ``title``: the user sees it.

    ``arguments``: as the model wrote them, which should be an object in JSON.
    """

    tool: str
    title: str
    arguments: str


def make(item_id: str, calls: Sequence[Call]) -> DynamicWidgetRoot:
    """Return the widget that asks about these calls. ``item_id``: the id of the widget's item."""
    question = "May the assistant do this?" if len(calls) == 1 else "May the assistant do all of this?"
    buttons = [
        _button("Approve", APPROVE, item_id, style="primary"),
        _button("Deny", DENY, item_id),
    ]
    children = [
        {"type": "Title", "value": question, "size": "sm"},
        *(_describe(call) for call in calls),
        {"type": "Row", "id": BUTTONS, "children": buttons},
    ]
    return DynamicWidgetRoot.model_validate({"type": "Card", "id": OPEN, "size": "md", "children": children})


def close(widget: WidgetRoot, status: ApprovalStatus) -> DynamicWidgetRoot:
    """Return the widget with the outcome in place of the question and the buttons."""
    root = widget.model_dump(mode="json")
    _title, *calls = (each for each in root["children"] if each.get("id") != BUTTONS)
    outcome = {"type": "Text", "value": OUTCOMES[status], "color": "secondary"}
    return DynamicWidgetRoot.model_validate({**root, "id": CLOSED, "children": [*calls, outcome]})


def closed_item(item: WidgetItem, status: ApprovalStatus) -> WidgetItem:
    """Return the item with the outcome. ``item``: asks for the approval, or has an outcome already."""
    asked = (item.copy_text or "").partition("\n")[0]
    changes: dict[str, Any] = {"copy_text": f"{asked}\n{OUTCOMES_FOR_THE_MODEL[status]}"}
    if is_open(item):
        changes["widget"] = close(item.widget, status)
    return item.model_copy(update=changes)


def is_open(item: ThreadItem) -> bool:
    """Whether the item is a widget that asks for approval."""
    return isinstance(item, WidgetItem) and item.widget.id == OPEN


def is_approval(item: ThreadItem) -> bool:
    return isinstance(item, WidgetItem) and item.widget.id in (OPEN, CLOSED)


def summary(calls: Sequence[Call]) -> str:
    """Return one line without the arguments. The model reads it in later answers; the user can copy it."""
    names = ", ".join(f"{call.title} ({call.tool})" for call in calls)
    return f"The assistant asked the user to approve: {names}."


def _describe(call: Call) -> dict[str, Any]:
    lines = [{"type": "Text", "value": call.title, "weight": "semibold"}]
    arguments = _arguments(call.arguments)
    for name, value in list(arguments.items())[:MAX_ARGUMENTS]:
        lines.append({"type": "Caption", "value": printable(str(name))[:MAX_NAME_LENGTH]})
        lines.append({"type": "Text", "value": _readable(value), "size": "sm"})
    if (rest := len(arguments) - MAX_ARGUMENTS) > 0:
        lines.append({"type": "Text", "value": f"… and {rest} more that are not shown", "size": "sm"})
    return {"type": "Col", "gap": 1, "children": lines}


def _arguments(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text or "{}")
    except ValueError:
        return {"arguments": text}
    return parsed if isinstance(parsed, dict) else {"arguments": parsed}


def _readable(value: Any) -> str:
    text = printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    if len(text) <= MAX_LENGTH:
        return text
    return f"{text[:MAX_LENGTH]} … ({len(text) - MAX_LENGTH} more characters are not shown)"


def printable(text: str) -> str:
    """Return the text with escapes in place of invisible characters, and at most one empty line in a row.

    Invisible characters, such as bidi controls, could make the user see other arguments than the tool gets.
    Many empty lines could hide the rest of the text.
    """
    text = re.sub(r"\n\s*\n", "\n\n", text)
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )


def _button(label: str, action: str, item_id: str, **options: str) -> dict[str, Any]:
    config = ActionConfig(type=action, payload={"approval": item_id})
    return {"type": "Button", "label": label, "onClickAction": config.model_dump(mode="json")} | options
