"""The answer of a model, through OpenAI's Agents SDK (Responses API)."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from weakref import WeakKeyDictionary

from agents import Agent, OpenAIResponsesModel, RunConfig, Runner, RunResultStreaming
from agents.stream_events import StreamEvent
from chatkit.agents import AgentContext, ThreadItemConverter, stream_agent_response
from chatkit.store import Store
from chatkit.types import ProgressUpdateEvent, ThreadMetadata, ThreadStreamEvent, UserMessageTagContent
from openai import AsyncOpenAI
from openai.types.responses import ResponseInputTextParam

from support.conf import conf
from support.context import RequestContext

HISTORY = 40  # items of the conversation that the model sees, the newest

# A client keeps its connections in the event loop that made them, so there is one for each loop.
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[tuple[str, str], AsyncOpenAI]] = (
    WeakKeyDictionary()
)


async def respond(
    store: Store[RequestContext], thread: ThreadMetadata, context: RequestContext
) -> AsyncIterator[ThreadStreamEvent]:
    newest = await store.load_thread_items(thread.id, None, HISTORY, "desc", context)
    agent_context = AgentContext(thread=thread, store=store, request_context=context)
    # Quoted as JSON: a name is the user's own words, not an instruction.
    name = json.dumps(context.user.name, ensure_ascii=False)
    agent: Agent[AgentContext[RequestContext]] = Agent(
        name="Support",
        instructions=f"{conf.SUPPORT_INSTRUCTIONS}\nThe user's name is {name}.",
        model=OpenAIResponsesModel(conf.SUPPORT_MODEL, _client()),
    )
    run = Runner.run_streamed(
        agent,
        await Converter().to_agent_input(list(reversed(newest.data))),
        context=agent_context,
        # Tracing would post every prompt to OpenAI, whatever OPENAI_BASE_URL says.
        run_config=RunConfig(tracing_disabled=True),
    )
    reader = _Reader(run)
    try:
        async for event in stream_agent_response(agent_context, reader):  # type: ignore[arg-type]
            yield event
    finally:
        # The SDK lets the model run on to its last word after the client has left, and leaves two
        # tasks behind, one waiting for the model's events and one for the context's, which asyncio
        # reports as errors. So both are ended here, the second by an event that nobody gets.
        reader.stop()
        run.cancel()
        await agent_context.stream(ProgressUpdateEvent(text=""))


class Converter(ThreadItemConverter):
    """What the model reads of the conversation."""

    async def tag_to_message_content(self, tag: UserMessageTagContent) -> ResponseInputTextParam:
        # The SDK's own raises: one tag, and its thread would fail for good.
        return ResponseInputTextParam(
            type="input_text", text=json.dumps({tag.text: tag.data}, ensure_ascii=False)
        )


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


def _client() -> AsyncOpenAI:
    where = (conf.OPENAI_BASE_URL, conf.OPENAI_API_KEY)
    loop = asyncio.get_running_loop()
    known, client = _clients.get(loop, (None, None))
    if client is None or known != where:
        # A local model needs no key, but the client insists on one.
        client = AsyncOpenAI(base_url=where[0] or None, api_key=where[1] or "none")
        _clients[loop] = where, client
    return client
