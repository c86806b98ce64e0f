"""Makes the model's input from a conversation: its newest items, with the files attached to them."""

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
    ThreadItem,
    ThreadMetadata,
    UserMessageItem,
    UserMessageTagContent,
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
from support.assistant.provider import thoughts
from support.context import RequestContext
from support.files import stored_files

logger = logging.getLogger(__name__)

MAX_ITEMS = 40
MAX_LENGTH = 200_000  # characters of the items as JSON; attached texts may have the same number of characters
MAX_FILE_BYTES = 20_000_000  # in all files together; each request sends them again
MAX_TEXT_LENGTH = 100_000  # characters of one attached text


async def split_input(
    items: Sequence[ThreadItem],
) -> tuple[list[TResponseInputItem], list[TResponseInputItem]]:
    """The input for the items before the newest one, and for the newest one."""
    converter = Converter(items)
    return await converter.to_agent_input(items[:-1]), await converter.to_agent_input(items[-1:])


async def newest_items(
    store: Store[RequestContext], thread: ThreadMetadata, context: RequestContext
) -> list[ThreadItem]:
    """The newest items, oldest first. A tool's call and its result are one item, so both are in or out."""
    page = await store.load_thread_items(thread.id, None, MAX_ITEMS, "desc", context)
    items, length = page.data[:1], 0
    for item in page.data[1:]:
        # Thoughts are not sent to the model, so they have no length.
        if not (isinstance(item, WorkflowItem) and item.workflow.type == "reasoning"):
            length += len(item.model_dump_json())
        if length > MAX_LENGTH:
            break
        items.append(item)
    return items[::-1]


class Converter(ThreadItemConverter):
    """Converts the items to the Agents SDK's input."""

    def __init__(self, items: Sequence[ThreadItem]) -> None:
        self._left_out = _attachments_over_limit(items)

    async def user_message_to_input(self, item: UserMessageItem, is_last_message: bool = True) -> Any:
        # A sentence before each picture or file names it. If the model cannot read files, it still gets the
        # sentence.
        messages: Any = await super().user_message_to_input(item, is_last_message)
        text, *attached = messages[0]["content"]
        content = [text]
        for attachment, part in zip(item.attachments, attached, strict=True):
            content += [part] if part["type"] == "input_text" else [_introduction(attachment), part]
        messages[0]["content"] = content
        return messages

    async def assistant_message_to_input(self, item: AssistantMessageItem) -> TResponseInputItem | None:
        # As plain text: Chat Completions does not accept the content parts that the SDK's method makes.
        # Without thoughts: answers that earlier versions stored may contain some.
        text = thoughts.remove("".join(part.text for part in item.content))
        return EasyInputMessageParam(type="message", role="assistant", content=text) if text else None

    async def hidden_context_to_input(
        self, item: HiddenContextItem
    ) -> TResponseInputItem | list[TResponseInputItem] | None:
        # The SDK's method raises an exception for any content but text. Then no message of the thread could
        # be answered.
        if not isinstance(item.content, str):
            item = item.model_copy(update={"content": json.dumps(item.content, ensure_ascii=False)})
        return await super().hidden_context_to_input(item)

    async def client_tool_call_to_input(self, item: ClientToolCallItem) -> TResponseInputItem | None:
        # As text: the id of the call belongs to the model that made the call, and the next model may not have
        # the tool.
        if item.status == "pending":
            return None
        call = {"tool": item.name, "arguments": item.arguments, "result": item.output}
        text = f"A tool was called in the user's browser:\n{json.dumps(call, ensure_ascii=False)}"
        return EasyInputMessageParam(type="message", role="user", content=text)

    async def tag_to_message_content(self, tag: UserMessageTagContent) -> ResponseInputTextParam:
        # The SDK's method raises an exception.
        return _text(json.dumps({tag.text: tag.data}, ensure_ascii=False))

    async def attachment_to_message_content(self, attachment: Attachment) -> ResponseInputContentParam:
        named = _named(attachment)
        if attachment.id in self._left_out:
            return _text(f"{named}, too much to show you beside the others.")
        try:
            content = await asyncio.to_thread(stored_files.read, attachment)
        except FileNotFoundError:
            return _text(f"{named}, which has been deleted since.")
        except Exception:  # a storage may raise anything, and the conversation must go on
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
    """The ids of the attachments that are past the limits, counted from the newest message.

    The first attachment of the newest message is never past them.
    """
    attached = [
        attachment
        for item in reversed(items)
        if isinstance(item, UserMessageItem)
        for attachment in item.attachments
    ]
    left_out, file_bytes, text_length = set(), 0, 0
    for number, attachment in enumerate(attached):
        size = int((attachment.metadata or {}).get("size", 0))
        file_bytes += size
        text_length += min(size, MAX_TEXT_LENGTH) if attachment.mime_type in media_types.TEXTS else 0
        if number and (file_bytes > MAX_FILE_BYTES or text_length > MAX_LENGTH):
            left_out.add(attachment.id)
    return left_out
