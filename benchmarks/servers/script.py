"""The answer of every measured server: the message ``bench N S`` gets N deltas in S seconds."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageContentPartAdded,
    AssistantMessageContentPartDone,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    UserMessageItem,
)

WORDS = "a few words of it "


async def respond(
    store: Any, thread: ThreadMetadata, message: UserMessageItem | None, context: Any
) -> AsyncIterator[ThreadStreamEvent]:
    """For ``ChatKitServer.respond``: the same events as for a model's answer."""
    assert message
    _, deltas, seconds = message.content[0].text.split()
    count, pause = int(deltas), float(seconds) / int(deltas)
    item = AssistantMessageItem(
        id=store.generate_item_id("message", thread, context),
        thread_id=thread.id,
        created_at=datetime.now(),  # naive, like all times of the SDK
        content=[],
    )
    yield ThreadItemAddedEvent(item=item)
    text = AssistantMessageContent(text="")
    yield ThreadItemUpdatedEvent(
        item_id=item.id, update=AssistantMessageContentPartAdded(content_index=0, content=text)
    )
    for _ in range(count):
        await asyncio.sleep(pause)
        delta = AssistantMessageContentPartTextDelta(content_index=0, delta=WORDS)
        yield ThreadItemUpdatedEvent(item_id=item.id, update=delta)
    text = AssistantMessageContent(text=WORDS * count)
    yield ThreadItemUpdatedEvent(
        item_id=item.id, update=AssistantMessageContentPartDone(content_index=0, content=text)
    )
    yield ThreadItemDoneEvent(item=item.model_copy(update={"content": [text]}))
