"""ChatKit's Store on Django's ORM. Whatever it reads or writes, the query starts from the owner."""

import secrets
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from chatkit.store import NotFoundError, StoreItemType
from chatkit.store import Store as ChatKitStore
from chatkit.types import Attachment, Page, ThreadItem, ThreadMetadata, WidgetItem
from chatkit.widgets import DynamicWidgetRoot
from django.db import IntegrityError, transaction
from django.db.models import Model, QuerySet, Subquery
from pydantic import TypeAdapter, ValidationError

from support.connections import on_database
from support.models import Item, Thread

Row = TypeVar("Row", bound=Model)

THREAD_ITEM: TypeAdapter[ThreadItem] = TypeAdapter(ThreadItem)
MAX_PAGE = 100  # ChatKit's client asks for 20 to 50; the protocol sets no bound

PREFIXES: dict[StoreItemType, str] = {
    "thread": "thr",
    "message": "msg",
    "tool_call": "tc",
    "workflow": "wf",
    "task": "tsk",
    "attachment": "atc",
    "sdk_hidden_context": "shcx",
}


class Owner(Protocol):
    """All the store asks of a context."""

    @property
    def user_id(self) -> str: ...


OwnerT = TypeVar("OwnerT", bound=Owner)


class UnreadableRow(Exception):
    """A stored row that ChatKit's SDK cannot read, from a newer version perhaps."""


class Store(ChatKitStore[OwnerT]):
    """Threads and items of ``context.user_id``. Somebody else's are as absent as missing ones."""

    # The SDK's own ids have 32 random bits: even odds of a clash near 77,000. These have 128.
    def generate_thread_id(self, context: OwnerT) -> str:
        return _new_id("thread")

    def generate_item_id(self, item_type: StoreItemType, thread: ThreadMetadata, context: OwnerT) -> str:
        return _new_id(item_type)

    async def load_thread(self, thread_id: str, context: OwnerT) -> ThreadMetadata:
        return await load_thread(context.user_id, thread_id)

    async def save_thread(self, thread: ThreadMetadata, context: OwnerT) -> None:
        await save_thread(context.user_id, thread)

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: OwnerT
    ) -> Page[ThreadMetadata]:
        return await load_threads(context.user_id, limit, after, order)

    async def delete_thread(self, thread_id: str, context: OwnerT) -> None:
        await delete_thread(context.user_id, thread_id)

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
        """Add those of the items that are not stored yet, in one statement."""
        await add_missing_items(context.user_id, thread_id, items)

    async def load_item(self, thread_id: str, item_id: str, context: OwnerT) -> ThreadItem:
        return await load_item(context.user_id, thread_id, item_id)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: OwnerT) -> None:
        await delete_item(context.user_id, thread_id, item_id)

    # No attachments yet: no message can name one, for none was ever made.
    async def save_attachment(self, attachment: Attachment, context: OwnerT) -> None:
        raise NotImplementedError("This store keeps no attachments")

    async def load_attachment(self, attachment_id: str, context: OwnerT) -> Attachment:
        raise NotFoundError(attachment_id)

    async def delete_attachment(self, attachment_id: str, context: OwnerT) -> None:
        raise NotFoundError(attachment_id)


@on_database
def load_thread(user_id: str, thread_id: str) -> ThreadMetadata:
    row = Thread.objects.owned_by(user_id).filter(thread_id=thread_id).first()
    if row is None:
        raise NotFoundError(thread_id)
    return _as_thread(row)


@on_database
def save_thread(user_id: str, thread: ThreadMetadata) -> None:
    created_at = _in_utc(thread.created_at)
    # In threads.create the SDK hands us a Thread, whose items are not metadata.
    data = _as_data(thread.model_dump(mode="json", exclude={"items"}), created_at)
    row = Thread(user_id=user_id, thread_id=thread.id, title=data["title"], created_at=created_at, data=data)
    Thread.objects.bulk_create(
        [row], update_conflicts=True, unique_fields=["user_id", "thread_id"], update_fields=["title", "data"]
    )


@on_database
def load_threads(user_id: str, limit: int, after: str | None, order: str) -> Page[ThreadMetadata]:
    rows, has_more = _page(Thread.objects.owned_by(user_id), "thread_id", limit, after, order)
    return Page(
        data=[_as_thread(row) for row in rows],
        has_more=has_more,
        after=rows[-1].thread_id if has_more else None,
    )


@on_database
def delete_thread(user_id: str, thread_id: str) -> None:
    with transaction.atomic():
        # Locked: an item of it that is being stored this moment waits, and then finds no thread.
        row = Thread.objects.owned_by(user_id).filter(thread_id=thread_id).select_for_update().first()
        if row is not None:
            row.delete()


@on_database
def load_items(user_id: str, thread_id: str, after: str | None, limit: int, order: str) -> Page[ThreadItem]:
    of_thread = Item.objects.owned_by(user_id).filter(thread__thread_id=thread_id)
    rows, has_more = _page(of_thread, "item_id", limit, after, order)
    return Page(
        data=[_as_item(row) for row in rows],
        has_more=has_more,
        after=rows[-1].item_id if has_more else None,
    )


@on_database
def load_item(user_id: str, thread_id: str, item_id: str) -> ThreadItem:
    row = Item.objects.owned_by(user_id).filter(thread__thread_id=thread_id, item_id=item_id).first()
    if row is None:
        raise NotFoundError(item_id)
    return _as_item(row)


@on_database
def save_item(user_id: str, thread_id: str, item: ThreadItem) -> None:
    _insert(
        user_id,
        thread_id,
        [item],
        update_conflicts=True,
        unique_fields=["thread", "item_id"],
        update_fields=["type", "data"],
    )


@on_database
def add_missing_items(user_id: str, thread_id: str, items: list[ThreadItem]) -> None:
    _insert(user_id, thread_id, items, ignore_conflicts=True)


def _insert(user_id: str, thread_id: str, items: list[ThreadItem], **on_conflict: Any) -> None:
    # The owner is checked by the insert itself: no such thread of theirs, no id, no row.
    owner = Thread.objects.owned_by(user_id).filter(thread_id=thread_id).values("id")
    rows = []
    for item in items:
        created_at = _in_utc(item.created_at)
        data = _as_data(item.model_dump(mode="json"), created_at)
        rows.append(
            Item(thread_id=Subquery(owner), item_id=item.id, type=item.type, created_at=created_at, data=data)
        )
    try:
        Item.objects.bulk_create(rows, **on_conflict)
    except IntegrityError:
        # From None: PostgreSQL quotes the row, and a conversation belongs in no log.
        raise NotFoundError(thread_id) from None


@on_database
def delete_item(user_id: str, thread_id: str, item_id: str) -> None:
    Item.objects.owned_by(user_id).filter(thread__thread_id=thread_id, item_id=item_id).delete()


def _page(rows: QuerySet[Row], key: str, limit: int, after: str | None, order: str) -> tuple[list[Row], bool]:
    """``limit`` rows behind the one whose ``key`` is ``after``, and whether more follow."""
    limit = min(max(limit, 1), MAX_PAGE)
    page = rows.order_by("id" if order == "asc" else "-id")
    if after is not None:
        cursor = Subquery(rows.filter(**{key: after}).values("id"))
        page = page.filter(**{"id__gt" if order == "asc" else "id__lt": cursor})
    found = list(page[: limit + 1])
    if not found and after is not None and not rows.filter(**{key: after}).exists():
        raise NotFoundError(after)
    return found[:limit], len(found) > limit


def _as_thread(row: Thread) -> ThreadMetadata:
    try:
        return ThreadMetadata.model_validate(row.data)
    except ValidationError:
        raise UnreadableRow(f"thread {row.pk}") from None  # pydantic quotes the row, too


def _as_item(row: Item) -> ThreadItem:
    try:
        item = THREAD_ITEM.validate_python(row.data)
        if isinstance(item, WidgetItem) and item.widget.model_dump(mode="json") != row.data["widget"]:
            # Widgets made of a template may have properties that the SDK's own classes drop.
            item.widget = DynamicWidgetRoot.model_validate(row.data["widget"])
    except ValidationError:
        raise UnreadableRow(f"item {row.pk}") from None
    return item


def _as_data(dump: dict[str, Any], created_at: datetime) -> Any:
    # Naive, as the SDK must get it back: it subtracts naive times from what the store returns.
    return _storable(dump | {"created_at": created_at.replace(tzinfo=None).isoformat()})


def _storable(value: Any) -> Any:
    """Without what PostgreSQL refuses in JSON: NUL and halves of surrogate pairs. Some models utter them."""
    match value:
        case str():
            return value.replace("\0", "").encode(errors="replace").decode()
        case list():
            return [_storable(part) for part in value]
        case dict():
            return {_storable(key): _storable(part) for key, part in value.items()}
    return value


def _new_id(item_type: StoreItemType) -> str:
    return f"{PREFIXES[item_type]}_{secrets.token_hex(16)}"


def _in_utc(moment: datetime) -> datetime:
    """The SDK stamps naive local times, and the process runs in UTC (TIME_ZONE)."""
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
