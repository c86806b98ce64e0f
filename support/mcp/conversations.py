"""Two tools of our own: an MCP client lists and reads the conversations of its user.

They use the store of the configured ChatKit server, so they also work with a team's own store.
"""

import json
from typing import Annotated, Any

from chatkit.store import NotFoundError
from chatkit.types import AssistantMessageItem, ThreadItem, UserMessageItem
from pydantic import Field

from support.assistant.provider import thoughts
from support.chat.configured_server import chatkit_server
from support.mcp import scopes
from support.storage.serialization import as_utc
from support.tools import ToolError, tool
from support.tools.calls import CUT_OFF

MAX_PAGE = 50  # conversations or messages
# Characters of one message, and of a page as JSON. A page must fit into MAX_OUTPUT_LENGTH of a tool's result.
MAX_TEXT_LENGTH = 4_000
MAX_PAGE_LENGTH = 18_000

NOT_FOUND = "There is no conversation with this id."
WRONG_CURSOR = "There is no page after this value. Use next_page of an earlier result."

Limit = Annotated[int, Field(ge=1, le=MAX_PAGE)]


@tool(title="List your conversations", scope=scopes.CONVERSATIONS_READ, read_only=True)
async def list_conversations(context: Any, limit: Limit = 20, after: str = "") -> dict[str, Any]:
    """List the user's own conversations with the assistant, newest first: their ids, titles and dates.

    Args:
        limit: How many conversations to list.
        after: The value of next_page in an earlier result, for the next page. Empty for the first page.
    """
    try:
        page = await chatkit_server().store.load_threads(limit, after or None, "desc", context)
    except NotFoundError:
        raise ToolError(WRONG_CURSOR) from None
    listed = [
        {"id": thread.id, "title": thread.title, "created_at": as_utc(thread.created_at).isoformat()}
        for thread in page.data
    ]
    return {"conversations": listed, "next_page": page.after if page.has_more else None}


@tool(title="Read a conversation", scope=scopes.CONVERSATIONS_READ, read_only=True)
async def read_conversation(
    context: Any, conversation_id: str, limit: Limit = 20, after: str = ""
) -> dict[str, Any]:
    """Read the messages of one of the user's own conversations, newest first. Files are listed by name only.

    Args:
        conversation_id: The id of the conversation, as list_conversations returns it.
        limit: How many entries of the conversation to look at.
        after: The value of next_page in an earlier result, for older messages. Empty for the newest.
    """
    store = chatkit_server().store
    try:
        thread = await store.load_thread(conversation_id, context)
    except NotFoundError:  # somebody else's conversation, too
        raise ToolError(NOT_FOUND) from None
    try:
        page = await store.load_thread_items(thread.id, after or None, limit, "desc", context)
    except NotFoundError:
        raise ToolError(WRONG_CURSOR) from None
    messages = list[dict[str, Any]]()
    length, next_page = 0, page.after if page.has_more else None
    for item in page.data:
        if (message := _message(item)) is None:
            continue
        length += len(json.dumps(message, ensure_ascii=False))
        if messages and length > MAX_PAGE_LENGTH:
            next_page = messages[-1]["id"]  # the store also takes an item's id in place of a cursor
            break
        messages.append(message)
    return {"id": thread.id, "title": thread.title, "messages": messages, "next_page": next_page}


def _message(item: ThreadItem) -> dict[str, Any] | None:
    """Return what the user sees of a message, or ``None``: hidden context and tools' calls are not shown."""
    match item:
        case UserMessageItem():
            author, text = "user", "".join(part.text for part in item.content)
        case AssistantMessageItem():
            author, text = "assistant", thoughts.remove("".join(part.text for part in item.content))
        case _:
            return None
    sent_at = as_utc(item.created_at).isoformat()
    message: dict[str, Any] = {"id": item.id, "from": author, "created_at": sent_at, "text": _shorten(text)}
    if isinstance(item, UserMessageItem) and item.attachments:
        message["attachments"] = [attachment.name for attachment in item.attachments]
    return message


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_TEXT_LENGTH else text[:MAX_TEXT_LENGTH] + CUT_OFF
