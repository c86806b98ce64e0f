"""Answers messages while no model is configured. The answer says so, and is streamed as a model's is.

It shows what a conversation can look like: Markdown, and answers from the user's own data.
"""

import asyncio
import re
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
    UserMessageItem,
)

from support.context import RequestContext

PAUSE_SECONDS = 0.03  # between two words, so that a person can see that the answer is streamed
MAX_CONVERSATIONS = 10  # in the list of conversations

# Answers "What can you do?". It has one of each kind of Markdown that models write.
ABILITIES = """\
### What works without a model

No model is configured, so I answer **three questions** from your own data:

1. *What is my user id?*
2. *List my conversations*
3. *What can you do?*

To everything else I say hello. A real model needs two variables:

```shell
SUPPORT_MODEL=gpt-5-mini
OPENAI_API_KEY=sk-...
```

| this page | how |
|---|---|
| stop an answer | `Esc` |
| a new line | `Shift` + `Enter` |
| a file | drag it here, or paste it |
| rename a conversation | `F2` in the list |

> Every answer is stored. Reload the page and it is still here."""


async def respond(
    store: Store[RequestContext],
    thread: ThreadMetadata,
    question: UserMessageItem | None,
    context: RequestContext,
) -> AsyncIterator[ThreadStreamEvent]:
    asked = _text_of(question)
    text = await _answer_to(asked, store, thread, context)
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


async def _answer_to(
    asked: str, store: Store[RequestContext], thread: ThreadMetadata, context: RequestContext
) -> str:
    """Return the answer in Markdown. Everything in it belongs to the caller."""
    words = asked.lower()
    if "user id" in words or "who am i" in words:
        return (
            f"Your user id is `{context.user_id}`. Better Auth knows you as **{_escape(context.user.name)}** "
            f"with the address {_escape(context.user.email)}."
        )
    if "my conversations" in words or "my chats" in words:
        return await _conversations(store, thread, context)
    if "what can you do" in words:
        return ABILITIES
    return (
        f"Hello {_escape(context.user.name)}! No model is configured, so this is the local responder. "
        f"I know who you are: your user id is `{context.user_id}`."
    )


async def _conversations(
    store: Store[RequestContext], thread: ThreadMetadata, context: RequestContext
) -> str:
    page = await store.load_threads(MAX_CONVERSATIONS, None, "desc", context)
    lines = [
        f"1. **{_escape(each.title or 'Without a title')}**, {each.created_at:%d %B %Y, %H:%M} UTC"
        + (" (this one)" if each.id == thread.id else "")
        for each in page.data
    ]
    more = "\n\nThere are more. These are the newest." if page.has_more else ""
    return "These are your conversations, and nobody else can see them:\n\n" + "\n".join(lines) + more


def _text_of(message: UserMessageItem | None) -> str:
    return " ".join(part.text for part in message.content) if message else ""


def _escape(text: str) -> str:
    """Return the text as Markdown that shows it unchanged."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~-])", r"\\\1", text)
