"""Documents ChatKit's operations: a description, the schema of the response, and an example of a request.

``support.openapi.example_responses`` has the examples of responses.
"""

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

MESSAGE_INPUT = {
    "content": [{"type": "input_text", "text": "Hello"}],
    "attachments": [],
    "inference_options": {},
}
ACTION = {"type": "choose", "payload": {"seat": "2C"}}


@dataclass(frozen=True)
class Operation:
    """The documentation of an operation.

    ``response``: the name of a schema. It describes the JSON of the response, or each event of the stream.
    ``params``: an example.
    """

    description: str
    response: str
    params: Json = field(default_factory=dict)


OPERATIONS: dict[str, Operation] = {
    "threads.create": Operation(
        "Start a conversation with a message. The assistant answers.", STREAM, {"input": MESSAGE_INPUT}
    ),
    "threads.add_user_message": Operation(
        "Add a message to a conversation. The assistant answers.",
        STREAM,
        {"thread_id": THREAD_ID, "input": MESSAGE_INPUT},
    ),
    "threads.add_client_tool_output": Operation(
        "Add the result of the pending client tool call. The assistant continues.",
        STREAM,
        {"thread_id": THREAD_ID, "result": {"ok": True}},
    ),
    "threads.add_structured_input": Operation(
        "Answer or skip the questions of a pending `structured_input` item. The assistant continues.",
        STREAM,
        {
            "thread_id": THREAD_ID,
            "item_id": ITEM_ID,
            "input": {"status": "answered", "answers": {"q1": {"values": ["Low"]}}},
        },
    ),
    "threads.retry_after_item": Operation(
        "Delete all items after a message of the user. The assistant answers this message again.",
        STREAM,
        {"thread_id": THREAD_ID, "item_id": ITEM_ID},
    ),
    "threads.custom_action": Operation(
        "Run an action of a widget.", STREAM, {"thread_id": THREAD_ID, "item_id": ITEM_ID, "action": ACTION}
    ),
    "threads.sync_custom_action": Operation(
        "Run an action of a widget. The response contains the changed item.",
        "SyncCustomActionResponse",
        {"thread_id": THREAD_ID, "item_id": ITEM_ID, "action": ACTION},
    ),
    "threads.get_by_id": Operation(
        "Get a conversation with its oldest 20 items.", "Thread", {"thread_id": THREAD_ID}
    ),
    "threads.list": Operation(
        "List the user's conversations, without their items.", "ThreadPage", {"limit": 20, "order": "desc"}
    ),
    "threads.update": Operation(
        "Set the title of a conversation.", "Thread", {"thread_id": THREAD_ID, "title": "Where is my parcel?"}
    ),
    "threads.delete": Operation(
        "Delete a conversation with its items and files. The response is the same if it does not exist.",
        NOTHING,
        {"thread_id": THREAD_ID},
    ),
    "items.list": Operation(
        "List the items of a conversation. The list is empty if the conversation does not exist.",
        "ThreadItemPage",
        {"thread_id": THREAD_ID, "limit": 20, "order": "asc"},
    ),
    "items.feedback": Operation(
        "Rate items of the assistant as `positive` or `negative`.",
        NOTHING,
        {"thread_id": THREAD_ID, "item_ids": [ITEM_ID], "kind": "positive"},
    ),
    "attachments.create": Operation(
        "Announce a file. `upload_descriptor` in the response has the URL for the upload.",
        "Attachment",
        {"name": "parcel.png", "size": 12345, "mime_type": "image/png"},
    ),
    "attachments.delete": Operation(
        "Delete an attachment and its file.", NOTHING, {"attachment_id": ATTACHMENT_ID}
    ),
    "input.transcribe": Operation(
        "Turn a recording of speech into text.",
        "TranscriptionResult",
        {"audio_base64": "GkXfo59ChoEBQveBAULygQRC84EIQoKEd2VibQ==", "mime_type": "audio/webm;codecs=opus"},
    ),
}


def streaming_operations() -> set[str]:
    """Return the names of the operations whose response is a stream."""
    return {kind.model_fields["type"].default for kind in get_args(types.StreamingReq)}


def json_schemas() -> list[str]:
    """Return the names of the schemas of all JSON responses, without repetitions."""
    responses = [operation.response for operation in OPERATIONS.values() if operation.response != STREAM]
    return list(dict.fromkeys(responses))


def table() -> str:
    """Return a table of all operations, in Markdown."""
    rows = []
    for name, operation in OPERATIONS.items():
        kind = "stream of " if operation.response == STREAM else ""
        rows.append(f"| `{name}` | {operation.description} | {kind}`{operation.response}` |")
    return "\n".join(["| `type` | what it does | response |", "|---|---|---|", *rows])


def example(name: str) -> Json:
    """Return an example of a request's body. Each call returns a new copy."""
    return {"type": name, "params": deepcopy(OPERATIONS[name].params)}
