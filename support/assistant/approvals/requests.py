"""Asks the user to approve the calls of tools at which an answer was interrupted.

The Agents SDK interrupts a run before it calls a tool that needs approval. We store the state of the run in
the database, so any process can resume it.
"""

import hashlib
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import agents
from agents import Agent, RunContextWrapper, RunResultStreaming
from agents.items import ToolApprovalItem
from agents.run_state import CURRENT_SCHEMA_VERSION
from chatkit.agents import AgentContext
from chatkit.errors import CustomStreamError
from chatkit.types import (
    ThreadItem,
    ThreadItemDoneEvent,
    ThreadItemReplacedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    WidgetItem,
)
from django.utils import timezone

from support.assistant.approvals import widgets
from support.context import Owner, RequestContext
from support.models import Approval, ApprovalStatus
from support.storage import approvals
from support.tools import calls
from support.tools.configured import configured

LIFETIME = timedelta(hours=1)
MAX_CALLS = 10  # in one question. With more, users would approve without reading
# A state of another version is not resumed: nobody has tested what the Agents SDK would do with it.
VERSION = f"{agents.__version__} {CURRENT_SCHEMA_VERSION}"
TOO_MANY = "The assistant wanted to do too much at once. Please ask for less at once."


async def ask(
    run: RunResultStreaming, context: AgentContext[RequestContext], earlier_count: int
) -> AsyncIterator[ThreadStreamEvent]:
    """Yield the widget that asks for approval, if the run was interrupted. All its calls are one question.

    ``earlier_count``: see ``ModelRequests``.
    """
    if not run.interruptions:
        return
    if len(run.interruptions) > MAX_CALLS:
        raise CustomStreamError(TOO_MANY, allow_retry=True)
    state = run.to_state()
    # The context has the session, the claims and the user's row. The state must not contain any of them.
    saved = state.to_json(context_serializer=lambda _: {}, strict_context=True)
    asked = [_call(item) for item in run.interruptions]
    approval = Approval(
        tools=[call.tool for call in asked],
        digest=await digest(run.interruptions, context),
        version=VERSION,
        state=json.dumps({"earlier_count": earlier_count, "run": saved}),
        expires_at=timezone.now() + LIFETIME,
    )
    item_id = context.generate_id("message")
    item = WidgetItem(
        id=item_id,
        thread_id=context.thread.id,
        created_at=datetime.now(),  # naive, as all times in the ChatKit SDK
        widget=widgets.make(item_id, asked),
        copy_text=widgets.summary(asked),
    )
    # Store both before the event is sent, because the user may click at once.
    await approvals.add(Owner.of(context.request_context), context.thread.id, item, approval)
    yield ThreadItemDoneEvent(item=item)


async def withdraw(
    items: list[ThreadItem], thread: ThreadMetadata, context: RequestContext
) -> AsyncIterator[ThreadStreamEvent]:
    """Close the approvals that are open when the user writes a new message, and their widgets in ``items``.

    Otherwise the user could approve calls that no longer fit the conversation.
    """
    asking = [item.id for item in items if widgets.is_open(item)]
    if not asking:
        return
    closed = await approvals.withdraw(Owner.of(context), thread.id, asking)
    for place, item in enumerate(items):
        if isinstance(item, WidgetItem) and item.id in closed:
            approval, is_closed_here = closed[item.id]
            if is_closed_here:
                record(approval, context, "withdrawn")
            items[place] = shown = widgets.closed_item(item, ApprovalStatus(approval.status))
            yield ThreadItemReplacedEvent(item=shown)


async def digest(interruptions: list[ToolApprovalItem], context: AgentContext[RequestContext]) -> str:
    """Return a digest of the calls: tools, arguments and their schemas, and the active organization."""
    organization = getattr(context.request_context, "organization", None)
    described: list[Any] = [organization and organization.id]
    for item in interruptions:
        schema = (await _schemas(item.agent, context)).get(item.tool_name)
        described.append([item.call_id, item.tool_name, item.arguments, schema])
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def record(approval: Approval, context: RequestContext, outcome: str) -> None:
    for name in approval.tools:
        calls.record_approval(name, context, outcome)


async def _schemas(agent: Agent[Any], context: AgentContext[RequestContext]) -> dict[str | None, Any]:
    tools = await agent.get_all_tools(RunContextWrapper(context))
    return {tool.name: getattr(tool, "params_json_schema", None) for tool in tools}


def _call(item: ToolApprovalItem) -> widgets.Call:
    name = item.tool_name or ""
    tool = configured().get(name)
    title = tool.title if tool else name.replace("_", " ").strip().capitalize()
    return widgets.Call(widgets.printable(name), widgets.printable(title), item.arguments or "")
