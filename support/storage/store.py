"""ChatKit's Store on Django's ORM. Whatever it reads or writes, the query starts from the owner."""

import asyncio
import json
import secrets
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar
from weakref import ref

from chatkit.store import NotFoundError, StoreItemType, default_generate_id
from chatkit.store import Store as ChatKitStore
from chatkit.types import Attachment, Page, ThreadItem, ThreadMetadata, UserMessageItem
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Subquery
from django.db.models.functions import Coalesce

from runtime.worker_threads import on_database, retry_on_outage
from support.files import stored_files, validation
from support.models import Attachment as AttachmentRow
from support.models import Thread
from support.storage import reads
from support.storage.serialization import (
    as_attachment,
    as_attachment_data,
    as_data,
    as_item,
    as_thread,
    in_utc,
)

MAX_ATTACHMENTS = 10  # of a message; as many as ChatKit's client lets one choose

# Upserts in SQL: one trip to the database each, where the ORM's (bulk_create) is a BEGIN, the statement
# and a COMMIT. The owner is checked by the insert itself: no such thread of theirs, no row. FOR KEY
# SHARE: while the thread is being deleted, this waits, and then finds none.
SAVE_THREAD = """
    INSERT INTO support_thread (user_id, thread_id, title, created_at, data) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (user_id, thread_id) DO UPDATE SET title = excluded.title, data = excluded.data
"""
INSERT_ITEM = """
    INSERT INTO support_item (thread_id, item_id, type, created_at, data)
    SELECT id, %s, %s, %s, %s FROM support_thread WHERE user_id = %s AND thread_id = %s FOR KEY SHARE
    ON CONFLICT (thread_id, item_id) DO """

# It also returns which attachments the item carried.
DELETE_ITEM = """
    DELETE FROM support_item WHERE item_id = %s AND thread_id = (
        SELECT id FROM support_thread WHERE user_id = %s AND thread_id = %s
    )
    RETURNING thread_id, ARRAY(SELECT jsonb_path_query(data, '$.attachments[*].id') #>> '{}')
"""
SAVE_ATTACHMENT = """
    INSERT INTO support_attachment (user_id, attachment_id, thread_id, file, created_at, data)
    VALUES (%s, %s, (SELECT id FROM support_thread WHERE user_id = %s AND thread_id = %s), '', now(), %s)
    ON CONFLICT (user_id, attachment_id) DO UPDATE
    SET data = excluded.data, thread_id = coalesce(excluded.thread_id, support_attachment.thread_id)
"""

# The thread that a task has loaded or saved. It exists: should somebody delete it meanwhile, during an
# answer perhaps, a new title must not bring it back.
_at_hand: ContextVar[Any] = ContextVar("at_hand", default=None)


class Owner(Protocol):
    """All the store asks of a context."""

    @property
    def user_id(self) -> str: ...


OwnerT = TypeVar("OwnerT", bound=Owner)


class Store(ChatKitStore[OwnerT]):
    """Threads and items of ``context.user_id``. Somebody else's are as absent as missing ones."""

    # The SDK's own ids have 32 random bits: even odds of a clash near 77,000. These have 96 more.
    def generate_thread_id(self, context: OwnerT) -> str:
        return new_id("thread")

    def generate_item_id(self, item_type: StoreItemType, thread: ThreadMetadata, context: OwnerT) -> str:
        return new_id(item_type)

    async def load_thread(self, thread_id: str, context: OwnerT) -> ThreadMetadata:
        thread = await load_thread(context.user_id, thread_id)
        _at_hand.set(_in_this_task(context.user_id, thread_id))
        return thread

    # The whole of it, each time: of two who change a thread at once, the last one's stays.
    async def save_thread(self, thread: ThreadMetadata, context: OwnerT) -> None:
        this = _in_this_task(context.user_id, thread.id)
        save = change_thread if _at_hand.get() == this else save_thread
        try:
            await save(context.user_id, thread)
        except asyncio.CancelledError:
            _at_hand.set(this)  # a database call that has begun still completes
            raise
        _at_hand.set(this)

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: OwnerT
    ) -> Page[ThreadMetadata]:
        return await load_threads(context.user_id, limit, after, order)

    async def delete_thread(self, thread_id: str, context: OwnerT) -> None:
        await delete_thread(context.user_id, thread_id)
        _at_hand.set(None)

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: OwnerT
    ) -> Page[ThreadItem]:
        return await load_items(context.user_id, thread_id, after, limit, order)

    # The SDK adds one id twice (a workflow that went on, a stream that was cancelled while its last
    # item was being stored), so adding is saving.
    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: OwnerT) -> None:
        await save_item(context.user_id, thread_id, item)

    async def save_item(self, thread_id: str, item: ThreadItem, context: OwnerT) -> None:
        await save_item(context.user_id, thread_id, item)

    async def add_missing_items(self, thread_id: str, items: list[ThreadItem], context: OwnerT) -> None:
        """Add those of the items that are not stored yet, in one call that no cancellation interrupts."""
        await add_missing_items(context.user_id, thread_id, items)

    async def load_item(self, thread_id: str, item_id: str, context: OwnerT) -> ThreadItem:
        return await load_item(context.user_id, thread_id, item_id)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: OwnerT) -> None:
        await delete_item(context.user_id, thread_id, item_id)

    async def save_attachment(self, attachment: Attachment, context: OwnerT) -> None:
        await save_attachment(context.user_id, attachment)

    async def load_attachment(self, attachment_id: str, context: OwnerT) -> Attachment:
        return await load_attachment(context.user_id, attachment_id)

    async def delete_attachment(self, attachment_id: str, context: OwnerT) -> None:
        await delete_attachment(context.user_id, attachment_id)

    async def require_sendable(self, attachment_ids: list[str], context: OwnerT) -> None:
        """Raise ``NotFoundError`` or ``support.files.validation.FileRefused`` if one of them cannot be sent.

        The SDK itself only checks this when its stream has begun.
        """
        await require_sendable(context.user_id, attachment_ids)


@retry_on_outage
def load_thread(user_id: str, thread_id: str) -> ThreadMetadata:
    thread = reads.thread(user_id, thread_id)
    if thread is None:
        raise NotFoundError(thread_id)
    return as_thread(thread)


@retry_on_outage
def save_thread(user_id: str, thread: ThreadMetadata) -> None:
    created_at = in_utc(thread.created_at)
    data = as_data(thread, created_at)
    with connection.cursor() as cursor:
        cursor.execute(SAVE_THREAD, [user_id, thread.id, data["title"], created_at, json.dumps(data)])


@retry_on_outage
def change_thread(user_id: str, thread: ThreadMetadata) -> None:
    data = as_data(thread, in_utc(thread.created_at))
    changed = Thread.objects.owned_by(user_id).filter(thread_id=thread.id)
    if not changed.update(title=data["title"], data=data):
        raise NotFoundError(thread.id)


@on_database
def load_threads(user_id: str, limit: int, after: str | None, order: str) -> Page[ThreadMetadata]:
    threads, cursor = reads.threads(user_id, limit, after, order)
    return Page(data=[as_thread(thread) for thread in threads], has_more=cursor is not None, after=cursor)


@on_database
def delete_thread(user_id: str, thread_id: str) -> None:
    thread = Thread.objects.owned_by(user_id).filter(thread_id=thread_id)
    with transaction.atomic():
        keys = list(thread.select_for_update().values_list("id", flat=True))
        AttachmentRow.objects.owned_by(user_id).delete_with_threads(keys)
        thread.delete()


@retry_on_outage
def load_items(user_id: str, thread_id: str, after: str | None, limit: int, order: str) -> Page[ThreadItem]:
    items, cursor = reads.items(user_id, thread_id, limit, after, order)
    return Page(data=[as_item(user_id, item) for item in items], has_more=cursor is not None, after=cursor)


@retry_on_outage
def load_item(user_id: str, thread_id: str, item_id: str) -> ThreadItem:
    item = reads.item(user_id, thread_id, item_id)
    if item is None:
        raise NotFoundError(item_id)
    return as_item(user_id, item)


@retry_on_outage
def save_item(user_id: str, thread_id: str, item: ThreadItem) -> None:
    if not _insert(user_id, thread_id, item, "UPDATE SET type = excluded.type, data = excluded.data"):
        raise NotFoundError(thread_id)
    if isinstance(item, UserMessageItem) and item.attachments:
        # The SDK has set their thread before, but they may have been released since.
        _update_attachments(user_id, [attachment.id for attachment in item.attachments], thread_id)


def _update_attachments(user_id: str, ids: list[str], thread_id: str | None, **values: Any) -> int:
    """``thread_id``: bind them to it, if it is there. Returns how many of the attachments there are."""
    thread = Thread.objects.owned_by(user_id).filter(thread_id=thread_id).values("id")
    rows = AttachmentRow.objects.owned_by(user_id).filter(attachment_id__in=ids)
    try:
        return rows.update(thread=Coalesce(Subquery(thread), F("thread")), **values)
    except IntegrityError:  # the thread was being deleted; from None: PostgreSQL quotes the row
        raise NotFoundError(thread_id) from None


@retry_on_outage
def add_missing_items(user_id: str, thread_id: str, items: list[ThreadItem]) -> None:
    for item in items:
        _insert(user_id, thread_id, item, "NOTHING")


def _insert(user_id: str, thread_id: str, item: ThreadItem, on_conflict: str) -> bool:
    created_at = in_utc(item.created_at)
    data = json.dumps(as_data(item, created_at))
    with connection.cursor() as cursor:
        cursor.execute(INSERT_ITEM + on_conflict, [item.id, item.type, created_at, data, user_id, thread_id])
        return bool(cursor.rowcount)


@on_database
def delete_item(user_id: str, thread_id: str, item_id: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(DELETE_ITEM, [item_id, user_id, thread_id])
        for thread, attachment_ids in cursor.fetchall():
            if attachment_ids:
                attached = AttachmentRow.objects.owned_by(user_id).filter(thread=thread)
                attached.filter(attachment_id__in=attachment_ids).release()


@on_database
def save_attachment(user_id: str, attachment: Attachment) -> None:
    data = as_attachment_data(attachment)
    thread_id = attachment.thread_id
    if stored_files.NAME.fullmatch(str((attachment.metadata or {}).get("file"))):
        # Uploaded to us, so its row was there. If somebody deletes it with its file, it must not come back.
        if not _update_attachments(user_id, [attachment.id], thread_id, data=data):
            raise NotFoundError(attachment.id)
        return
    values = [user_id, attachment.id, user_id, thread_id, json.dumps(data)]
    with connection.cursor() as cursor:
        try:
            cursor.execute(SAVE_ATTACHMENT, values)
        except IntegrityError:  # the thread was being deleted; from None: PostgreSQL quotes the row
            raise NotFoundError(attachment.id) from None


@on_database
def load_attachment(user_id: str, attachment_id: str) -> Attachment:
    row = AttachmentRow.objects.owned_by(user_id).filter(attachment_id=attachment_id).first()
    if row is None:
        raise NotFoundError(attachment_id)
    return as_attachment(row)


@on_database
def delete_attachment(user_id: str, attachment_id: str) -> None:
    AttachmentRow.objects.owned_by(user_id).filter(attachment_id=attachment_id).delete_with_files()


@on_database
def require_sendable(user_id: str, attachment_ids: list[str]) -> None:
    if len(attachment_ids) > MAX_ATTACHMENTS or len(set(attachment_ids)) < len(attachment_ids):
        raise validation.FileRefused(f"A message carries up to {MAX_ATTACHMENTS} attachments, each once")
    rows = AttachmentRow.objects.owned_by(user_id).filter(attachment_id__in=attachment_ids)
    found = list(rows.values_list("data", flat=True))
    if len(found) < len(attachment_ids):
        raise NotFoundError
    # The SDK's own sign for it, so that it holds for a team's attachment store as well.
    if any(data.get("upload_descriptor") for data in found):
        raise validation.FileRefused("An attachment has not been uploaded yet")


def thread_of_this_task() -> tuple[str, str] | None:
    """The owner and the id of the thread that this task loaded or saved last."""
    at_hand = _at_hand.get()
    return at_hand[1:] if at_hand and at_hand[:1] == _in_this_task() else None


def _in_this_task(*thread: str) -> Any:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # run_inline runs in a context of its own instead
        task = None
    return (task and ref(task), *thread)


def new_id(item_type: StoreItemType) -> str:
    return default_generate_id(item_type) + secrets.token_hex(12)
