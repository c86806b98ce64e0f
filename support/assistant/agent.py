"""Answers a user's message with a model and its tools.

OpenAI's Agents SDK runs the model and calls the tools. The ChatKit SDK converts the events of that run to
ChatKit's events. This module connects both SDKs.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from agents import (
    Agent,
    Model,
    RunContextWrapper,
    Runner,
    RunState,
    TResponseInputItem,
)
from agents.mcp import MCPServer
from chatkit.actions import Action
from chatkit.agents import AgentContext, stream_agent_response
from chatkit.errors import CustomStreamError
from chatkit.store import Store
from chatkit.types import (
    ProgressUpdateEvent,
    ThreadItem,
    ThreadItemDoneEvent,
    ThreadItemReplacedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    WidgetItem,
)

from support.assistant import configured_agent, function_tools, guardrails, history, model_choice, title
from support.assistant.answer import Answer, RunEvents
from support.assistant.approvals import decisions, requests
from support.assistant.instructions import make_instructions
from support.assistant.mcp_servers import connections
from support.assistant.provider import client, failure_messages
from support.assistant.provider.run_models import RunModels
from support.conf import conf
from support.context import RequestContext

MAX_TURNS = 10  # calls of the model for one answer; each of them may ask for tools


async def respond(
    store: Store[RequestContext], thread: ThreadMetadata, context: RequestContext
) -> AsyncIterator[ThreadStreamEvent]:
    """Yield the events of the answer to the newest message of the thread.

    If the model fails, this function yields the partial answer, which the ChatKit SDK then stores. After that
    it raises ``CustomStreamError`` with a sentence for the user.
    """
    items = await history.load_newest_items(store, thread, context)
    async for event in requests.withdraw(items, thread, context):
        yield event
    async for event in _answer(store, thread, items, context):
        yield event


async def resume(
    store: Store[RequestContext],
    thread: ThreadMetadata,
    action: Action[str, Any],
    sender: WidgetItem | None,
    context: RequestContext,
) -> AsyncIterator[ThreadStreamEvent]:
    """Yield the rest of an answer that was interrupted for an approval. ``action``: the user's decision.

    Raises ``CustomStreamError``, as ``respond`` does, and if there is nothing to resume.
    """
    try:
        decision = await decisions.read(thread, action, sender, context)
        items = await history.load_newest_items(store, thread, context)
        async for event in _answer(store, thread, items, context, decision):
            yield event
    except decisions.CannotResume as exc:
        yield ThreadItemReplacedEvent(item=exc.widget)
        raise CustomStreamError(str(exc), allow_retry=False) from None


async def _answer(
    store: Store[RequestContext],
    thread: ThreadMetadata,
    items: list[ThreadItem],
    context: RequestContext,
    decision: decisions.Decision | None = None,
) -> AsyncIterator[ThreadStreamEvent]:
    agent_context = AgentContext(thread=thread, store=store, request_context=context)
    answer = Answer(agent_context)
    async with (
        title.generating(store, thread, items, context),
        connections.connect(context, agent_context.stream) as servers,
    ):
        earlier, newest = await history.convert_to_input([] if decision else items)
        earlier_count = decision.earlier_count if decision else len(earlier)
        chosen_model = model_choice.chosen_model(items)
        default = chosen_model or conf.SUPPORT_MODEL
        models = RunModels(default, context.user_id, earlier_count, agent_context.stream)
        if conf.SUPPORT_AGENT:
            agent = await configured_agent.make(context, servers, chosen_model)
        else:
            agent = _make_agent(context, models.get_model(default), servers)
        run_events = RunEvents()
        agent.input_guardrails = guardrails.watched(agent.input_guardrails, run_events.stop)
        start: list[TResponseInputItem] | RunState[Any] = earlier + newest
        if decision:
            start = await decision.take(agent, agent_context)
            yield ThreadItemReplacedEvent(item=decision.closed_widget)
        else:
            await _require_first_call(agent, model_choice.chosen_tool(items), agent_context)
        run = Runner.run_streamed(
            agent,
            start,
            context=agent_context,
            max_turns=MAX_TURNS,
            run_config=client.make_run_config(models),
        )
        try:
            async for event in stream_agent_response(agent_context, run_events.of(run)):  # type: ignore[arg-type]
                yield answer.process(event)
        except Exception as exc:
            if guardrails.withholds_answer(exc, agent, run, is_resumed=decision is not None):
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
            async for event in requests.ask(run, agent_context, earlier_count):
                yield event
            if not run.interruptions and (
                notice := failure_messages.notice_for_user(models.ending, answer.has_text)
            ):
                yield notice
        finally:
            # If the client leaves, the ChatKit SDK does not stop the model, and it leaves two tasks running.
            # asyncio would report both tasks as errors.
            run_events.cancel()  # ends the task that waits for an event of the run
            run.cancel()  # stops the model
            if run.run_loop_task:
                run.run_loop_task.add_done_callback(_read_exception)
            # This event ends the task that waits for an event of the agent context. No code reads the event.
            await agent_context.stream(ProgressUpdateEvent(text=""))


def _read_exception(task: asyncio.Task[Any]) -> None:
    """Read the exception of a run that a guardrail has stopped. Otherwise asyncio logs it, with its text."""
    if not task.cancelled():
        task.exception()


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
