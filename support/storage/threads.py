"""Loads, saves and deletes threads for ChatKit's ``Store``."""

import json

from chatkit.store import NotFoundError
from chatkit.types import Page, ThreadMetadata
from django.db import connection, transaction

from runtime.database_calls import on_database, retry_on_outage
from support.models import Attachment, Thread
from support.storage import reads
from support.storage.serialization import as_utc, serialize, thread_from

# As SQL, the upsert takes one round trip to the database. The ORM's upsert (bulk_create) takes three: BEGIN,
# the statement and COMMIT.
UPSERT = f"""
    INSERT INTO "{Thread._meta.db_table}" (user_id, thread_id, title, created_at, data)
    VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (user_id, thread_id) DO UPDATE SET title = excluded.title, data = excluded.data
"""  # noqa: S608 - a name of Django's


@retry_on_outage
def load(user_id: str, thread_id: str) -> ThreadMetadata:
    thread = reads.thread(user_id, thread_id)
    if thread is None:
        raise NotFoundError(thread_id)
    return thread_from(thread)


@on_database
def load_page(user_id: str, limit: int, after: str | None, order: str) -> Page[ThreadMetadata]:
    threads, cursor = reads.threads(user_id, limit, after, order)
    return Page(data=[thread_from(thread) for thread in threads], has_more=cursor is not None, after=cursor)


@retry_on_outage
def upsert(user_id: str, thread: ThreadMetadata) -> None:
    created_at = as_utc(thread.created_at)
    data = serialize(thread, created_at)
    with connection.cursor() as cursor:
        cursor.execute(UPSERT, [user_id, thread.id, data["title"], created_at, json.dumps(data)])


@retry_on_outage
def update(user_id: str, thread: ThreadMetadata) -> None:
    """Save a thread that exists. Raises ``NotFoundError`` if it does not exist."""
    data = serialize(thread, as_utc(thread.created_at))
    rows = Thread.objects.owned_by(user_id).filter(thread_id=thread.id)
    if not rows.update(title=data["title"], data=data):
        raise NotFoundError(thread.id)


@on_database
def delete(user_id: str, thread_id: str) -> None:
    rows = Thread.objects.owned_by(user_id).filter(thread_id=thread_id)
    with transaction.atomic():
        keys = list(rows.select_for_update().values_list("id", flat=True))
        Attachment.objects.owned_by(user_id).delete_with_threads(keys)
        rows.delete()
