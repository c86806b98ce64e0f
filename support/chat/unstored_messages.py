"""Cleans up after a request that ended before its message was stored.

The ChatKit SDK saves a new thread first, then it sets the thread of the attachments, and then it saves the
message. A client that leaves before the end sends the message and the attachments again later. Without this
cleanup, an empty thread would remain, and the attachments would belong to the empty thread.

A message without attachments needs no cleanup: our store writes it and its new thread in one statement.
"""

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator
from functools import partial
from typing import Any

from chatkit.types import ChatKitReq, ThreadsAddUserMessageReq, ThreadsCreateReq
from django.db import transaction

from runtime.database_calls import on_database
from support.chat import protocol
from support.chat.configured_server import uses_only_our_store
from support.context import Owner
from support.models import Attachment, Thread
from support.storage import known_thread
from support.storage.store import Store

logger = logging.getLogger(__name__)

# The first bytes of two of the ChatKit SDK's events.
THREAD_CREATED = b'data: {"type":"thread.created"'
MESSAGE_STORED = b'data: {"type":"thread.item.done"'


def events_of(
    result: Any, operation: ChatKitReq | protocol.OtherOperation, server: Any
) -> AsyncIterable[bytes]:
    """Return the events of a stream that ``server.process`` has returned for this operation."""
    is_only_our_store = uses_only_our_store(server)
    # The ChatKit SDK's result only passes these events on. A team's own result may change them.
    events: AsyncIterable[bytes] = result.json_events if is_only_our_store else result
    if isinstance(operation, ThreadsCreateReq | ThreadsAddUserMessageReq) and isinstance(server.store, Store):
        return undo_unless_stored(events, operation, is_only_our_store)
    return events


async def undo_unless_stored(
    events: AsyncIterable[bytes],
    request: ThreadsCreateReq | ThreadsAddUserMessageReq,
    is_only_our_store: bool,
) -> AsyncIterator[bytes]:
    """Yield the events. If the stream fails or is cancelled before the message is stored, undo its writes.

    The event ``thread.created`` is yielded only after the message is stored. There are two reasons:

    - If the request fails, a client that knows the new thread would send the message to that thread again,
      but this function has deleted it.
    - Until the first event is yielded, a failure can still be answered with a status.

    ``is_only_our_store``: whether the ChatKit SDK's own code saves the thread and the message.
    """
    if is_only_our_store and isinstance(request, ThreadsCreateReq) and not request.params.input.attachments:
        known_thread.stores_with_first_message()
    events = aiter(events)
    thread_created = b""
    undo: Any = partial(_undo, request)
    stored_in = None
    del request  # an answer may take minutes: let the memory of the request go
    try:
        async for event in events:
            if event.startswith(THREAD_CREATED):
                thread_created = event
                continue
            if is_stored := event.startswith(MESSAGE_STORED):
                undo, stored_in = None, known_thread.of_current_task()
            if thread_created:
                yield thread_created
                thread_created = b""
            yield event
            if is_stored:
                break
        if thread_created:
            yield thread_created
        if stored_in:
            known_thread.remember(*stored_in)  # the stream may have begun outside of its task
        async for event in events:
            yield event
    except (asyncio.CancelledError, Exception):
        if undo is not None:
            await undo()
        raise


async def _undo(request: ThreadsCreateReq | ThreadsAddUserMessageReq) -> None:
    """Undo the writes to the thread that the current task knows. A failure is only logged."""
    is_new, attachment_ids = isinstance(request, ThreadsCreateReq), request.params.input.attachments
    thread = known_thread.of_current_task()
    if thread is None or not (is_new or attachment_ids):
        return
    try:
        await _undo_writes(*thread, attachment_ids, is_new)
    except Exception:  # the caller raises the exception that ended the stream
        logger.exception("Could not undo the writes for a message that was not stored")


@on_database
def _undo_writes(owner: Owner, thread_id: str, attachment_ids: list[str], is_new: bool) -> None:
    """Release the attachments from the thread. Delete the thread if it is new and empty."""
    thread = Thread.objects.visible_to(owner).filter(thread_id=thread_id)
    with transaction.atomic():
        # This lock waits for a concurrent insert of an item. An insert that comes later waits for this
        # transaction, and then finds no thread.
        keys = list(thread.select_for_update().values_list("id", flat=True))
        attached = Attachment.objects.owned_by(owner.user_id).filter(thread__in=keys)
        attached.filter(attachment_id__in=attachment_ids).release()
        if is_new:
            thread.filter(items=None).delete()
