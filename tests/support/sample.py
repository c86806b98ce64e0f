"""A stand-in for OpenAI's customer-support sample, of the same shape: for the test of its guide in docs/.

A store in memory that knows no owners, a state by thread id, a context ``{"request": request}``.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from chatkit.actions import Action
from chatkit.server import ChatKitServer
from chatkit.store import NotFoundError, Store
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    HiddenContextItem,
    Page,
    ThreadItem,
    ThreadItemDoneEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    UserMessageItem,
    WidgetItem,
)


class AirlineState:
    def __init__(self) -> None:
        self.seats: dict[str, str] = {}

    def to_dict(self, thread_id: str) -> dict[str, str]:
        return {"seat": self.seats.setdefault(thread_id, "14A")}


class MemoryStore(Store[dict[str, Any]]):
    def __init__(self) -> None:
        self.threads: dict[str, ThreadMetadata] = {}
        self.items: dict[str, dict[str, ThreadItem]] = {}

    async def load_thread(self, thread_id: str, context: dict[str, Any]) -> ThreadMetadata:
        if thread_id not in self.threads:
            raise NotFoundError(thread_id)
        return self.threads[thread_id].model_copy(deep=True)

    async def save_thread(self, thread: ThreadMetadata, context: dict[str, Any]) -> None:
        self.threads[thread.id] = ThreadMetadata(**thread.model_dump(exclude={"items"}))

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: dict[str, Any]
    ) -> Page[ThreadMetadata]:
        return Page(data=list(self.threads.values()))

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: dict[str, Any]
    ) -> Page[ThreadItem]:
        items = list(self.items.get(thread_id, {}).values())
        return Page(data=items if order == "asc" else items[::-1])

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: dict[str, Any]) -> None:
        self.items.setdefault(thread_id, {})[item.id] = item

    save_item = add_thread_item

    async def load_item(self, thread_id: str, item_id: str, context: dict[str, Any]) -> ThreadItem:
        return self.items[thread_id][item_id]

    async def delete_thread(self, thread_id: str, context: dict[str, Any]) -> None: ...

    async def delete_thread_item(self, thread_id: str, item_id: str, context: dict[str, Any]) -> None: ...

    async def save_attachment(self, attachment: Any, context: dict[str, Any]) -> None: ...

    async def load_attachment(self, attachment_id: str, context: dict[str, Any]) -> Any:
        raise NotFoundError(attachment_id)

    async def delete_attachment(self, attachment_id: str, context: dict[str, Any]) -> None: ...


class CustomerSupportServer(ChatKitServer[dict[str, Any]]):
    def __init__(self, agent_state: AirlineState) -> None:
        store = MemoryStore()
        super().__init__(store)
        self.store = store
        self.agent_state = agent_state

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: dict[str, Any]
    ) -> AsyncIterator[ThreadStreamEvent]:
        page = await self.store.load_thread_items(thread.id, None, 20, "desc", context)
        seat = self.agent_state.to_dict(thread.id)["seat"]
        thread.title = "Seat"
        language = context["request"].headers["Accept-Language"]
        yield self._says(thread, f"Seat {seat}, {language}, {len(page.data)} items", context)

    async def action(
        self,
        thread: ThreadMetadata,
        action: Action[str, Any],
        sender: WidgetItem | None,
        context: dict[str, Any],
    ) -> AsyncIterator[ThreadStreamEvent]:
        self.agent_state.seats[thread.id] = action.payload["seat"]
        yield self._says(thread, "Changed", context)
        hidden = HiddenContextItem(
            id=self.store.generate_item_id("message", thread, context),
            thread_id=thread.id,
            created_at=datetime.now(),
            content=f"{action.type} was performed",
        )
        await self.store.add_thread_item(thread.id, hidden, context)

    def _says(self, thread: ThreadMetadata, text: str, context: dict[str, Any]) -> ThreadItemDoneEvent:
        item = AssistantMessageItem(
            id=self.store.generate_item_id("message", thread, context),
            thread_id=thread.id,
            created_at=datetime.now(),
            content=[AssistantMessageContent(text=text)],
        )
        return ThreadItemDoneEvent(item=item)


support_server = CustomerSupportServer(agent_state=AirlineState())
