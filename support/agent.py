"""The answer of a model, through OpenAI's Agents SDK (Responses API)."""

import asyncio
import json
from collections.abc import AsyncIterator
from weakref import WeakKeyDictionary

from agents import Agent, OpenAIResponsesModel, RunConfig, Runner
from chatkit.agents import AgentContext, simple_to_agent_input, stream_agent_response
from chatkit.store import Store
from chatkit.types import ThreadMetadata, ThreadStreamEvent
from openai import AsyncOpenAI

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
    agent: Agent[AgentContext[RequestContext]] = Agent(
        name="Support",
        # Quoted as JSON: a name is the user's own words, not an instruction.
        instructions=f"{conf.SUPPORT_INSTRUCTIONS}\nThe user's name is {json.dumps(context.user.name)}.",
        model=OpenAIResponsesModel(conf.SUPPORT_MODEL, _client()),
    )
    run = Runner.run_streamed(
        agent,
        await simple_to_agent_input(list(reversed(newest.data))),
        context=agent_context,
        # Tracing would post every prompt to OpenAI, whatever OPENAI_BASE_URL says.
        run_config=RunConfig(tracing_disabled=True),
    )
    try:
        async for event in stream_agent_response(agent_context, run):
            yield event
    finally:
        # The SDK lets the model run on to its last word after the client has left.
        run.cancel()


def _client() -> AsyncOpenAI:
    where = (conf.OPENAI_BASE_URL, conf.OPENAI_API_KEY)
    loop = asyncio.get_running_loop()
    known, client = _clients.get(loop, (None, None))
    if client is None or known != where:
        # A local model needs no key, but the client insists on one.
        client = AsyncOpenAI(base_url=where[0] or None, api_key=where[1] or "none")
        _clients[loop] = where, client
    return client
