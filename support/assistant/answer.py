"""Follows the events of a run of the Agents SDK, and changes those that ChatKit's client cannot show well."""

import asyncio
import time
from datetime import datetime
from typing import Any

from agents import RunResultStreaming
from agents.models.fake_id import FAKE_RESPONSES_ID
from agents.stream_events import StreamEvent
from chatkit.agents import AgentContext
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    DurationSummary,
    SDKHiddenContextItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemUpdatedEvent,
    ThreadStreamEvent,
)
from django.dispatch import Signal

from support.assistant import guardrails, history
from support.context import RequestContext

# Sent for metrics. ``seconds``: the time from the start of the answer to its first word.
first_word_received = Signal()


class Answer:
    """Follows the events of one answer and changes some of them.

    ``has_text``: whether a message of the answer has ended and has some text.
    """

    def __init__(self, context: AgentContext[RequestContext]) -> None:
        self._context = context
        self._message_id = ""  # replaces the Agents SDK's fake id
        # The messages that have not ended, and the pieces of their texts. The key is the message's id.
        self._in_progress: dict[str, tuple[AssistantMessageItem, list[str]]] = {}
        self._shown: dict[str, None] = {}  # the ids of the items that the client has got, in their order
        self._started_at, self._is_first_word = time.perf_counter(), True
        self.has_text = False

    def process(self, event: ThreadStreamEvent) -> ThreadStreamEvent:
        """Record the event, and return the event to send in its place."""
        event = self._replace_fake_id(event)
        match event:
            case ThreadItemAddedEvent(item=item) | ThreadItemDoneEvent(item=item):
                self._shown[item.id] = None
            case ThreadItemRemovedEvent(item_id=item_id):
                self._shown.pop(item_id, None)
        match event:
            case ThreadItemAddedEvent(item=AssistantMessageItem() as item):
                self._in_progress[item.id] = item, []
            case ThreadItemUpdatedEvent(
                item_id=item_id, update=AssistantMessageContentPartTextDelta(delta=delta)
            ):
                if self._is_first_word:
                    self._is_first_word = False
                    first_word_received.send(None, seconds=time.perf_counter() - self._started_at)
                if item_id in self._in_progress:  # some providers send text without announcing the message
                    self._in_progress[item_id][1].append(delta)
            case ThreadItemDoneEvent(item=AssistantMessageItem() as item):
                self._in_progress.pop(item.id, None)
                self._message_id = ""
                if not any(part.text.strip() for part in item.content):
                    # The message has no text, or its text was only thoughts (provider/response_events.py).
                    return ThreadItemRemovedEvent(item_id=item.id)
                self.has_text = True
        return event

    def _replace_fake_id(self, event: ThreadStreamEvent) -> ThreadStreamEvent:
        """Replace the fake id, which the Agents SDK gives to every message of Chat Completions."""
        match event:
            case ThreadItemAddedEvent(item=item) | ThreadItemDoneEvent(item=item) if (
                item.id == FAKE_RESPONSES_ID
            ):
                self._message_id = self._message_id or self._context.generate_id("message")
                return type(event)(item=item.model_copy(update={"id": self._message_id}))
            case ThreadItemUpdatedEvent(item_id=item_id, update=update) if item_id == FAKE_RESPONSES_ID:
                return ThreadItemUpdatedEvent(item_id=self._message_id, update=update)
        return event

    def end_thoughts(self) -> list[ThreadStreamEvent]:
        """Return a list with the event that ends the open workflow of thoughts. Empty if none is open.

        The ChatKit SDK ends the workflow only when a message follows.
        """
        workflow, self._context.workflow_item = self._context.workflow_item, None
        if workflow is None:
            return []
        duration = datetime.now() - workflow.created_at  # naive, as all times in the ChatKit SDK
        workflow.workflow.summary = DurationSummary(duration=int(duration.total_seconds()))
        workflow.workflow.expanded = False
        return [ThreadItemDoneEvent(item=workflow)]

    def withhold(self, is_refused: bool) -> list[ThreadStreamEvent]:
        """Return the events that remove all items of the answer, because a guardrail has stopped it.

        ``is_refused``: whether to mark the user's message, so that the model does not read it again.
        """
        events: list[ThreadStreamEvent] = [ThreadItemRemovedEvent(item_id=item_id) for item_id in self._shown]
        self._shown.clear()
        self._in_progress.clear()
        self._context.workflow_item = None
        if is_refused:
            mark = SDKHiddenContextItem(
                id=self._context.generate_id("sdk_hidden_context"),
                thread_id=self._context.thread.id,
                created_at=datetime.now(),  # naive, as all times in the ChatKit SDK
                content=history.STOPPED_BY_GUARDRAIL,
            )
            events.append(ThreadItemDoneEvent(item=mark))
        return events

    def partial_messages(self) -> list[AssistantMessageItem]:
        """Return the messages that have some text and have not ended."""
        return [
            message.model_copy(update={"content": [AssistantMessageContent(text=text)]})
            for message, deltas in self._in_progress.values()
            if (text := "".join(deltas)).strip()
        ]


class RunEvents:
    """Yields the events of a run to one task. ``cancel`` cancels that task.

    ``stream_agent_response`` gets this object in place of the run. The function calls only ``stream_events``.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._waiting: asyncio.Timeout | None = None  # while the task waits for an event
        self._tripped: Exception | None = None

    def of(self, run: RunResultStreaming) -> "RunEvents":
        """Yield the events of this run from now on."""
        self._events = run.stream_events()
        return self

    def stream_events(self) -> "RunEvents":
        return self

    def __aiter__(self) -> "RunEvents":
        return self

    async def __anext__(self) -> StreamEvent:
        self._task = asyncio.current_task()
        try:
            if self._tripped is None:
                async with asyncio.timeout(None) as self._waiting:  # ``stop`` ends the wait
                    event = await anext(self._events)
        except Exception as exc:  # StopAsyncIteration too
            # If the model fails too, the Agents SDK raises only the model's exception.
            if self._tripped or isinstance(exc, guardrails.TRIPPED):
                raise guardrails.Stopped(self._tripped or exc) from None
            raise
        finally:
            self._waiting = None
        if self._tripped is not None:
            raise guardrails.Stopped(self._tripped)
        return event

    def stop(self, tripped: Exception) -> None:
        """Raise ``Stopped`` at once. The Agents SDK would wait for the model, which may be silent for long.

        ``tripped``: the exception of the guardrail.
        """
        if self._waiting is not None and self._tripped is None:
            self._waiting.reschedule(asyncio.get_running_loop().time())
        self._tripped = self._tripped or tripped

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
