"""From rows to the objects of ChatKit's SDK, and back. What its JSON says is the truth."""

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
    """A stored row that ChatKit's SDK cannot read, from a newer version perhaps."""


def as_thread(row: models.Thread) -> ThreadMetadata:
    try:
        return ThreadMetadata.model_validate(row.data)
    except ValidationError:
        raise UnreadableRow(f"thread {row.pk}") from None  # pydantic quotes the row, too


def as_item(user_id: str, row: models.Item) -> ThreadItem:
    try:
        item = THREAD_ITEM.validate_python(row.data)
        if isinstance(item, WidgetItem) and item.widget.model_dump(mode="json") != row.data["widget"]:
            # Widgets made of a template may have properties that the SDK's own classes drop.
            item.widget = DynamicWidgetRoot.model_validate(row.data["widget"])
    except ValidationError:
        raise UnreadableRow(f"item {row.pk}") from None
    if isinstance(item, UserMessageItem):
        item.attachments = [
            signed_urls.with_fresh_url(user_id, attachment) for attachment in item.attachments
        ]
    return item


def as_attachment(row: models.Attachment) -> Attachment:
    try:
        attachment = ATTACHMENT.validate_python(row.data)
    except ValidationError:
        raise UnreadableRow(f"attachment {row.pk}") from None
    return signed_urls.with_fresh_url(row.user_id, attachment)


def as_data(stored: ThreadMetadata | ThreadItem, created_at: datetime) -> Any:
    # In threads.create the SDK hands us a Thread, whose items are not metadata. Times are naive, as the
    # SDK must get them back: it subtracts them from naive ones.
    dump = stored.model_dump(mode="json", exclude={"items"})
    return storable(dump | {"created_at": created_at.replace(tzinfo=None).isoformat()})


def as_attachment_data(attachment: Attachment) -> Any:
    return storable(attachment.model_dump(mode="json"))


def storable(value: Any) -> Any:
    """Without what PostgreSQL refuses in JSON: NUL and halves of surrogate pairs. Some models utter them."""
    match value:
        case str():
            return value.replace("\0", "").encode(errors="replace").decode()
        case list():
            return [storable(part) for part in value]
        case dict():
            return {storable(key): storable(part) for key, part in value.items()}
    return value


def in_utc(moment: datetime) -> datetime:
    """The SDK stamps naive local times, and the process runs in UTC (TIME_ZONE)."""
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
