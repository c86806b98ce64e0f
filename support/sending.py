"""What stays of a message whose sending ends early: all of it, or nothing.

The SDK stores a new conversation, then the attachments' rows, then the message, and the client may leave
in between. It then sends the message again, files included, and would find an empty conversation.
"""

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator

from chatkit.types import ThreadsAddUserMessageReq, ThreadsCreateReq
from django.db import transaction

from support.connections import on_database
from support.models import Attachment, Thread
from support.store import thread_of_this_task

logger = logging.getLogger(__name__)

# How the SDK's events begin.
THREAD_CREATED = b'data: {"type":"thread.created"'
MESSAGE_STORED = b'data: {"type":"thread.item.done"'


async def or_undone(
    events: AsyncIterable[bytes], request: ThreadsCreateReq | ThreadsAddUserMessageReq
) -> AsyncIterator[bytes]:
    """The events. If they end before the message is stored, what was stored for it is undone.

    A new thread is only told of when the message is stored: a client that knows of it would send the
    message there again. So a failure before that still has a status of its own.
    """
    thread_created = b""
    is_stored = False
    try:
        async for event in events:
            if event.startswith(THREAD_CREATED):
                thread_created = event
                continue
            is_stored = is_stored or event.startswith(MESSAGE_STORED)
            if thread_created:
                yield thread_created
                thread_created = b""
            yield event
        if thread_created:
            yield thread_created
    except (asyncio.CancelledError, Exception):
        if not is_stored:
            await _undo(request)
        raise


async def _undo(request: ThreadsCreateReq | ThreadsAddUserMessageReq) -> None:
    is_new, attachment_ids = isinstance(request, ThreadsCreateReq), request.params.input.attachments
    thread = thread_of_this_task()
    if thread is None or not (is_new or attachment_ids):
        return
    try:
        await undo(*thread, attachment_ids, is_new)
    except Exception:  # what ended the stream is what counts
        logger.exception("What was stored for a message that was not could not be removed")


@on_database
def undo(user_id: str, thread_id: str, attachment_ids: list[str], is_new: bool) -> None:
    """Release the attachments from the thread, and delete the thread if it is new and empty."""
    thread = Thread.objects.owned_by(user_id).filter(thread_id=thread_id)
    with transaction.atomic():
        # Locked: an item that is stored this moment is seen, or finds no thread.
        keys = list(thread.select_for_update().values_list("id", flat=True))
        attached = Attachment.objects.owned_by(user_id).filter(thread__in=keys)
        attached.filter(attachment_id__in=attachment_ids).release()
        if is_new:
            thread.filter(items=None).delete()
