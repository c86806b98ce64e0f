"""ChatKit servers as a team might plug in: for CHATKIT_SERVER and CHATKIT_CONTEXT."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from chatkit.server import ChatKitServer
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageContentPartAdded,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    UserMessageItem,
)

from support.store import Store


class SlowServer(ChatKitServer[Any]):
    """Does what the message says: ``for N seconds``, ``until I leave``, ``break``."""

    def __init__(self) -> None:
        super().__init__(Store())

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: Any
    ) -> AsyncIterator[ThreadStreamEvent]:
        assert input_user_message
        order = input_user_message.content[0].text.split()
        item = AssistantMessageItem(
            id=self.store.generate_item_id("message", thread, context),
            thread_id=thread.id,
            created_at=datetime.now(),
            content=[],
        )
        yield ThreadItemAddedEvent(item=item)
        if order[0] == "break":
            raise RuntimeError("the answer broke off")
        text = AssistantMessageContent(text="")
        yield ThreadItemUpdatedEvent(
            item_id=item.id, update=AssistantMessageContentPartAdded(content_index=0, content=text)
        )
        seconds = float(order[1]) if order[0] == "for" else 60.0
        for _ in range(round(seconds / 0.2)):
            delta = AssistantMessageContentPartTextDelta(content_index=0, delta="word ")
            yield ThreadItemUpdatedEvent(item_id=item.id, update=delta)
            await asyncio.sleep(0.2)
        done = AssistantMessageContent(text="word " * round(seconds / 0.2))
        yield ThreadItemDoneEvent(item=item.model_copy(update={"content": [done]}))
