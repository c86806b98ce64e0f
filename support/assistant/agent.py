"""Answers a user's message with a model and its tools.

OpenAI's Agents SDK runs the model and calls the tools. The ChatKit SDK converts the events of that run to
ChatKit's events. This module connects both SDKs, and repairs events that ChatKit's client cannot show well.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from agents import Agent, Model, RunContextWrapper, Runner, RunResultStreaming
from agents.mcp import MCPServer
from agents.models.fake_id import FAKE_RESPONSES_ID
from agents.stream_events import StreamEvent
from chatkit.agents import AgentContext, stream_agent_response
from chatkit.errors import CustomStreamError
from chatkit.store import Store
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    DurationSummary,
    ProgressUpdateEvent,
    SDKHiddenContextItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
)
from django.dispatch import Signal

from support.assistant import configured_agent, function_tools, guardrails, history, model_choice, title
from support.assistant.instructions import make_instructions
from support.assistant.mcp_servers import connections
from support.assistant.provider import client, failure_messages
from support.assistant.provider.run_models import RunModels
from support.conf import conf
from support.context import RequestContext

MAX_TURNS = 10  # calls of the model for one answer; each of them may ask for tools

# Sent for metrics. ``seconds``: the time from the start of the answer to its first word.
first_word_received = Signal()


async def respond(
    store: Store[RequestContext], thread: ThreadMetadata, context: RequestContext
) -> AsyncIterator[ThreadStreamEvent]:
    """Yield the events of the answer to the newest message of the thread.

    If the model fails, this function yields the partial answer, which the ChatKit SDK then stores. After that
    it raises ``CustomStreamError`` with a sentence for the user.
    """
    items = await history.load_newest_items(store, thread, context)
    agent_context = AgentContext(thread=thread, store=store, request_context=context)
    answer = _Answer(agent_context)
    async with (
        title.generating(store, thread, items, context),
        connections.connect(context.user_id, agent_context.stream) as servers,
    ):
        earlier, newest = await history.convert_to_input(items)
        chosen_model = model_choice.chosen_model(items)
        default = chosen_model or conf.SUPPORT_MODEL
        models = RunModels(default, context.user_id, len(earlier), agent_context.stream)
        if conf.SUPPORT_AGENT:
            agent = await configured_agent.make(context, servers, chosen_model)
        else:
            agent = _make_agent(context, models.get_model(default), servers)
        await _require_first_call(agent, model_choice.chosen_tool(items), agent_context)
        run = Runner.run_streamed(
            agent,
            earlier + newest,
            context=agent_context,
            max_turns=MAX_TURNS,
            run_config=client.make_run_config(models),
        )
        run_events = _RunEvents(run)
        try:
            async for event in stream_agent_response(agent_context, run_events):  # type: ignore[arg-type]
                yield answer.process(event)
        except Exception as exc:
            if guardrails.withholds_answer(exc, agent, run):
                for event in answer.withhold(is_refused=isinstance(exc, guardrails.Stopped)):
                    yield event
                if (error := guardrails.error_for_user(exc)) is not None:
                    raise error from None
            # The ChatKit SDK stores a partial answer if the client leaves, but not if the model fails.
            partial = answer.partial_messages()
            for event in [*answer.end_thoughts(), *(ThreadItemDoneEvent(item=item) for item in partial)]:
                yield event
            if (error := failure_messages.error_for_user(exc, has_text=bool(partial))) is None:
                raise
            raise error from None
        else:
            for event in answer.end_thoughts():
                yield event
            if notice := failure_messages.notice_for_user(models.ending, answer.has_text):
                yield notice
        finally:
            # If the client leaves, the ChatKit SDK does not stop the model, and it leaves two tasks running.
            # asyncio would report both tasks as errors.
            run_events.cancel()  # ends the task that waits for an event of the run
            run.cancel()  # stops the model
            # This event ends the task that waits for an event of the agent context. No code reads the event.
            await agent_context.stream(ProgressUpdateEvent(text=""))


def _make_agent(
    context: RequestContext, model: Model, servers: list[MCPServer]
) -> Agent[AgentContext[RequestContext]]:
    return Agent(
        name="Support",
        instructions=make_instructions(context.user, context.locale),
        model=model,
        model_settings=client.make_settings(),
        tools=[*function_tools.make_function_tools()],
        mcp_servers=servers,
        # Two servers may have tools of the same name. So the model knows the tool ``add`` of the server
        # ``todo`` as mcp_todo__add.
        mcp_config={"include_server_in_tool_names": True},
    )


async def _require_first_call(agent: Agent[Any], name: str | None, context: Any) -> None:
    """Make the agent call this tool first. Raises ``CustomStreamError`` if no tool has that name."""
    if name is None:
        return
    if name not in {tool.name for tool in await agent.get_all_tools(RunContextWrapper(context))}:
        message = "The tool that you picked is not available. Pick another one, or none."
        raise CustomStreamError(message, allow_retry=True)  # the tool's server may be back soon
    agent.model_settings.tool_choice = name


class _Answer:
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


class _RunEvents:
    """Yields the events of a run to one task. ``cancel`` cancels that task.

    ``stream_agent_response`` gets this object in place of the run. The function calls only ``stream_events``.
    """

    def __init__(self, run: RunResultStreaming) -> None:
        self._run, self._events = run, run.stream_events()
        self._task: asyncio.Task[Any] | None = None

    def stream_events(self) -> "_RunEvents":
        return self

    def __aiter__(self) -> "_RunEvents":
        return self

    async def __anext__(self) -> StreamEvent:
        self._task = asyncio.current_task()
        try:
            event = await anext(self._events)
        except Exception as exc:  # StopAsyncIteration too
            if tripped := guardrails.tripped_in(self._run, exc):
                raise guardrails.Stopped(tripped) from None
            raise
        # The Agents SDK would read the model's answer to its end before it raises the exception.
        if tripped := guardrails.tripped_in(self._run):
            raise guardrails.Stopped(tripped)
        return event

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
