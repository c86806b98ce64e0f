"""The store as one person uses it, and what a person puts into it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from asgiref.sync import async_to_sync
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    InferenceOptions,
    Page,
    ThreadItem,
    ThreadMetadata,
    UserMessageItem,
    UserMessageTextContent,
)

from support.store import Store

MOMENT = datetime(2026, 3, 1, 12, 30, 15, 123456)


@dataclass
class Owner:
    """Without the awaits: ``ada.load_thread("thr_1")``. Each call is a request of its own."""

    user_id: str

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return partial(async_to_sync(getattr(STORE, method)), context=self)

    def starts(self, thread_id: str = "thr_1", **fields: Any) -> ThreadMetadata:
        thread = thread_of(thread_id, **fields)
        self.save_thread(thread)
        return thread

    def page(self, thread_id: str = "thr_1", **options: Any) -> Page[ThreadItem]:
        asked = {"after": None, "limit": 20, "order": "asc"} | options
        page: Page[ThreadItem] = self.load_thread_items(thread_id, **asked)
        return page

    def item_ids(self, thread_id: str = "thr_1", **options: Any) -> list[str]:
        return [item.id for item in self.page(thread_id, **options).data]


STORE = Store[Owner]()


def thread_of(thread_id: str = "thr_1", **fields: Any) -> ThreadMetadata:
    return ThreadMetadata(**({"id": thread_id, "created_at": MOMENT} | fields))


def message(
    item_id: str = "msg_1", text: str = "Hello", thread_id: str = "thr_1", created_at: datetime = MOMENT
) -> UserMessageItem:
    return UserMessageItem(
        id=item_id,
        thread_id=thread_id,
        created_at=created_at,
        content=[UserMessageTextContent(text=text)],
        inference_options=InferenceOptions(),
    )


def answer(
    item_id: str = "msg_2", text: str = "Hello!", thread_id: str = "thr_1", created_at: datetime = MOMENT
) -> AssistantMessageItem:
    return AssistantMessageItem(
        id=item_id,
        thread_id=thread_id,
        created_at=created_at,
        content=[AssistantMessageContent(text=text)],
    )
