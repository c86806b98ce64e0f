"""Loads, saves and deletes items for ChatKit's ``Store``."""

import json
from typing import Any

from chatkit.store import NotFoundError
from chatkit.types import Page, ThreadItem, ThreadMetadata, UserMessageItem
from django.db import connection, transaction

from runtime.database_calls import on_database, retry_on_outage
from support.context import Owner
from support.models import Attachment, Item, Thread
from support.storage import attachments, reads, threads
from support.storage.serialization import as_utc, item_from, serialize

# SQL takes one round trip to the database, as in support.storage.threads. This statement also checks the
# owner: it inserts nothing if the owner has no such thread. If another transaction is deleting the thread,
# FOR KEY SHARE waits for it, and then the statement finds no thread.
INSERT = f"""
    INSERT INTO "{Item._meta.db_table}" (thread_id, item_id, type, created_at, data)
    SELECT id, %s, %s, %s, %s FROM "{Thread._meta.db_table}"
    WHERE {{owned}} AND thread_id = %s FOR KEY SHARE
    ON CONFLICT (thread_id, item_id) DO {{action}}"""  # noqa: S608 - names of Django's

# A new thread and its first item. The item's part is the same as in INSERT.
INSERT_WITH_THREAD = f"""
    WITH thread AS ({{upsert}} RETURNING id)
    INSERT INTO "{Item._meta.db_table}" (thread_id, item_id, type, created_at, data)
    SELECT id, %s, %s, %s, %s FROM thread
    ON CONFLICT (thread_id, item_id) DO UPDATE SET type = excluded.type, data = excluded.data
"""  # noqa: S608 - names of Django's

# Returns the primary key of the thread, and ChatKit's ids of the attachments that the item carried.
DELETE = f"""
    DELETE FROM "{Item._meta.db_table}" WHERE item_id = %s AND thread_id = (
        SELECT id FROM "{Thread._meta.db_table}" WHERE {{owned}} AND thread_id = %s
    )
    RETURNING thread_id, ARRAY(SELECT jsonb_path_query(data, '$.attachments[*].id') #>> '{{{{}}}}')
"""  # noqa: S608 - names of Django's


@retry_on_outage
def load(owner: Owner, thread_id: str, item_id: str) -> ThreadItem:
    item = reads.item(owner, thread_id, item_id)
    if item is None:
        raise NotFoundError(item_id)
    return item_from(owner.user_id, item)


@retry_on_outage
def load_page(owner: Owner, thread_id: str, after: str | None, limit: int, order: str) -> Page[ThreadItem]:
    items, cursor = reads.items(owner, thread_id, limit, after, order)
    return Page(
        data=[item_from(owner.user_id, item) for item in items], has_more=cursor is not None, after=cursor
    )


@retry_on_outage
def save(owner: Owner, thread_id: str, item: ThreadItem) -> None:
    if not insert(owner, thread_id, item, "UPDATE SET type = excluded.type, data = excluded.data"):
        raise NotFoundError(thread_id)
    if isinstance(item, UserMessageItem) and item.attachments:
        # The ChatKit SDK has already set the thread of the attachments. But another request may have released
        # them since (``AttachmentQuerySet.release``). So set the thread again.
        attachments.update(owner, [attachment.id for attachment in item.attachments], thread_id)


@retry_on_outage
def save_first(owner: Owner, thread: ThreadMetadata, item: ThreadItem) -> None:
    """Save a new thread and its first item, which has no attachments.

    Raises ``NotFoundError`` if the user has a thread with this id in another organization.
    """
    statement = INSERT_WITH_THREAD.format(upsert=threads.upsert_statement(owner))
    with connection.cursor() as cursor:
        cursor.execute(statement, [*threads.values(owner, thread), *_values(item)])
        if not cursor.rowcount:
            raise NotFoundError(thread.id)


@retry_on_outage
def add_missing(owner: Owner, thread_id: str, items: list[ThreadItem]) -> None:
    for item in items:
        insert(owner, thread_id, item, "NOTHING")


@on_database
def delete(owner: Owner, thread_id: str, item_id: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(DELETE.format(owned=owner.condition), [item_id, *owner.columns.values(), thread_id])
        for thread, attachment_ids in cursor.fetchall():
            attached = Attachment.objects.owned_by(owner.user_id).filter(thread=thread)
            attached.filter(attachment_id__in=attachment_ids).release()


def insert(owner: Owner, thread_id: str, item: ThreadItem, on_conflict: str) -> bool:
    """Insert the item. Returns whether a row was written. ``on_conflict``: SQL for an item that exists."""
    statement = INSERT.format(owned=owner.condition, action=on_conflict)
    with connection.cursor() as cursor:
        cursor.execute(statement, [*_values(item), *owner.columns.values(), thread_id])
        return bool(cursor.rowcount)


def _values(item: ThreadItem) -> list[Any]:
    created_at = as_utc(item.created_at)
    return [item.id, item.type, created_at, json.dumps(serialize(item, created_at))]
