"""ChatKit's ``Store`` on Django's ORM."""

import asyncio
import secrets
from typing import Protocol, TypeVar

from chatkit.store import Store as ChatKitStore
from chatkit.store import StoreItemType, default_generate_id
from chatkit.types import Attachment, Page, ThreadItem, ThreadMetadata

from support.storage import attachments, items, known_thread, threads


class Owner(Protocol):
    """A context with the one attribute that the store needs."""

    @property
    def user_id(self) -> str: ...


OwnerT = TypeVar("OwnerT", bound=Owner)


class Store(ChatKitStore[OwnerT]):
    """The threads, items and attachments of ``context.user_id``.

    Each query filters by this owner. Another owner's row raises ``NotFoundError``, as a missing row does.
    """

    def generate_thread_id(self, context: OwnerT) -> str:
        return new_id("thread")

    def generate_item_id(self, item_type: StoreItemType, thread: ThreadMetadata, context: OwnerT) -> str:
        return new_id(item_type)

    async def load_thread(self, thread_id: str, context: OwnerT) -> ThreadMetadata:
        thread = await threads.load(context.user_id, thread_id)
        known_thread.remember(context.user_id, thread_id)
        return thread

    async def save_thread(self, thread: ThreadMetadata, context: OwnerT) -> None:
        """Save the whole thread. If two requests change a thread at the same time, the last one wins."""
        is_known = known_thread.of_current_task() == (context.user_id, thread.id)
        save = threads.update if is_known else threads.upsert
        try:
            await save(context.user_id, thread)
        except asyncio.CancelledError:
            known_thread.remember(context.user_id, thread.id)  # the query completes even so
            raise
        known_thread.remember(context.user_id, thread.id)

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: OwnerT
    ) -> Page[ThreadMetadata]:
        return await threads.load_page(context.user_id, limit, after, order)

    async def delete_thread(self, thread_id: str, context: OwnerT) -> None:
        await threads.delete(context.user_id, thread_id)
        known_thread.forget()

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: OwnerT
    ) -> Page[ThreadItem]:
        return await items.load_page(context.user_id, thread_id, after, limit, order)

    # The ChatKit SDK may add an item twice: a workflow that continues, or the last item of a stream if the
    # stream is cancelled while the item is stored. So the second call overwrites the item.
    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: OwnerT) -> None:
        await items.save(context.user_id, thread_id, item)

    async def save_item(self, thread_id: str, item: ThreadItem, context: OwnerT) -> None:
        await items.save(context.user_id, thread_id, item)

    async def add_missing_items(self, thread_id: str, missing: list[ThreadItem], context: OwnerT) -> None:
        """Add the items that are not stored yet. A cancellation cannot interrupt the call."""
        await items.add_missing(context.user_id, thread_id, missing)

    async def load_item(self, thread_id: str, item_id: str, context: OwnerT) -> ThreadItem:
        return await items.load(context.user_id, thread_id, item_id)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: OwnerT) -> None:
        await items.delete(context.user_id, thread_id, item_id)

    async def save_attachment(self, attachment: Attachment, context: OwnerT) -> None:
        await attachments.save(context.user_id, attachment)

    async def load_attachment(self, attachment_id: str, context: OwnerT) -> Attachment:
        return await attachments.load(context.user_id, attachment_id)

    async def delete_attachment(self, attachment_id: str, context: OwnerT) -> None:
        await attachments.delete(context.user_id, attachment_id)

    async def require_sendable(self, attachment_ids: list[str], context: OwnerT) -> None:
        """Raise ``NotFoundError`` or ``validation.FileRefused`` if a message cannot carry these attachments.

        The ChatKit SDK itself checks this only after its stream has begun.
        """
        await attachments.require_sendable(context.user_id, attachment_ids)


def new_id(item_type: StoreItemType) -> str:
    """Return an id of the ChatKit SDK with 96 more random bits.

    The SDK's own ids have 32 random bits: among 77,000 such ids, the odds are even that two are equal.
    """
    return default_generate_id(item_type) + secrets.token_hex(12)
