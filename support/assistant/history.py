"""Makes the input of the model from the newest items of a conversation and the files attached to them."""

import asyncio
import base64
import json
import logging
from collections.abc import Sequence
from typing import Any

from agents import TResponseInputItem
from chatkit.agents import ThreadItemConverter
from chatkit.store import Store
from chatkit.types import (
    AssistantMessageItem,
    Attachment,
    ClientToolCallItem,
    HiddenContextItem,
    SDKHiddenContextItem,
    ThreadItem,
    ThreadMetadata,
    UserMessageItem,
    UserMessageTagContent,
    WidgetItem,
    WorkflowItem,
)
from openai.types.responses import (
    EasyInputMessageParam,
    ResponseInputContentParam,
    ResponseInputFileParam,
    ResponseInputImageParam,
    ResponseInputTextParam,
)

from support import media_types
from support.assistant.approvals import widgets as approval_widgets
from support.assistant.provider import thoughts
from support.context import RequestContext
from support.files import stored_files

logger = logging.getLogger(__name__)

MAX_ITEMS = 40
# Characters of all items together, as JSON. All attached texts together have the same limit of their own.
MAX_LENGTH = 200_000
MAX_FILE_BYTES = 20_000_000  # of all files together; every request to the model sends all files again
MAX_TEXT_LENGTH = 100_000  # characters of one attached text


# Stored after a message whose answer a guardrail has stopped. Staff read it in the admin.
STOPPED_BY_GUARDRAIL = (
    "A guardrail stopped the answer to this message. The assistant does not read the message."
)


async def convert_to_input(
    items: Sequence[ThreadItem],
) -> tuple[list[TResponseInputItem], list[TResponseInputItem]]:
    """Return two inputs: for all items but the newest, and for the newest item."""
    converter = Converter(items)
    return await converter.to_agent_input(items[:-1]), await converter.to_agent_input(items[-1:])


async def load_newest_items(
    store: Store[RequestContext], thread: ThreadMetadata, context: RequestContext
) -> list[ThreadItem]:
    """Return the newest items of the thread within MAX_ITEMS and MAX_LENGTH, oldest first.

    The newest item is always included. A tool's call and its result are one item, so they stay together.
    """
    page = await store.load_thread_items(thread.id, None, MAX_ITEMS, "desc", context)
    items, length = page.data[:1], 0
    for item in page.data[1:]:
        # The model does not get thoughts, and only a sentence of an approval. So their length is not counted.
        is_thought = isinstance(item, WorkflowItem) and item.workflow.type == "reasoning"
        if not (is_thought or approval_widgets.is_approval(item)):
            length += len(item.model_dump_json())
        if length > MAX_LENGTH:
            break
        items.append(item)
    return _without_stopped(items[::-1])


def _without_stopped(items: Sequence[ThreadItem]) -> list[ThreadItem]:
    """Remove each message whose answer a guardrail has stopped, up to the mark that says so.

    The guardrail would read the message again with every later message, and stop all their answers too.
    """
    kept: list[ThreadItem] = []
    for item in items:
        if not (isinstance(item, SDKHiddenContextItem) and item.content == STOPPED_BY_GUARDRAIL):
            kept.append(item)
            continue
        while kept and not isinstance(kept.pop(), UserMessageItem):
            pass
    return kept


class Converter(ThreadItemConverter):
    """Converts ChatKit's items to input items of the Agents SDK.

    It overrides methods of the ChatKit SDK that raise an exception, or whose result a model may not accept.
    """

    def __init__(self, items: Sequence[ThreadItem]) -> None:
        self._ids_over_limit = _attachments_over_limit(items)

    async def user_message_to_input(self, item: UserMessageItem, is_last_message: bool = True) -> Any:
        # Put a sentence with the file's name before each picture and document. A model that cannot read the
        # file still gets the sentence.
        messages: Any = await super().user_message_to_input(item, is_last_message)
        text, *attached = messages[0]["content"]
        content = [text]
        for attachment, part in zip(item.attachments, attached, strict=True):
            content += [part] if part["type"] == "input_text" else [_introduction(attachment), part]
        messages[0]["content"] = content
        return messages

    async def assistant_message_to_input(self, item: AssistantMessageItem) -> TResponseInputItem | None:
        # Return plain text: Chat Completions does not accept the content parts that the ChatKit SDK makes.
        # Remove thoughts: earlier versions of this app stored answers with thoughts.
        text = thoughts.remove("".join(part.text for part in item.content))
        return EasyInputMessageParam(type="message", role="assistant", content=text) if text else None

    async def hidden_context_to_input(
        self, item: HiddenContextItem
    ) -> TResponseInputItem | list[TResponseInputItem] | None:
        # The ChatKit SDK's method raises an exception for any content but text. With such an item, no message
        # of the conversation could be answered any more.
        if not isinstance(item.content, str):
            item = item.model_copy(update={"content": json.dumps(item.content, ensure_ascii=False)})
        return await super().hidden_context_to_input(item)

    async def client_tool_call_to_input(self, item: ClientToolCallItem) -> TResponseInputItem | None:
        # Return a message, and not a tool call. The id of a call belongs to the model that made it, and the
        # model of the next answer may not have the tool.
        if item.status == "pending":
            return None
        call = {"tool": item.name, "arguments": item.arguments, "result": item.output}
        text = f"A tool was called in the user's browser:\n{json.dumps(call, ensure_ascii=False)}"
        return EasyInputMessageParam(type="message", role="user", content=text)

    async def widget_to_input(self, item: WidgetItem) -> TResponseInputItem | list[TResponseInputItem] | None:
        # The ChatKit SDK's method gives the model the JSON of the whole widget.
        if not approval_widgets.is_approval(item):
            return await super().widget_to_input(item)
        return EasyInputMessageParam(type="message", role="user", content=item.copy_text or "")

    async def tag_to_message_content(self, tag: UserMessageTagContent) -> ResponseInputTextParam:
        # The ChatKit SDK's method raises NotImplementedError.
        return _text(json.dumps({tag.text: tag.data}, ensure_ascii=False))

    async def attachment_to_message_content(self, attachment: Attachment) -> ResponseInputContentParam:
        named = _named(attachment)
        if attachment.id in self._ids_over_limit:
            return _text(f"{named}, too much to show you beside the others.")
        try:
            content = await asyncio.to_thread(stored_files.read, attachment)
        except FileNotFoundError:
            return _text(f"{named}, which has been deleted since.")
        except Exception:  # a storage may raise any exception, and the answer must not fail
            logger.exception("An attached file cannot be read")
            return _text(f"{named}, which cannot be read at the moment.")
        if attachment.mime_type in media_types.TEXTS:
            text = stored_files.decode_text(attachment, content)
            cut = f", its first {MAX_TEXT_LENGTH} characters" if len(text) > MAX_TEXT_LENGTH else ""
            return _text(f"{named}{cut}:\n{text[:MAX_TEXT_LENGTH]}")
        data = f"data:{attachment.mime_type};base64,{base64.b64encode(content).decode()}"
        if attachment.mime_type in media_types.IMAGES:
            return ResponseInputImageParam(type="input_image", image_url=data, detail="auto")
        return ResponseInputFileParam(type="input_file", filename=attachment.name, file_data=data)


def _text(text: str) -> ResponseInputTextParam:
    return ResponseInputTextParam(type="input_text", text=text)


def _named(attachment: Attachment) -> str:
    """The beginning of a sentence about the attachment. The name is quoted, because the user chose it."""
    return f"The user attached a file named {json.dumps(attachment.name, ensure_ascii=False)}"


def _introduction(attachment: Attachment) -> ResponseInputTextParam:
    kind = "an image" if attachment.mime_type in media_types.IMAGES else "a document"
    return _text(f"{_named(attachment)}, {kind}:")


def _attachments_over_limit(items: Sequence[ThreadItem]) -> set[str]:
    """Return the ids of the attachments that the model does not get, because the limits are reached.

    The sizes are added up from the newest message to the oldest. The first attachment in this order is always
    sent, even if it alone is over a limit.
    """
    attached = [
        attachment
        for item in reversed(items)
        if isinstance(item, UserMessageItem)
        for attachment in item.attachments
    ]
    over_limit, file_bytes, text_length = set(), 0, 0
    for number, attachment in enumerate(attached):
        size = int((attachment.metadata or {}).get("size", 0))
        file_bytes += size
        text_length += min(size, MAX_TEXT_LENGTH) if attachment.mime_type in media_types.TEXTS else 0
        if number and (file_bytes > MAX_FILE_BYTES or text_length > MAX_LENGTH):
            over_limit.add(attachment.id)
    return over_limit
