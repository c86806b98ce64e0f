"""Loads, saves and deletes threads for ChatKit's ``Store``."""

import json
from typing import Any

from chatkit.store import NotFoundError
from chatkit.types import Page, ThreadMetadata
from django.db import connection, transaction

from runtime.database_calls import on_database, retry_on_outage
from support.context import Owner
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
# The same for an owner with an organization. Does nothing to a thread of another organization.
UPSERT_IN_ORGANIZATION = f"""
    INSERT INTO "{Thread._meta.db_table}" AS saved
    (user_id, thread_id, title, created_at, data, organization_id) VALUES (%s, %s, %s, %s, %s, %s)
    ON CONFLICT (user_id, thread_id) DO UPDATE SET title = excluded.title, data = excluded.data
    WHERE saved.organization_id = excluded.organization_id
"""  # noqa: S608 - a name of Django's


@retry_on_outage
def load(owner: Owner, thread_id: str) -> ThreadMetadata:
    thread = reads.thread(owner, thread_id)
    if thread is None:
        raise NotFoundError(thread_id)
    return thread_from(thread)


@on_database
def load_page(owner: Owner, limit: int, after: str | None, order: str) -> Page[ThreadMetadata]:
    threads, cursor = reads.threads(owner, limit, after, order)
    return Page(data=[thread_from(thread) for thread in threads], has_more=cursor is not None, after=cursor)


@retry_on_outage
def upsert(owner: Owner, thread: ThreadMetadata) -> None:
    """Save a thread. Raises ``NotFoundError`` if the user has it in another organization."""
    with connection.cursor() as cursor:
        cursor.execute(upsert_statement(owner), values(owner, thread))
        if not cursor.rowcount:
            raise NotFoundError(thread.id)


def upsert_statement(owner: Owner) -> str:
    """Return the SQL that saves a thread. Its parameters are ``values``."""
    return UPSERT if owner.organization_id is None else UPSERT_IN_ORGANIZATION


def values(owner: Owner, thread: ThreadMetadata) -> list[Any]:
    created_at = as_utc(thread.created_at)
    data = serialize(thread, created_at)
    organization = [] if owner.organization_id is None else [owner.organization_id]
    return [owner.user_id, thread.id, data["title"], created_at, json.dumps(data), *organization]


@retry_on_outage
def update(owner: Owner, thread: ThreadMetadata) -> None:
    """Save a thread that exists. Raises ``NotFoundError`` if it does not exist."""
    data = serialize(thread, as_utc(thread.created_at))
    rows = Thread.objects.visible_to(owner).filter(thread_id=thread.id)
    if not rows.update(title=data["title"], data=data):
        raise NotFoundError(thread.id)


@on_database
def delete(owner: Owner, thread_id: str) -> None:
    rows = Thread.objects.visible_to(owner).filter(thread_id=thread_id)
    with transaction.atomic():
        keys = list(rows.select_for_update().values_list("id", flat=True))
        Attachment.objects.owned_by(owner.user_id).delete_with_threads(keys)
        rows.delete()
