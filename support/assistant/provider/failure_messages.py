"""Turns a model's failure into one sentence for the user, and logs the failure.

A failure is an exception, or an answer that is not complete (``AnswerEnding``). The log gets the class of the
exception, the HTTP status and the provider's codes. It never gets a text of the provider.
"""

import json
import logging
import math

import httpx2
import openai
import pydantic
from agents.exceptions import AgentsException, MaxTurnsExceeded
from chatkit.errors import CustomStreamError
from chatkit.types import NoticeEvent
from django.dispatch import Signal

from support.assistant.provider.language_models import AnswerEnding

logger = logging.getLogger(__name__)

UNAVAILABLE = "The assistant is not available at the moment."
UNREACHABLE = "The assistant cannot be reached at the moment. Please try again."
REFUSED = "The assistant cannot answer this. Please put it in another way, or in a new chat."
BROKE_OFF = "The answer broke off. Please try again."
ENDLESS = "The assistant did not get to the end of this. Please try again, or ask for less at once."
MAX_RETRY_AFTER_SECONDS = 3600

# Named after the members of ``AnswerEnding``. If the answer has some text, the user gets the notice, and
# otherwise the error.
LENGTH_NOTICE = "The answer became too long and was cut off. Ask the assistant to go on."
LENGTH_ERROR = "The assistant reached its length limit before it said anything. Please ask for less at once."
FILTER_NOTICE = "A content filter stopped the answer here."
FILTER_ERROR = "A content filter withheld the answer. Please ask in other words, or in a new chat."
UNKNOWN_NOTICE = "The answer may be incomplete: the assistant did not say why it stopped."
EMPTY_NOTICE = "The assistant stopped here and gave no further answer."
EMPTY_ERROR = "The assistant gave no answer. Please try again."

model_failed = Signal()  # sent for metrics, with ``kind``: one of KINDS
KINDS = (
    "busy",
    "unreachable",
    "refused",
    "unavailable",
    "endless",
    "broke_off",
    "cut_off",
    "filtered",
    "empty",
    "guardrail",  # support.assistant.guardrails
)


def error_for_user(exc: Exception, has_text: bool = False) -> CustomStreamError | None:
    """Return the error to raise in place of an exception of the model, or ``None`` for any other exception.

    Also logs the failure and sends ``model_failed``.

    ``has_text``: whether the answer already has some text.
    """
    match exc:
        case openai.RateLimitError() if exc.code != "insufficient_quota":
            kind, message = "busy", _busy_message(exc.response.headers.get("Retry-After", ""))
        case openai.APIConnectionError() | openai.InternalServerError() if not has_text:
            kind, message = "unreachable", UNREACHABLE
        case openai.BadRequestError() | openai.UnprocessableEntityError():
            kind, message = "refused", REFUSED
        case openai.APIStatusError(status_code=413 | 415):
            kind, message = "refused", REFUSED
        case openai.APIStatusError():  # a wrong key, a wrong model, no money: the user cannot change these
            kind, message = "unavailable", UNAVAILABLE
        case MaxTurnsExceeded():
            kind, message = "endless", ENDLESS
        case openai.OpenAIError() | AgentsException() | httpx2.HTTPError():
            kind, message = "broke_off", BROKE_OFF
        case json.JSONDecodeError() | pydantic.ValidationError():  # the answer does not conform to the API
            kind, message = "broke_off", BROKE_OFF
        case _:
            return None
    model_failed.send(None, kind=kind)
    # Do not log the message and the traceback: both may quote the conversation or the API key.
    logger.error(
        "The model failed: %s, status %s, code %s, request %s",
        type(exc).__name__,
        *(getattr(exc, name, None) for name in ("status_code", "code", "request_id")),
    )
    return CustomStreamError(message, allow_retry=kind not in ("refused", "unavailable"))


def notice_for_user(ending: AnswerEnding, has_text: bool) -> NoticeEvent | None:
    """Return the notice for an answer that ended without an exception, or ``None`` for a complete answer.

    Raises ``CustomStreamError`` if the answer is not complete and has no text. Also logs the failure and
    sends ``model_failed``.

    ``has_text``: whether the answer has some text, before a tool call or at its end.
    """
    match ending:
        case AnswerEnding.COMPLETE:
            return None
        case AnswerEnding.LENGTH:
            kind, notice, error = "cut_off", LENGTH_NOTICE, LENGTH_ERROR
        case AnswerEnding.FILTER:
            kind, notice, error = "filtered", FILTER_NOTICE, FILTER_ERROR
        case AnswerEnding.UNKNOWN:  # this is not a failure: some providers never give a reason
            return NoticeEvent(level="info", message=UNKNOWN_NOTICE)
        case AnswerEnding.EMPTY:
            kind, notice, error = "empty", EMPTY_NOTICE, EMPTY_ERROR
    model_failed.send(None, kind=kind)
    logger.warning("The model's answer is not complete: %s", kind)
    if has_text:
        return NoticeEvent(level="warning", message=notice)
    # A filter would also stop a retry.
    raise CustomStreamError(error, allow_retry=ending != AnswerEnding.FILTER)


def _busy_message(retry_after: str) -> str:
    try:
        seconds = math.ceil(float(retry_after))
    except (ValueError, OverflowError):  # Retry-After is a date, "nan" or "inf"
        seconds = 0
    when = f"in {seconds} seconds" if 1 < seconds <= MAX_RETRY_AFTER_SECONDS else "in a moment"
    return f"The assistant is very busy. Please try again {when}."
