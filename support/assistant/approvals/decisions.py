"""Reads the user's decision about an approval, and resumes the interrupted answer."""

import json
from dataclasses import dataclass
from typing import Any, NoReturn

from agents import Agent, RunContextWrapper, RunState
from agents.exceptions import AgentsException
from chatkit.actions import Action
from chatkit.agents import AgentContext
from chatkit.errors import CustomStreamError
from chatkit.store import NotFoundError
from chatkit.types import ThreadMetadata, WidgetItem

from support.assistant.approvals import requests, widgets
from support.context import Owner, RequestContext
from support.models import Approval, ApprovalStatus
from support.storage import approvals
from support.tools import calls

STATUSES = {widgets.APPROVE: ApprovalStatus.APPROVED, widgets.DENY: ApprovalStatus.DENIED}

# The same answer for an approval that is missing, forged, another user's or another conversation's.
UNKNOWN = "There is nothing to approve here."
DECIDED = "This was decided before."
EXPIRED = "This was asked too long ago, so it was not done. Please ask the assistant again."
OUTDATED = "This can no longer be done as it was asked, so it was not done. Please ask the assistant again."


class CannotResume(Exception):
    """The tools do not run. ``widget``: shows the outcome. The exception's message is for the user."""

    def __init__(self, message: str, widget: WidgetItem) -> None:
        super().__init__(message)
        self.widget = widget


@dataclass(frozen=True, slots=True)
class Decision:
    """The user's decision about an approval. ``saved``: the parsed state of the interrupted answer.

    ``widget``: the stored widget that asked the user.
    """

    approval: Approval
    saved: dict[str, Any]
    status: ApprovalStatus
    widget: WidgetItem
    context: RequestContext

    @property
    def closed_widget(self) -> WidgetItem:
        return widgets.closed_item(self.widget, self.status)

    @property
    def earlier_count(self) -> int:
        """See ``ModelRequests``."""
        return int(self.saved["earlier_count"])

    async def take(self, agent: Agent[Any], context: AgentContext[RequestContext]) -> RunState[Any]:
        """Close the approval, and return the state from which the answer goes on.

        The approval stays closed even if the answer then fails. Raises ``CannotResume``.
        """
        state = await self._restore(agent, context)
        for item in state.get_interruptions():
            if self.status == ApprovalStatus.APPROVED:
                state.approve(item)
            else:
                state.reject(item)
        await self._close(self.status, "granted" if self.status == ApprovalStatus.APPROVED else "denied")
        return state

    async def refuse_as_outdated(self) -> NoReturn:
        await self._close(ApprovalStatus.OUTDATED, "outdated")
        raise CannotResume(OUTDATED, widgets.closed_item(self.widget, ApprovalStatus.OUTDATED))

    async def _restore(self, agent: Agent[Any], context: AgentContext[RequestContext]) -> RunState[Any]:
        run = self.saved["run"]
        run["original_input"] = [_without_parts(item) for item in run["original_input"]]
        override = RunContextWrapper(context)
        try:
            state = await RunState.from_json(agent, run, context_override=override)
            digest = await requests.digest(state.get_interruptions(), context)
        except (AgentsException, ValueError):  # a tool is missing
            digest = ""
        if digest != self.approval.digest:
            await self.refuse_as_outdated()
        return state

    async def _close(self, status: ApprovalStatus, outcome: str) -> None:
        """Close the approval. Raises ``CannotResume`` if another request was first."""
        if await approvals.decide(self.approval, status):
            requests.record(self.approval, self.context, outcome)
            return
        approval = await approvals.find(Owner.of(self.context), self.widget.thread_id, self.widget.id)
        raise _already_closed(approval, self.widget, self.context)


def is_decision(action: Action[str, Any]) -> bool:
    return action.type in STATUSES


async def read(
    thread: ThreadMetadata, action: Action[str, Any], sender: WidgetItem | None, context: RequestContext
) -> Decision:
    """Return the decision of this action. ``sender``: the stored widget that the action names.

    Raises ``CannotResume``, or ``CustomStreamError`` if there is no such approval.
    """
    try:
        # The payload has only the id. The calls come from the stored state.
        if sender is None or action.payload != {"approval": sender.id}:
            raise NotFoundError
        approval = await approvals.find(Owner.of(context), thread.id, sender.id)
    except NotFoundError:
        calls.record_approval("", context, "refused")
        raise CustomStreamError(UNKNOWN, allow_retry=False) from None
    if approval.status != ApprovalStatus.OPEN:
        raise _already_closed(approval, sender, context)
    is_readable = approval.version == requests.VERSION
    saved = json.loads(approval.state) if is_readable else {}
    decision = Decision(approval, saved, STATUSES[action.type], sender, context)
    if not is_readable:
        await decision.refuse_as_outdated()
    return decision


def _without_parts(item: dict[str, Any]) -> dict[str, Any]:
    """Undo a change of ``RunState.to_json``, which gives earlier answers parts and a status.

    Chat Completions does not accept such a message. A message with an id is the provider's own.
    """
    content = item.get("content")
    if item.get("role") != "assistant" or "id" in item or not isinstance(content, list):
        return item
    text = "".join(part.get("text", "") for part in content)
    return {"type": "message", "role": "assistant", "content": text}


def _already_closed(approval: Approval, widget: WidgetItem, context: RequestContext) -> CannotResume:
    is_expired = approval.status == ApprovalStatus.EXPIRED
    requests.record(approval, context, "expired" if is_expired else "replayed")
    closed = widgets.closed_item(widget, ApprovalStatus(approval.status))
    return CannotResume(EXPIRED if is_expired else DECIDED, closed)
