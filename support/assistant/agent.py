"""The answer of a model, through OpenAI's Agents SDK."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from agents import Agent, Runner, RunResultStreaming
from agents.models.fake_id import FAKE_RESPONSES_ID
from agents.stream_events import StreamEvent
from chatkit.agents import AgentContext, stream_agent_response
from chatkit.store import Store
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    DurationSummary,
    ProgressUpdateEvent,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
)
from django.dispatch import Signal

from support.assistant import history, model_choice, title
from support.assistant.instructions import instructions_for
from support.assistant.mcp import tools
from support.assistant.provider import client, model_errors
from support.context import RequestContext

MAX_TURNS = 10  # calls of the model for one answer; between them it calls tools

first_word_received = Signal()  # seconds: until the first word of an answer; for whoever measures them


async def respond(
    store: Store[RequestContext], thread: ThreadMetadata, context: RequestContext
) -> AsyncIterator[ThreadStreamEvent]:
    """Raises ``CustomStreamError``, in words for the user, where the model fails; what it said is kept."""
    items = await history.newest_items(store, thread, context)
    agent_context = AgentContext(thread=thread, store=store, request_context=context)
    answer = _Answer(agent_context)
    async with (
        title.generating(store, thread, items, context),
        tools.connected(context.user_id, agent_context.stream) as servers,
    ):
        earlier, newest = await history.split_input(items)
        model = client.model(model_choice.model(items), context.user_id, len(earlier), agent_context.stream)
        agent: Agent[AgentContext[RequestContext]] = Agent(
            name="Support",
            instructions=instructions_for(context.user, context.locale),
            model=model,
            model_settings=client.settings(),
            mcp_servers=servers,
            # mcp_todo__add: two servers may each have a tool of one name.
            mcp_config={"include_server_in_tool_names": True},
        )
        await tools.require_first_call(agent, model_choice.tool(items), agent_context)
        run = Runner.run_streamed(
            agent,
            earlier + newest,
            context=agent_context,
            max_turns=MAX_TURNS,
            run_config=client.run_config(),
        )
        reader = _Reader(run)
        try:
            async for event in stream_agent_response(agent_context, reader):  # type: ignore[arg-type]
                yield answer.follows(event)
        except Exception as exc:
            # The SDK keeps what was said of an answer that is cancelled, but not of one that fails.
            said = answer.unfinished()
            for event in [*answer.end_thoughts(), *(ThreadItemDoneEvent(item=item) for item in said)]:
                yield event
            if (error := model_errors.error_for_user(exc, has_text=bool(said))) is None:
                raise
            raise error from None
        else:
            for event in answer.end_thoughts():
                yield event
            if notice := model_errors.notice_for_user(model.ending, answer.has_text):
                yield notice
        finally:
            # The SDK lets the model run on to its last word after the client has left, and leaves two
            # tasks behind, one waiting for the model's events and one for the context's, which asyncio
            # reports as errors. So both are ended here, the second by an event that nobody gets.
            reader.stop()
            run.cancel()
            await agent_context.stream(ProgressUpdateEvent(text=""))


class _Answer:
    """The messages of one answer: each with an id of its own, and what was said of it so far."""

    def __init__(self, context: AgentContext[RequestContext]) -> None:
        self._context = context
        self._real_id = ""
        self._said: dict[str, tuple[AssistantMessageItem, list[str]]] = {}
        self._asked_at, self._is_silent = time.perf_counter(), True
        self.has_text = False

    def follows(self, event: ThreadStreamEvent) -> ThreadStreamEvent:
        """The event, with a real id: over Chat Completions the SDK gives every message one and the same."""
        match event:
            case ThreadItemAddedEvent(item=item) | ThreadItemDoneEvent(item=item) if (
                item.id == FAKE_RESPONSES_ID
            ):
                self._real_id = self._real_id or self._context.generate_id("message")
                event = type(event)(item=item.model_copy(update={"id": self._real_id}))
            case ThreadItemUpdatedEvent(item_id=item_id, update=update) if item_id == FAKE_RESPONSES_ID:
                event = ThreadItemUpdatedEvent(item_id=self._real_id, update=update)
        match event:
            case ThreadItemUpdatedEvent(update=AssistantMessageContentPartTextDelta()) if self._is_silent:
                self._is_silent = False
                first_word_received.send(None, seconds=time.perf_counter() - self._asked_at)
        match event:
            case ThreadItemAddedEvent(item=AssistantMessageItem() as item):
                self._said[item.id] = item, []
            case ThreadItemUpdatedEvent(
                item_id=item_id, update=AssistantMessageContentPartTextDelta(delta=delta)
            ) if item_id in self._said:  # some providers announce no message before its first word
                self._said[item_id][1].append(delta)
            case ThreadItemDoneEvent(item=AssistantMessageItem() as item):
                self._said.pop(item.id, None)
                self._real_id = ""
                if not any(part.text.strip() for part in item.content):
                    # It has no words, or they turned out to be thoughts: see provider/response_events.py.
                    return ThreadItemRemovedEvent(item_id=item.id)
                self.has_text = True
        return event

    def end_thoughts(self) -> list[ThreadStreamEvent]:
        """End an open workflow of thoughts. The SDK only does so when a message follows."""
        workflow, self._context.workflow_item = self._context.workflow_item, None
        if workflow is None:
            return []
        lasted = datetime.now() - workflow.created_at  # naive, as everywhere in the SDK
        workflow.workflow.summary = DurationSummary(duration=int(lasted.total_seconds()))
        workflow.workflow.expanded = False
        return [ThreadItemDoneEvent(item=workflow)]

    def unfinished(self) -> list[AssistantMessageItem]:
        """Messages of which something was said, but not all."""
        return [
            message.model_copy(update={"content": [AssistantMessageContent(text=text)]})
            for message, deltas in self._said.values()
            if (text := "".join(deltas)).strip()
        ]


class _Reader:
    """A run's events, for one reader, who can be stopped while it waits for the next."""

    def __init__(self, run: RunResultStreaming) -> None:
        self._events = run.stream_events()
        self._task: asyncio.Task[Any] | None = None

    def stream_events(self) -> "_Reader":
        return self

    def __aiter__(self) -> "_Reader":
        return self

    async def __anext__(self) -> StreamEvent:
        self._task = asyncio.current_task()
        return await anext(self._events)

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
