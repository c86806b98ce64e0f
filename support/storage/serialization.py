"""Makes the SDK's objects from stored rows, and JSON for the rows from these objects."""

from datetime import UTC, datetime
from typing import Any

from chatkit.types import Attachment, ThreadItem, ThreadMetadata, UserMessageItem, WidgetItem
from chatkit.widgets import DynamicWidgetRoot
from pydantic import TypeAdapter, ValidationError

from support import models
from support.files import signed_urls

THREAD_ITEM: TypeAdapter[ThreadItem] = TypeAdapter(ThreadItem)
ATTACHMENT: TypeAdapter[Attachment] = TypeAdapter(Attachment)


class UnreadableRow(Exception):
    """ChatKit's SDK cannot read a stored row. A newer version of the SDK may have written it."""


def thread_from(row: models.Thread) -> ThreadMetadata:
    try:
        return ThreadMetadata.model_validate(row.data)
    except ValidationError:
        raise UnreadableRow(f"thread {row.pk}") from None  # from None: pydantic's message quotes the row


def item_from(user_id: str, row: models.Item) -> ThreadItem:
    try:
        item = THREAD_ITEM.validate_python(row.data)
        if isinstance(item, WidgetItem) and item.widget.model_dump(mode="json") != row.data["widget"]:
            # A widget that was made from a template may have properties that the SDK's own classes drop.
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
    # In threads.create, the SDK saves a Thread. Its items have rows of their own. The stored time is naive,
    # because the SDK subtracts it from a naive time.
    dump = stored.model_dump(mode="json", exclude={"items"})
    return replace_unstorable(dump | {"created_at": created_at.replace(tzinfo=None).isoformat()})


def serialize_attachment(attachment: Attachment) -> Any:
    return replace_unstorable(attachment.model_dump(mode="json"))


def replace_unstorable(value: Any) -> Any:
    """Remove NUL, and replace lone surrogates by "?". PostgreSQL refuses both; some models produce them."""
    match value:
        case str():
            return value.replace("\0", "").encode(errors="replace").decode()
        case list():
            return [replace_unstorable(part) for part in value]
        case dict():
            return {replace_unstorable(key): replace_unstorable(part) for key, part in value.items()}
    return value


def as_utc(value: datetime) -> datetime:
    """An aware time. The SDK makes naive local times, and the process runs in UTC (TIME_ZONE)."""
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
