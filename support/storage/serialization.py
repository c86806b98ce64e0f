"""Converts stored rows to objects of the ChatKit SDK, and these objects to JSON for the rows."""

from datetime import UTC, datetime
from typing import Any, Protocol

from chatkit.types import Attachment, ThreadItem, ThreadMetadata, UserMessageItem, WidgetItem
from chatkit.widgets import DynamicWidgetRoot
from pydantic import TypeAdapter, ValidationError

from support import models
from support.files import signed_urls

THREAD_ITEM: TypeAdapter[ThreadItem] = TypeAdapter(ThreadItem)
ATTACHMENT: TypeAdapter[Attachment] = TypeAdapter(Attachment)


class Row(Protocol):
    @property
    def pk(self) -> Any: ...
    @property
    def data(self) -> Any: ...


class UnreadableRow(Exception):
    """The ChatKit SDK cannot read a stored row. A newer version of the SDK may have written the row."""


def thread_from(row: Row) -> ThreadMetadata:
    try:
        return ThreadMetadata.model_validate(row.data)
    except ValidationError:
        raise UnreadableRow(f"thread {row.pk}") from None  # pydantic's message quotes the row


def item_from(user_id: str, row: Row) -> ThreadItem:
    try:
        item = THREAD_ITEM.validate_python(row.data)
        if isinstance(item, WidgetItem) and item.widget.model_dump(mode="json") != row.data["widget"]:
            # A widget that was made from a template may have properties that the ChatKit SDK's classes drop.
            item.widget = DynamicWidgetRoot.model_validate(row.data["widget"])
    except ValidationError:
        raise UnreadableRow(f"item {row.pk}") from None
    if isinstance(item, UserMessageItem):
        item.attachments = [
            signed_urls.with_fresh_url(user_id, attachment) for attachment in item.attachments
        ]
    return item


def attachment_from(row: models.Attachment) -> Attachment:
    try:
        attachment = ATTACHMENT.validate_python(row.data)
    except ValidationError:
        raise UnreadableRow(f"attachment {row.pk}") from None
    return signed_urls.with_fresh_url(row.user_id, attachment)


def serialize(stored: ThreadMetadata | ThreadItem, created_at: datetime) -> Any:
    # For threads.create, the ChatKit SDK saves a Thread with its items. Leave out the items, because they
    # have rows of their own. Store a naive time, because the SDK subtracts the time from a naive time.
    dump = stored.model_dump(mode="json", exclude={"items"})
    return replace_unstorable(dump | {"created_at": created_at.replace(tzinfo=None).isoformat()})


def serialize_attachment(attachment: Attachment) -> Any:
    return replace_unstorable(attachment.model_dump(mode="json"))


def replace_unstorable(value: Any) -> Any:
    """Remove NUL characters, and replace each lone surrogate with "?".

    PostgreSQL refuses both, and some models produce them.
    """
    match value:
        case str():
            return value.replace("\0", "").encode(errors="replace").decode()
        case list():
            return [replace_unstorable(part) for part in value]
        case dict():
            return {replace_unstorable(key): replace_unstorable(part) for key, part in value.items()}
    return value


def as_utc(value: datetime) -> datetime:
    """Return an aware time. The ChatKit SDK makes naive local times, and TIME_ZONE is UTC."""
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
