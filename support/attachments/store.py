"""Attachments, from the moment they are announced until they are stored: ChatKit's two ways to upload."""

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, Any

from chatkit.store import AttachmentStore as ChatKitAttachmentStore
from chatkit.store import NotFoundError
from chatkit.types import (
    Attachment,
    AttachmentCreateParams,
    AttachmentUploadDescriptor,
    FileAttachment,
    ImageAttachment,
)
from django.db import connection, transaction
from django.db.models import Sum

from runtime.worker_threads import on_database
from support.conf import conf
from support.files import media_types, signed_urls, stored_files, validation
from support.models import Attachment as AttachmentRow
from support.storage.serialization import attachment_from, serialize_attachment
from support.storage.store import OwnerT, new_id

MAX_NAME = 120
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode's categories


class AlreadyUploaded(Exception):
    """Its bytes never change: a message, or a browser's cache, may hold them already."""


class AttachmentStore(ChatKitAttachmentStore[OwnerT]):
    """Goes with ``storage.store.Store``, which keeps the rows. Files are in STORAGES["attachments"]."""

    def generate_attachment_id(self, mime_type: str, context: OwnerT) -> str:
        return new_id("attachment")

    async def create_attachment(self, input: AttachmentCreateParams, context: OwnerT) -> Attachment:  # noqa: A002
        """The first of two phases. Raises ``validation.FileRefused``. The SDK saves the attachment."""
        mime_type = validation.validate_announced(harmless(input.name), input.mime_type, input.size)
        await require_room(context.user_id, input.size)
        attachment_id = self.generate_attachment_id(mime_type, context)
        attachment = _attachment(context.user_id, attachment_id, input.name, mime_type)
        attachment.upload_descriptor = AttachmentUploadDescriptor(
            url=signed_urls.upload_url(attachment_id), method="POST"
        )
        return attachment

    async def delete_attachment(self, attachment_id: str, context: OwnerT) -> None:
        """Only says whether it may be: the SDK asks here, and then has the store delete row and file."""
        await require_owned(context.user_id, attachment_id)


@on_database
def require_owned(user_id: str, attachment_id: str) -> None:
    if not AttachmentRow.objects.owned_by(user_id).filter(attachment_id=attachment_id).exists():
        raise NotFoundError(attachment_id)


def _require_room(user_id: str, size: int) -> None:
    """Raises ``support.files.validation.QuotaExceeded``."""
    if conf.ATTACHMENT_BYTES_PER_USER:
        taken = AttachmentRow.objects.owned_by(user_id).aggregate(size=Sum("size"))["size"] or 0
        if taken + size > conf.ATTACHMENT_BYTES_PER_USER:
            raise validation.QuotaExceeded


require_room = on_database(_require_room)


@contextmanager
def _kept(user_id: str, content: IO[bytes], size: int) -> Iterator[str]:
    """The file's name; inside, its row is to be written. Raises ``support.files.validation.QuotaExceeded``.

    Looked at once before the bytes are kept, and for certain afterwards: of one user's uploads at the same
    time, one is written after the other. After a refusal, inside too, the file is gone again; after any other
    failure it is ``sweep_attachments``' to say whether the row was written.
    """
    _require_room(user_id, size)
    file = stored_files.save(content)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(LOCK, [f"attachments of {user_id}"])
            _require_room(user_id, size)
            yield file
    except (validation.QuotaExceeded, AlreadyUploaded, NotFoundError):
        stored_files.delete([file])
        raise


def load(user_id: str, attachment_id: str) -> Attachment:
    return attachment_from(_row(user_id, attachment_id))


def receive(user_id: str, attachment_id: str, content: IO[bytes]) -> Attachment:
    """The second phase. A client may send the same bytes again, for example when our answer was lost.

    Raises ``NotFoundError``, ``AlreadyUploaded`` or ``support.files.validation.FileRefused``.
    """
    row = _row(user_id, attachment_id)
    try:
        return _receive(row, content)
    except AlreadyUploaded:
        row = _row(user_id, attachment_id)
        if not stored_files.has_content(row.file, content):
            raise
        return attachment_from(row)


def _receive(row: AttachmentRow, content: IO[bytes]) -> Attachment:
    if row.file:
        raise AlreadyUploaded
    attachment = attachment_from(row)
    checked = validation.validate(content, attachment.name, attachment.mime_type)
    if checked.mime_type != attachment.mime_type:  # only the bytes told the type
        made = _attachment(row.user_id, row.attachment_id, attachment.name, checked.mime_type)
        kept = {"thread_id": attachment.thread_id, "metadata": attachment.metadata}
        attachment = made.model_copy(update=kept)
    attachment.upload_descriptor = None
    with _kept(row.user_id, content, checked.size) as file:
        attachment.metadata = (attachment.metadata or {}) | _metadata(file, checked)
        # Meanwhile somebody may have deleted it, or uploaded it from a second window.
        awaited = AttachmentRow.objects.owned_by(row.user_id).filter(id=row.id, file="")
        if not awaited.update(file=file, size=checked.size, data=serialize_attachment(attachment)):
            _row(row.user_id, row.attachment_id)
            raise AlreadyUploaded
    return attachment


def add(user_id: str, name: str, claimed: str, content: IO[bytes]) -> Attachment:
    """The direct way, in one phase. Raises ``support.files.validation.FileRefused``."""
    checked = validation.validate(content, harmless(name), claimed)
    attachment = _attachment(user_id, new_id("attachment"), name, checked.mime_type)
    with _kept(user_id, content, checked.size) as file:
        attachment.metadata = _metadata(file, checked)
        AttachmentRow.objects.create(
            user_id=user_id,
            attachment_id=attachment.id,
            file=file,
            size=checked.size,
            data=serialize_attachment(attachment),
        )
    return attachment


def _metadata(file: str, checked: validation.ValidatedFile) -> dict[str, Any]:
    """What the SDK stores with the attachment and never sends to a client."""
    charset = {"charset": checked.charset} if checked.charset else {}
    return {"file": file, "size": checked.size} | charset


def _row(user_id: str, attachment_id: str) -> AttachmentRow:
    mine = AttachmentRow.objects.owned_by(user_id).filter(attachment_id=attachment_id)
    row = None if "\0" in attachment_id else mine.first()  # of a path; PostgreSQL raises on a NUL in text
    if row is None:
        raise NotFoundError(attachment_id)
    return row


def _attachment(user_id: str, attachment_id: str, name: str, mime_type: str) -> Attachment:
    name = harmless(name)
    if mime_type not in media_types.IMAGES:
        return FileAttachment(id=attachment_id, name=name, mime_type=mime_type)
    preview_url = signed_urls.content_url(user_id, attachment_id)
    return ImageAttachment(id=attachment_id, name=name, mime_type=mime_type, preview_url=preview_url)


def harmless(name: str) -> str:
    """A file's name, to show and to save it by: without a path, and without what cannot be seen.

    That is control characters, and those that reverse what follows, so that an "exe" looks like a "png".
    """
    name = name.replace("\\", "/").rpartition("/")[2]
    name = "".join(char for char in name if unicodedata.category(char) not in UNSEEN).strip(" .")
    suffix = PurePosixPath(name).suffix[:20]
    if len(name) > MAX_NAME:
        name = name[: MAX_NAME - len(suffix)] + suffix
    return name or "file"
