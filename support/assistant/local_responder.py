"""Answers messages while no model is configured. The answer says so, and is streamed as a model's is."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime

from chatkit.store import Store
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
)

from support.context import RequestContext

PAUSE_SECONDS = 0.03  # between two words, so that a person can see that the answer is streamed


async def respond(
    store: Store[RequestContext], thread: ThreadMetadata, context: RequestContext
) -> AsyncIterator[ThreadStreamEvent]:
    text = (
        f"Hello {context.user.name}! No model is configured, so this is the local responder. "
        f"I know who you are: your user id is {context.user_id}."
    )
    item = AssistantMessageItem(
        id=store.generate_item_id("message", thread, context),
        thread_id=thread.id,
        created_at=datetime.now(),  # naive, as all times in the ChatKit SDK
        content=[],
    )
    yield ThreadItemAddedEvent(item=item)
    empty = AssistantMessageContent(text="")
    yield ThreadItemUpdatedEvent(
        item_id=item.id, update=AssistantMessageContentPartAdded(content_index=0, content=empty)
    )
    for number, word in enumerate(text.split(" ")):
        await asyncio.sleep(PAUSE_SECONDS)
        delta = AssistantMessageContentPartTextDelta(content_index=0, delta=f" {word}" if number else word)
        yield ThreadItemUpdatedEvent(item_id=item.id, update=delta)
    whole = AssistantMessageContent(text=text)
    yield ThreadItemUpdatedEvent(
        item_id=item.id, update=AssistantMessageContentPartDone(content_index=0, content=whole)
    )
    yield ThreadItemDoneEvent(item=item.model_copy(update={"content": [whole]}))
