"""What happens if a guardrail of a team's agent stops an answer.

The user must not read what the guardrail has stopped. So the client removes the items of the answer, and they
are not stored.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from typing import Any

from agents import Agent, InputGuardrail, InputGuardrailResult, RunResultStreaming
from agents.exceptions import (
    InputGuardrailTripwireTriggered,
    OutputGuardrailTripwireTriggered,
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrailTripwireTriggered,
)
from chatkit.errors import CustomStreamError

from support.assistant.provider import failure_messages

logger = logging.getLogger(__name__)

# Sentences for the user. A team's guardrail may give its own: see ``_own_message``.
INPUT_STOPPED = "The assistant does not answer this message. Please ask in other words, or something else."
OUTPUT_STOPPED = "The answer was withheld. Please ask in other words, or something else."
TOOL_STOPPED = "The assistant may not do this for you. Please ask for something else."
OWN_MESSAGE = "user_message"  # the key of the sentence in the guardrail's ``output_info``

TRIPPED = (
    InputGuardrailTripwireTriggered,
    OutputGuardrailTripwireTriggered,
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrailTripwireTriggered,
)
MODULES = {"agents.guardrail", "agents.tool_guardrails"}  # of the Agents SDK. They call the team's guardrails


def watched(
    found: Iterable[InputGuardrail[Any]], on_trip: Callable[[Exception], None]
) -> list[InputGuardrail[Any]]:
    """Return copies of the guardrails. They call ``on_trip`` with the exception as soon as one is tripped."""
    return [_watched(each, on_trip) for each in found]


def _watched(guardrail: InputGuardrail[Any], on_trip: Callable[[Exception], None]) -> InputGuardrail[Any]:
    async def run(*args: Any, **options: Any) -> InputGuardrailResult:
        result = await guardrail.run(*args, **options)
        if result.output.tripwire_triggered:
            on_trip(InputGuardrailTripwireTriggered(result))
        return result

    copied = copy(guardrail)  # the team's own object serves all users
    copied.run = run  # type: ignore[method-assign]
    return copied


class Stopped(Exception):
    """A guardrail was tripped. ``guardrail``: its name. ``message``: a sentence for the user.

    It hides the Agents SDK's exception from ``stream_agent_response``. That function would remove items by
    ids that ``agent`` has replaced.
    """

    def __init__(self, tripped: Exception) -> None:
        match tripped:
            case InputGuardrailTripwireTriggered() | OutputGuardrailTripwireTriggered():
                result: Any = tripped.guardrail_result
                guardrail, output = result.guardrail, result.output
            case ToolInputGuardrailTripwireTriggered() | ToolOutputGuardrailTripwireTriggered():
                guardrail, output = tripped.guardrail, tripped.output
        super().__init__()
        self.guardrail = guardrail.get_name()
        self.message = _own_message(output.output_info) or _default_message(tripped)


def error_for_user(exc: Exception) -> CustomStreamError | None:
    """Return the error for an answer that a guardrail has stopped, or ``None``. Also logs and counts it.

    Trying again would trip the guardrail again, so the error offers no retry.
    """
    if not isinstance(exc, Stopped):
        return None
    failure_messages.model_failed.send(None, kind="guardrail")
    # The name is from the team's code. Everything else about the guardrail may quote the conversation.
    logger.info("The guardrail %s stopped an answer", exc.guardrail)
    return CustomStreamError(exc.message, allow_retry=False)


def withholds_answer(exc: Exception, agent: Agent[Any], run: RunResultStreaming, is_resumed: bool) -> bool:
    """Whether the user must not see this answer: a guardrail tripped, failed, or had not ended yet.

    ``is_resumed``: the run goes on after an approval. The input guardrails ended before the user was asked.
    """
    had_not_ended = not is_resumed and len(run.input_guardrail_results) < len(agent.input_guardrails)
    if isinstance(exc, Stopped) or had_not_ended:
        return True
    traceback = exc.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__") in MODULES:
            return True
        traceback = traceback.tb_next
    return False


def _own_message(info: Any) -> str:
    """Return the sentence that a guardrail gives for the user: the key ``user_message`` of a dict.

    Nothing else of ``output_info`` is shown. It often holds what a model has written about the user's text.
    """
    message = info.get(OWN_MESSAGE) if isinstance(info, Mapping) else None
    return message if isinstance(message, str) else ""


def _default_message(tripped: Exception) -> str:
    match tripped:
        case InputGuardrailTripwireTriggered():
            return INPUT_STOPPED
        case OutputGuardrailTripwireTriggered():
            return OUTPUT_STOPPED
        case _:
            return TOOL_STOPPED
