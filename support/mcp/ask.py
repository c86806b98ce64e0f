"""A tool of our own: an MCP client asks the assistant, and waits for the whole answer."""

import json
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

from chatkit.store import NotFoundError
from rest_framework.exceptions import ParseError

from support.chat import protocol, server_errors, slots, streaming, unstored_messages
from support.chat.configured_server import chatkit_server
from support.mcp import scopes
from support.mcp.conversations import NOT_FOUND
from support.tools import ToolError, tool
from support.tools.calls import CUT_OFF

# An answer may call several tools, so its limit is longer. Most clients wait for a minute or more.
TIMEOUT_SECONDS = 120
MAX_ANSWER_LENGTH = 15_000  # characters. As JSON, it must fit into MAX_OUTPUT_LENGTH of a tool's result

TOO_MANY = "There are too many answers at once. Wait for one of them to end."
FAILED = "The assistant could not answer. Try again later."
NEEDS_CHAT = (
    "The assistant waits for the user, for example for an approval. An MCP client cannot give it: the user "
    "must open this conversation in the chat."
)

CHAT_ONLY = {"widget", "client_tool_call", "structured_input"}  # items that wait for the user in the chat

# The user of the request, for the limit of streams. A context of a team's own may have no user_id.
current_user_id: ContextVar[str] = ContextVar("current_user_id")


@tool(title="Ask the assistant", scope=scopes.ASSISTANT_ASK)
async def ask_assistant(context: Any, message: str, conversation_id: str = "") -> dict[str, Any]:
    """Send a message to the support assistant in the user's name, and return the answer. The chat shows both.

    Args:
        message: What the user wants to know or wants to have done.
        conversation_id: The conversation to continue. Empty for a new one.
    """
    body = _request(message, conversation_id)
    try:
        operation = protocol.parse(body)
        server = chatkit_server()
        result = await server.process(body, context)
        events = unstored_messages.events_of(result, operation, server)
        stream = await streaming.start(events, current_user_id.get())
    except ParseError as exc:
        raise ToolError(str(exc.detail)) from None
    except NotFoundError:
        raise ToolError(NOT_FOUND) from None
    except slots.StreamLimitReached:
        raise ToolError(TOO_MANY) from None
    except Exception as exc:
        refusal = server_errors.refusal_of(exc)
        if refusal is None or refusal.status_code >= 500:
            raise
        raise ToolError(str(refusal.detail)) from None
    # If the client leaves, this task is cancelled in ``events``. That cancels the stream, and waits for it.
    return await _answer(stream.events(), conversation_id)


def _request(message: str, conversation_id: str) -> bytes:
    user_input = {
        "content": [{"type": "input_text", "text": message}],
        "attachments": [],
        "inference_options": {},
    }
    if conversation_id:
        params = {"thread_id": conversation_id, "input": user_input}
        return json.dumps({"type": "threads.add_user_message", "params": params}).encode()
    return json.dumps({"type": "threads.create", "params": {"input": user_input}}).encode()


async def _answer(events: AsyncIterator[bytes], conversation_id: str) -> dict[str, Any]:
    """Return the answer and the id of its conversation. Raises ``ToolError`` if the assistant failed."""
    texts, notes, failure = list[str](), list[str](), ""
    async for event in _parsed(events):
        match event:
            case {"type": "thread.created", "thread": {"id": str() as created}}:
                conversation_id = created
            case {"type": "thread.item.done", "item": {"type": "assistant_message", "content": parts}}:
                texts.append("".join(part["text"] for part in parts))
            case {"type": "thread.item.done", "item": {"type": kind}} if kind in CHAT_ONLY:
                notes.append(NEEDS_CHAT)
            case {"type": "notice", "message": str() as notice}:
                notes.append(notice)
            case {"type": "error"}:
                failure = event.get("message") or FAILED
    text = "\n\n".join(texts)
    if failure or not (text or notes):
        where = f" The conversation is {conversation_id}." if conversation_id else ""
        raise ToolError((failure or FAILED) + where)
    if len(text) > MAX_ANSWER_LENGTH:
        text = text[:MAX_ANSWER_LENGTH] + CUT_OFF
    answer = {"answer": text, "conversation_id": conversation_id}
    return answer | ({"notes": list(dict.fromkeys(notes))} if notes else {})


async def _parsed(stream: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """Yield the events of a stream as JSON. Its chunks may have several events, and comments."""
    async for chunk in stream:
        for line in chunk.split(b"\n"):
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))
