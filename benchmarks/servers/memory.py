"""ChatKit with a store in memory, as in its samples. Every peer uses it, and so does our minimum cost."""

from collections import defaultdict, deque
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from chatkit.server import ChatKitServer
from chatkit.store import NotFoundError, Store
from chatkit.types import (
    Attachment,
    Page,
    ThreadItem,
    ThreadMetadata,
    ThreadStreamEvent,
    UserMessageItem,
)

from benchmarks.servers import script

Context = dict[str, str]  # {"user_id": …}
Entry = tuple[ThreadMetadata, dict[str, ThreadItem]]


class MemoryStore(Store[Context]):
    """Each user starts with three threads and keeps the latest ten, so that long runs need no more memory."""

    def __init__(self) -> None:
        self.threads: dict[str, deque[Entry]] = defaultdict(_three_threads)

    async def load_thread(self, thread_id: str, context: Context) -> ThreadMetadata:
        return self._found(thread_id, context)[0]

    async def save_thread(self, thread: ThreadMetadata, context: Context) -> None:
        mine = self.threads[context["user_id"]]
        if all(thread.id != other.id for other, _ in mine):
            mine.append((thread, {}))

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: Context
    ) -> Page[ThreadMetadata]:
        mine = [thread for thread, _ in self.threads[context["user_id"]]]
        return Page(data=mine[::-1][:limit] if order == "desc" else mine[:limit])

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: Context
    ) -> Page[ThreadItem]:
        items = list(self._found(thread_id, context)[1].values())
        return Page(data=items[::-1][:limit] if order == "desc" else items[:limit])

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: Context) -> None:
        self._found(thread_id, context)[1][item.id] = item

    save_item = add_thread_item

    async def load_item(self, thread_id: str, item_id: str, context: Context) -> ThreadItem:
        return self._found(thread_id, context)[1][item_id]

    def _found(self, thread_id: str, context: Context) -> Entry:
        for kept in self.threads[context["user_id"]]:
            if kept[0].id == thread_id:
                return kept
        raise NotFoundError(thread_id)

    # No case uses these.
    async def delete_thread(self, thread_id: str, context: Context) -> None:
        raise NotImplementedError

    async def delete_thread_item(self, thread_id: str, item_id: str, context: Context) -> None:
        raise NotImplementedError

    async def save_attachment(self, attachment: Attachment, context: Context) -> None:
        raise NotImplementedError

    async def load_attachment(self, attachment_id: str, context: Context) -> Attachment:
        raise NotImplementedError

    async def delete_attachment(self, attachment_id: str, context: Context) -> None:
        raise NotImplementedError


class Server(ChatKitServer[Any]):
    """For any store, ours and the peers'."""

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: Any
    ) -> AsyncIterator[ThreadStreamEvent]:
        async for event in script.respond(self.store, thread, input_user_message, context):
            yield event


def _three_threads() -> deque[Entry]:
    now = datetime.now()
    threads = [ThreadMetadata(id=f"thr_{n}", title=f"Conversation {n}", created_at=now) for n in range(3)]
    return deque(((thread, {}) for thread in threads), maxlen=10)
