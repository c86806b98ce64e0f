"""What was streamed of a conversation, and what is stored of it."""

from typing import Any

from chatkit.types import ThreadItem

from support.models import Item
from support.rows import THREAD_ITEM
from tests.people import Person
from tests.server import Api


def items_of(person: Person, thread_id: str) -> list[ThreadItem]:
    """All that is stored of a thread, hidden items too."""
    rows = Item.objects.owned_by(person.user_id).filter(thread__thread_id=thread_id).order_by("id")
    return [THREAD_ITEM.validate_python(row.data) for row in rows]


def said_in(items: list[ThreadItem]) -> list[str]:
    return [item.content[0].text for item in items if item.type in ("user_message", "assistant_message")]


def kinds_of(items: list[ThreadItem]) -> list[str]:
    return [item.type for item in items]


def deltas_of(events: list[dict[str, Any]]) -> list[str]:
    updates = [event["update"] for event in events if event["type"] == "thread.item.updated"]
    return [update["delta"] for update in updates if update["type"].endswith("text_delta")]


def thread_of(events: list[dict[str, Any]]) -> str:
    return str(events[0]["thread"]["id"])


def of_type(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == kind]


def leave_after(api: Api, person: Person, body: Any, *words: str) -> str:
    """Close the connection as soon as these have come, words or names of tools; return the thread's id."""
    seen, awaited = [], set(words)
    with api.stream(body, person.token()) as events:
        for _, event in events:
            seen.append(event)
            awaited -= {*deltas_of([event]), event.get("text")}
            if not awaited:
                break
    return thread_of(seen)
