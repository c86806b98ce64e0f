"""ChatKit's operations for those who read about them: what each does, what it answers, and an example."""

import json
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, get_args

from chatkit import types

Json = dict[str, Any]

STREAM = "ThreadStreamEvent"
NOTHING = "Nothing"

THREAD_ID = "thr_5f0c31d2a4b94f6e8d7c6b5a49382716"
ITEM_ID = "msg_9a8b7c6d5e4f40312233445566778899"
ATTACHMENT_ID = "atc_0123456789abcdef0123456789abcdef"

SAYS_HELLO = {
    "content": [{"type": "input_text", "text": "Hello"}],
    "attachments": [],
    "inference_options": {},
}
ACTION = {"type": "choose", "payload": {"seat": "2C"}}


@dataclass(frozen=True)
class Operation:
    """``answer``: the schema of its JSON, or of each event of its stream."""

    does: str
    answer: str
    params: Json = field(default_factory=dict)


OPERATIONS: dict[str, Operation] = {
    "threads.create": Operation(
        "Begin a conversation with a message, and have it answered.", STREAM, {"input": SAYS_HELLO}
    ),
    "threads.add_user_message": Operation(
        "Say something more, and have it answered.", STREAM, {"thread_id": THREAD_ID, "input": SAYS_HELLO}
    ),
    "threads.add_client_tool_output": Operation(
        "Give the pending client tool call its result; the assistant goes on with it.",
        STREAM,
        {"thread_id": THREAD_ID, "result": {"ok": True}},
    ),
    "threads.add_structured_input": Operation(
        "Answer the questions of a pending `structured_input` item, or skip them.",
        STREAM,
        {
            "thread_id": THREAD_ID,
            "item_id": ITEM_ID,
            "input": {"status": "answered", "answers": {"q1": {"values": ["Low"]}}},
        },
    ),
    "threads.retry_after_item": Operation(
        "Take back everything after a user's message, and have it answered anew.",
        STREAM,
        {"thread_id": THREAD_ID, "item_id": ITEM_ID},
    ),
    "threads.custom_action": Operation(
        "Do what a widget offers.", STREAM, {"thread_id": THREAD_ID, "item_id": ITEM_ID, "action": ACTION}
    ),
    "threads.sync_custom_action": Operation(
        "The same, answered at once by the item that has changed.",
        "SyncCustomActionResponse",
        {"thread_id": THREAD_ID, "item_id": ITEM_ID, "action": ACTION},
    ),
    "threads.get_by_id": Operation(
        "A conversation with its first twenty items.", "Thread", {"thread_id": THREAD_ID}
    ),
    "threads.list": Operation(
        "The user's conversations, without their items.", "ThreadPage", {"limit": 20, "order": "desc"}
    ),
    "threads.update": Operation(
        "Give a conversation a title.", "Thread", {"thread_id": THREAD_ID, "title": "Where is my parcel?"}
    ),
    "threads.delete": Operation(
        "Delete a conversation with its items and files; of one that is not there, nothing.",
        NOTHING,
        {"thread_id": THREAD_ID},
    ),
    "items.list": Operation(
        "The items of a conversation; of one that is not there, none.",
        "ThreadItemPage",
        {"thread_id": THREAD_ID, "limit": 20, "order": "asc"},
    ),
    "items.feedback": Operation(
        "Rate answers.", NOTHING, {"thread_id": THREAD_ID, "item_ids": [ITEM_ID], "kind": "positive"}
    ),
    "attachments.create": Operation(
        "Announce a file, and learn by `upload_descriptor` where to put it.",
        "Attachment",
        {"name": "parcel.png", "size": 12345, "mime_type": "image/png"},
    ),
    "attachments.delete": Operation(
        "Delete a file that was attached.", NOTHING, {"attachment_id": ATTACHMENT_ID}
    ),
    "input.transcribe": Operation(
        "Write down what was dictated.",
        "TranscriptionResult",
        {"audio_base64": "GkXfo59ChoEBQveBAULygQRC84EIQoKEd2VibQ==", "mime_type": "audio/webm;codecs=opus"},
    ),
}


def streaming() -> set[str]:
    """The operations that the SDK answers with a stream."""
    return {kind.model_fields["type"].default for kind in get_args(types.StreamingReq)}


def json_answers() -> list[str]:
    return [operation.answer for operation in OPERATIONS.values() if operation.answer != STREAM]


def table() -> str:
    """Of all operations, in Markdown."""
    rows = (
        f"| `{name}` | {operation.does} | `{operation.answer}`{' …' if operation.answer == STREAM else ''} |"
        for name, operation in OPERATIONS.items()
    )
    return "\n".join(["| `type` | | answer |", "|---|---|---|", *rows])


def example(name: str) -> Json:
    """A request's body, which the caller may change."""
    return {"type": name, "params": deepcopy(OPERATIONS[name].params)}


def example_stream() -> str:
    """What ``threads.create`` is answered, from the first byte to the last."""
    of_thread = {"thread_id": THREAD_ID, "created_at": "2026-03-01T12:30:15.123456"}
    thread = {
        "id": THREAD_ID,
        "created_at": of_thread["created_at"],
        "status": {"type": "active"},
        "metadata": {},
        "items": {"data": [], "has_more": False},
    }
    said = {"id": ITEM_ID.replace("9", "1"), **of_thread, "type": "user_message", **SAYS_HELLO}
    answer = {"id": ITEM_ID, **of_thread, "type": "assistant_message", "content": []}
    whole = {"type": "output_text", "text": "Hello!", "annotations": []}
    part = {"content_index": 0}
    updates = [
        {"type": "assistant_message.content_part.added", **part, "content": whole | {"text": ""}},
        {"type": "assistant_message.content_part.text_delta", **part, "delta": "Hel"},
        {"type": "assistant_message.content_part.text_delta", **part, "delta": "lo!"},
        {"type": "assistant_message.content_part.done", **part, "content": whole},
    ]
    events = [
        {"type": "thread.created", "thread": thread},
        {"type": "thread.item.done", "item": said},
        {"type": "stream_options", "stream_options": {"allow_cancel": True}},
        {"type": "thread.item.added", "item": answer},
        *({"type": "thread.item.updated", "item_id": ITEM_ID, "update": update} for update in updates),
        {"type": "thread.item.done", "item": answer | {"content": [whole]}},
    ]
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events)
