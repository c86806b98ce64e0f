"""Undoes what was stored for a message that was not stored itself.

The SDK stores a new conversation, then the attachments' rows, then the message. A client that leaves in
between sends its message again, with the files. It would find an empty conversation beside the new one.
"""

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator

from chatkit.types import ThreadsAddUserMessageReq, ThreadsCreateReq
from django.db import transaction

from runtime.worker_threads import on_database
from support.models import Attachment, Thread
from support.storage.store import thread_of_this_task

logger = logging.getLogger(__name__)

# How the SDK's events begin.
THREAD_CREATED = b'data: {"type":"thread.created"'
MESSAGE_STORED = b'data: {"type":"thread.item.done"'


async def undo_unless_stored(
    events: AsyncIterable[bytes], request: ThreadsCreateReq | ThreadsAddUserMessageReq
) -> AsyncIterator[bytes]:
    """Pass on the events. If they end before the message is stored, undo what was stored for it.

    ``thread.created`` is held back until the message is stored: a client that knew the thread would send the
    message there again. So a failure before that can still be answered with a status.
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
    except Exception:  # raise what ended the stream, and not this
        logger.exception("Could not undo the writes for a message that was not stored")


@on_database
def undo(user_id: str, thread_id: str, attachment_ids: list[str], is_new: bool) -> None:
    """Release the attachments from the thread, and delete the thread if it is new and empty."""
    thread = Thread.objects.owned_by(user_id).filter(thread_id=thread_id)
    with transaction.atomic():
        # Locked: an item that is stored at this moment either is seen, or finds no thread.
        keys = list(thread.select_for_update().values_list("id", flat=True))
        attached = Attachment.objects.owned_by(user_id).filter(thread__in=keys)
        attached.filter(attachment_id__in=attachment_ids).release()
        if is_new:
            thread.filter(items=None).delete()
