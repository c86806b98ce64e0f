"""Stores uploaded attachments. ChatKit has two ways to upload:

- Two-phase: the client announces a file (``AttachmentStore.create_attachment``) and then sends it
  (``receive``).
- Direct: the client sends the file without announcing it (``add``).
"""

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

from runtime.database_calls import on_database
from support import media_types
from support.conf import conf
from support.context import Owner
from support.files import signed_urls, stored_files, validation
from support.models import Attachment as AttachmentRow
from support.storage.serialization import attachment_from, serialize_attachment
from support.storage.store import OwnerT, new_id

MAX_NAME_LENGTH = 120  # characters
MAX_SUFFIX_LENGTH = 20  # characters, with the dot
# Waits until no other transaction holds this lock. Then this transaction holds the lock until its own end.
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
# Unicode categories: control and format characters, surrogates, line and paragraph separators.
INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


class AlreadyUploaded(Exception):
    """The attachment already has a file, and the client has sent another one.

    An uploaded file never changes: a message may carry the file, and a browser may have cached it.
    """


class AttachmentStore(ChatKitAttachmentStore[OwnerT]):
    """ChatKit's ``AttachmentStore``.

    This class saves and deletes no rows. Use it together with ``support.storage.store.Store``, which does.
    """

    def generate_attachment_id(self, mime_type: str, context: OwnerT) -> str:
        return new_id("attachment")

    async def create_attachment(self, input: AttachmentCreateParams, context: OwnerT) -> Attachment:  # noqa: A002
        """Return an announced attachment with the URL for the upload. The ChatKit SDK saves the attachment.

        Raises ``validation.FileRefused`` if the file is not allowed, or if it would exceed the user's quota.
        """
        mime_type = validation.validate_announced(safe_name(input.name), input.mime_type, input.size)
        await require_quota(context.user_id, input.size)
        attachment_id = self.generate_attachment_id(mime_type, context)
        attachment = _attachment(context.user_id, attachment_id, input.name, mime_type)
        attachment.upload_descriptor = AttachmentUploadDescriptor(
            url=signed_urls.upload_url(attachment_id), method="POST"
        )
        return attachment

    async def delete_attachment(self, attachment_id: str, context: OwnerT) -> None:
        """Raise ``NotFoundError`` if the user has no such attachment.

        This method deletes nothing. The ChatKit SDK calls ``Store.delete_attachment`` after it, and that
        method deletes the row and the file.
        """
        await require_owned(Owner.of(context), attachment_id)


@on_database
def require_owned(owner: Owner, attachment_id: str) -> None:
    if not AttachmentRow.objects.visible_to(owner).filter(attachment_id=attachment_id).exists():
        raise NotFoundError(attachment_id)


def _require_quota(user_id: str, size: int) -> None:
    """Raise ``validation.QuotaExceeded`` if the user's files and a file of this size exceed the quota."""
    if conf.ATTACHMENT_BYTES_PER_USER:
        used = AttachmentRow.objects.owned_by(user_id).aggregate(size=Sum("size"))["size"] or 0
        if used + size > conf.ATTACHMENT_BYTES_PER_USER:
            raise validation.QuotaExceeded


require_quota = on_database(_require_quota)


@contextmanager
def _saved_file(user_id: str, content: IO[bytes], size: int) -> Iterator[str]:
    """Store the file and yield its name. The caller writes the file's name into a row, in the block.

    Checks the quota before the file is stored, and again under a lock. The lock lets a user's concurrent
    uploads write their rows one after another. Raises ``validation.QuotaExceeded``.

    If the upload is refused, here or in the block, the file is deleted. After any other error the file stays,
    because the transaction may have been committed. ``sweep_attachments`` later deletes files without a row.
    """
    _require_quota(user_id, size)
    file = stored_files.save(content)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(LOCK, [f"attachments of {user_id}"])
            _require_quota(user_id, size)
            yield file
    except (validation.QuotaExceeded, AlreadyUploaded, NotFoundError):
        stored_files.delete([file])
        raise


def load(owner: Owner, attachment_id: str) -> Attachment:
    return attachment_from(_row(owner, attachment_id))


def receive(owner: Owner, attachment_id: str, content: IO[bytes]) -> Attachment:
    """Store the file of an announced attachment, and return the attachment.

    A client may send the same bytes again, for example if it did not get our response.

    Raises ``NotFoundError``, ``AlreadyUploaded`` or ``validation.FileRefused``.
    """
    row = _row(owner, attachment_id)
    try:
        return _receive(row, content)
    except AlreadyUploaded:
        row = _row(owner, attachment_id)
        if not stored_files.has_content(row.file, content):
            raise
        return attachment_from(row)


def _receive(row: AttachmentRow, content: IO[bytes]) -> Attachment:
    if row.file:
        raise AlreadyUploaded
    attachment = attachment_from(row)
    validated = validation.validate(content, attachment.name, attachment.mime_type)
    if validated.mime_type != attachment.mime_type:
        # The class of the attachment and its preview_url depend on the type. So make a new attachment.
        unchanged = {"thread_id": attachment.thread_id, "metadata": attachment.metadata}
        attachment = _attachment(row.user_id, row.attachment_id, attachment.name, validated.mime_type)
        attachment = attachment.model_copy(update=unchanged)
    attachment.upload_descriptor = None
    with _saved_file(row.user_id, content, validated.size) as file:
        attachment.metadata = (attachment.metadata or {}) | _metadata(file, validated)
        # Meanwhile, the user may have deleted the attachment, or uploaded it from a second window.
        rows = AttachmentRow.objects.owned_by(row.user_id).filter(id=row.id)
        data = serialize_attachment(attachment)
        updated = rows.filter(file="").update(file=file, size=validated.size, data=data)
        if not updated:
            if not rows.exists():  # the attachment was deleted
                raise NotFoundError(row.attachment_id)
            raise AlreadyUploaded
    return attachment


def add(owner: Owner, name: str, mime_type: str, content: IO[bytes]) -> Attachment:
    """Store a file that was not announced, and return its attachment.

    ``mime_type``: the media type in the client's request. Raises ``validation.FileRefused``.
    """
    validated = validation.validate(content, safe_name(name), mime_type)
    attachment = _attachment(owner.user_id, new_id("attachment"), name, validated.mime_type)
    with _saved_file(owner.user_id, content, validated.size) as file:
        attachment.metadata = _metadata(file, validated)
        AttachmentRow.objects.create(
            **owner.columns,
            attachment_id=attachment.id,
            file=file,
            size=validated.size,
            data=serialize_attachment(attachment),
        )
    return attachment


def _metadata(file: str, validated: validation.ValidatedFile) -> dict[str, Any]:
    """Return the metadata to store with the attachment. The ChatKit SDK never sends it to a client."""
    charset = {"charset": validated.charset} if validated.charset else {}
    return {"file": file, "size": validated.size} | charset


def _row(owner: Owner, attachment_id: str) -> AttachmentRow:
    """Return the owner's attachment. Raises ``NotFoundError``."""
    rows = AttachmentRow.objects.visible_to(owner).filter(attachment_id=attachment_id)
    # The id comes from the URL's path, and PostgreSQL raises an error for a NUL character in text.
    row = None if "\0" in attachment_id else rows.first()
    if row is None:
        raise NotFoundError(attachment_id)
    return row


def _attachment(user_id: str, attachment_id: str, name: str, mime_type: str) -> Attachment:
    name = safe_name(name)
    if mime_type not in media_types.IMAGES:
        return FileAttachment(id=attachment_id, name=name, mime_type=mime_type)
    preview_url = signed_urls.content_url(user_id, attachment_id)
    return ImageAttachment(id=attachment_id, name=name, mime_type=mime_type, preview_url=preview_url)


def safe_name(name: str) -> str:
    """Return the file name without a path and without invisible characters, cut to MAX_NAME_LENGTH.

    Invisible characters are dangerous: some reverse the text after them, and can make the name of an .exe
    file look like that of a .png file.
    """
    name = name.replace("\\", "/").rpartition("/")[2]
    name = "".join(char for char in name if unicodedata.category(char) not in INVISIBLE).strip(" .")
    suffix = PurePosixPath(name).suffix[:MAX_SUFFIX_LENGTH]
    if len(name) > MAX_NAME_LENGTH:
        name = name[: MAX_NAME_LENGTH - len(suffix)] + suffix
    return name or "file"
