"""Examples of the responses to the requests of ``operations.example``."""

import json
from typing import Any

from support.openapi.operations import ATTACHMENT_ID, ITEM_ID, MESSAGE_INPUT, OPERATIONS, STREAM, THREAD_ID

Json = dict[str, Any]

CREATED = "2026-03-01T12:30:15.123456"
THREAD: Json = {
    "id": THREAD_ID,
    "created_at": CREATED,
    "status": {"type": "active"},
    "metadata": {},
    "items": {"data": [], "has_more": False},
}
TITLED = THREAD | {"title": "Where is my parcel?"}
TEXT: Json = {"type": "output_text", "text": "Hello!", "annotations": []}
_ITEM: Json = {"thread_id": THREAD_ID, "created_at": CREATED}
QUESTION: Json = {"id": ITEM_ID.replace("9", "1"), **_ITEM, "type": "user_message", **MESSAGE_INPUT}
ANSWER: Json = {"id": ITEM_ID, **_ITEM, "type": "assistant_message", "content": [TEXT]}
SEAT: Json = {"type": "Card", "children": [{"type": "Text", "value": "2C"}]}

# The JSON responses, by operation. The others are streams, or the empty object.
_RESPONSES: dict[str, Json] = {
    "threads.sync_custom_action": {
        "updated_item": {"id": ITEM_ID, **_ITEM, "type": "widget", "widget": SEAT}
    },
    "threads.get_by_id": TITLED | {"items": {"data": [QUESTION, ANSWER], "has_more": False}},
    "threads.list": {"data": [TITLED], "has_more": False},
    "threads.update": TITLED,
    "items.list": {"data": [QUESTION, ANSWER], "has_more": False},
    "attachments.create": {
        "id": ATTACHMENT_ID,
        "name": "parcel.png",
        "mime_type": "image/png",
        "type": "image",
        "preview_url": f"https://api.example.com/support/attachments/{ATTACHMENT_ID}/content?signature=…",
        "upload_descriptor": {
            "url": f"https://api.example.com/support/attachments/{ATTACHMENT_ID}/upload",
            "method": "PUT",
            "headers": {},
        },
        "metadata": {},
    },
    "input.transcribe": {"text": "Where is my parcel?"},
}


def json_responses() -> dict[str, Json]:
    """Return an example of each JSON response, by operation."""
    names = [name for name, operation in OPERATIONS.items() if operation.response != STREAM]
    return {name: _RESPONSES.get(name, {}) for name in names}


def stream() -> str:
    """Return an example of the whole response of ``threads.create``."""
    part = {"content_index": 0}
    updates = [
        {"type": "assistant_message.content_part.added", **part, "content": TEXT | {"text": ""}},
        {"type": "assistant_message.content_part.text_delta", **part, "delta": "Hel"},
        {"type": "assistant_message.content_part.text_delta", **part, "delta": "lo!"},
        {"type": "assistant_message.content_part.done", **part, "content": TEXT},
    ]
    events = [
        {"type": "thread.created", "thread": THREAD},
        {"type": "thread.item.done", "item": QUESTION},
        {"type": "stream_options", "stream_options": {"allow_cancel": True}},
        {"type": "thread.item.added", "item": ANSWER | {"content": []}},
        *({"type": "thread.item.updated", "item_id": ITEM_ID, "update": update} for update in updates),
        {"type": "thread.item.done", "item": ANSWER},
    ]
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events)
