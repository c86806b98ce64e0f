"""Loads, saves and deletes attachments for ChatKit's ``Store``. support.attachments handles uploads."""

import json
from typing import Any

from chatkit.store import NotFoundError
from chatkit.types import Attachment
from django.db import IntegrityError, connection
from django.db.models import F, Subquery
from django.db.models.functions import Coalesce

from runtime.database_calls import on_database
from support.context import Owner
from support.files import stored_files, validation
from support.models import Attachment as AttachmentRow
from support.models import Thread
from support.storage.serialization import attachment_from, serialize_attachment

MAX_PER_MESSAGE = 10  # ChatKit's client has the same limit

# SQL takes one round trip to the database, and the ORM's upsert takes three: see support.storage.threads.
UPSERT = f"""
    INSERT INTO "{AttachmentRow._meta.db_table}" AS saved
    (user_id, attachment_id, thread_id, file, created_at, data) VALUES
    (%s, %s, (SELECT id FROM "{Thread._meta.db_table}" WHERE user_id = %s AND thread_id = %s), '', now(), %s)
    ON CONFLICT (user_id, attachment_id) DO UPDATE
    SET data = excluded.data, thread_id = coalesce(excluded.thread_id, saved.thread_id)
"""  # noqa: S608 - names of Django's
# The same for an owner with an organization. Does nothing to an attachment of another organization.
UPSERT_IN_ORGANIZATION = f"""
    INSERT INTO "{AttachmentRow._meta.db_table}" AS saved
    (user_id, organization_id, attachment_id, thread_id, file, created_at, data) VALUES
    (%s, %s, %s, (SELECT id FROM "{Thread._meta.db_table}"
                  WHERE user_id = %s AND organization_id = %s AND thread_id = %s), '', now(), %s)
    ON CONFLICT (user_id, attachment_id) DO UPDATE
    SET data = excluded.data, thread_id = coalesce(excluded.thread_id, saved.thread_id)
    WHERE saved.organization_id = excluded.organization_id
"""  # noqa: S608 - names of Django's


@on_database
def load(owner: Owner, attachment_id: str) -> Attachment:
    row = AttachmentRow.objects.visible_to(owner).filter(attachment_id=attachment_id).first()
    if row is None:
        raise NotFoundError(attachment_id)
    return attachment_from(row)


@on_database
def save(owner: Owner, attachment: Attachment) -> None:
    data = serialize_attachment(attachment)
    thread_id = attachment.thread_id
    if stored_files.NAME.fullmatch(str((attachment.metadata or {}).get("file"))):
        # The attachment has a file in our storage, so its row existed. Another request may have deleted the
        # row and the file meanwhile. An upsert would create the row again, but not the file. So only update.
        if not update(owner, [attachment.id], thread_id, data=data):
            raise NotFoundError(attachment.id)
        return
    owned_by = list(owner.columns.values())
    values = [*owned_by, attachment.id, *owned_by, thread_id, json.dumps(data)]
    with connection.cursor() as cursor:
        try:
            cursor.execute(UPSERT if owner.organization_id is None else UPSERT_IN_ORGANIZATION, values)
        except IntegrityError:  # the thread was deleted meanwhile; PostgreSQL's message quotes the row
            raise NotFoundError(attachment.id) from None
        if not cursor.rowcount:
            raise NotFoundError(attachment.id)


def update(owner: Owner, attachment_ids: list[str], thread_id: str | None, **values: Any) -> int:
    """Set the fields in ``values`` of these attachments. Set their thread, too, if ``thread_id`` exists.

    Returns the number of attachments that exist.
    """
    thread = Thread.objects.visible_to(owner).filter(thread_id=thread_id).values("id")
    rows = AttachmentRow.objects.visible_to(owner).filter(attachment_id__in=attachment_ids)
    try:
        return rows.update(thread=Coalesce(Subquery(thread), F("thread")), **values)
    except IntegrityError:  # the thread was deleted meanwhile; PostgreSQL's message quotes the row
        raise NotFoundError(thread_id) from None


@on_database
def delete(owner: Owner, attachment_id: str) -> None:
    AttachmentRow.objects.visible_to(owner).filter(attachment_id=attachment_id).delete_with_files()


@on_database
def require_sendable(owner: Owner, attachment_ids: list[str]) -> None:
    if len(attachment_ids) > MAX_PER_MESSAGE or len(set(attachment_ids)) < len(attachment_ids):
        raise validation.FileRefused(f"A message carries up to {MAX_PER_MESSAGE} attachments, each once")
    rows = AttachmentRow.objects.visible_to(owner).filter(attachment_id__in=attachment_ids)
    found = list(rows.values_list("data", flat=True))
    if len(found) < len(attachment_ids):
        raise NotFoundError
    # An attachment that is not uploaded yet has an upload_descriptor. This is the ChatKit SDK's own mark, so
    # the check also works for a team's own attachment store.
    if any(data.get("upload_descriptor") for data in found):
        raise validation.FileRefused("An attachment has not been uploaded yet")
