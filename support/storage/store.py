"""ChatKit's ``Store`` on Django's ORM."""

import asyncio
import secrets
from typing import Protocol, TypeVar

from chatkit.store import Store as ChatKitStore
from chatkit.store import StoreItemType, default_generate_id
from chatkit.types import Attachment, Page, ThreadItem, ThreadMetadata

from support.context import Owner
from support.storage import attachments, items, known_thread, threads


class Context(Protocol):
    """A context with what the store needs. ``Owner.of`` may also need an ``organization``."""

    @property
    def user_id(self) -> str: ...


OwnerT = TypeVar("OwnerT", bound=Context)


class Store(ChatKitStore[OwnerT]):
    """The threads, items and attachments of the context's user.

    Each query filters by the owner (``Owner.of``). Another owner's row raises ``NotFoundError``, as a missing
    row does.
    """

    def generate_thread_id(self, context: OwnerT) -> str:
        return new_id("thread")

    def generate_item_id(self, item_type: StoreItemType, thread: ThreadMetadata, context: OwnerT) -> str:
        return new_id(item_type)

    async def load_thread(self, thread_id: str, context: OwnerT) -> ThreadMetadata:
        owner = Owner.of(context)
        thread = await threads.load(owner, thread_id)
        known_thread.remember(owner, thread_id)
        return thread

    async def save_thread(self, thread: ThreadMetadata, context: OwnerT) -> None:
        """Save the whole thread. If two requests change a thread at the same time, the last one wins."""
        if known_thread.hold_back(thread):
            return
        owner = Owner.of(context)
        is_known = known_thread.of_current_task() == (owner, thread.id)
        save = threads.update if is_known else threads.upsert
        try:
            await save(owner, thread)
        except asyncio.CancelledError:
            known_thread.remember(owner, thread.id)  # the query completes even so
            raise
        known_thread.remember(owner, thread.id)

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: OwnerT
    ) -> Page[ThreadMetadata]:
        return await threads.load_page(Owner.of(context), limit, after, order)

    async def delete_thread(self, thread_id: str, context: OwnerT) -> None:
        await threads.delete(Owner.of(context), thread_id)
        known_thread.forget()

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: OwnerT
    ) -> Page[ThreadItem]:
        return await items.load_page(Owner.of(context), thread_id, after, limit, order)

    # The ChatKit SDK may add an item twice: a workflow that continues, or the last item of a stream if the
    # stream is cancelled while the item is stored. So the second call overwrites the item.
    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: OwnerT) -> None:
        owner, new_thread = Owner.of(context), known_thread.take_held_back(thread_id)
        if new_thread is None:
            await items.save(owner, thread_id, item)
            return
        try:
            await items.save_first(owner, new_thread, item)
        except asyncio.CancelledError:
            known_thread.remember(owner, thread_id)  # the query completes even so
            raise
        known_thread.remember(owner, thread_id)

    async def save_item(self, thread_id: str, item: ThreadItem, context: OwnerT) -> None:
        await items.save(Owner.of(context), thread_id, item)

    async def add_missing_items(self, thread_id: str, missing: list[ThreadItem], context: OwnerT) -> None:
        """Add the items that are not stored yet. A cancellation cannot interrupt the call."""
        await items.add_missing(Owner.of(context), thread_id, missing)

    async def load_item(self, thread_id: str, item_id: str, context: OwnerT) -> ThreadItem:
        return await items.load(Owner.of(context), thread_id, item_id)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: OwnerT) -> None:
        await items.delete(Owner.of(context), thread_id, item_id)

    async def save_attachment(self, attachment: Attachment, context: OwnerT) -> None:
        await attachments.save(Owner.of(context), attachment)

    async def load_attachment(self, attachment_id: str, context: OwnerT) -> Attachment:
        return await attachments.load(Owner.of(context), attachment_id)

    async def delete_attachment(self, attachment_id: str, context: OwnerT) -> None:
        await attachments.delete(Owner.of(context), attachment_id)

    async def require_sendable(self, attachment_ids: list[str], context: OwnerT) -> None:
        """Raise ``NotFoundError`` or ``validation.FileRefused`` if a message cannot carry these attachments.

        The ChatKit SDK itself checks this only after its stream has begun.
        """
        await attachments.require_sendable(Owner.of(context), attachment_ids)


def new_id(item_type: StoreItemType) -> str:
    """Return an id of the ChatKit SDK with 96 more random bits.

    The SDK's own ids have 32 random bits: among 77,000 such ids, the odds are even that two are equal.
    """
    return default_generate_id(item_type) + secrets.token_hex(12)
