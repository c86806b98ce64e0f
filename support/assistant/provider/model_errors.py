"""What a model does wrong, in one sentence for the user; the rest is for the log."""

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

from support.assistant.provider.language_models import Ending

logger = logging.getLogger(__name__)

UNAVAILABLE = "The assistant is not available at the moment."
UNREACHABLE = "The assistant cannot be reached at the moment. Please try again."
REFUSED = "The assistant cannot answer this. Please put it in another way, or in a new chat."
BROKE_OFF = "The answer broke off. Please try again."
ENDLESS = "The assistant did not get to the end of this. Please try again, or ask for less at once."
MAX_RETRY_AFTER_SECONDS = 3600

# How an answer ended: a notice if something was said, an error if nothing was.
LENGTH_NOTICE = "The answer became too long and was cut off. Ask the assistant to go on."
LENGTH_ERROR = "The assistant reached its length limit before it said anything. Please ask for less at once."
FILTER_NOTICE = "A content filter stopped the answer here."
FILTER_ERROR = "A content filter withheld the answer. Please ask in other words, or in a new chat."
UNKNOWN_NOTICE = "The answer may be incomplete: the assistant did not say why it stopped."
EMPTY_NOTICE = "The assistant stopped here and gave no further answer."
EMPTY_ERROR = "The assistant gave no answer. Please try again."

model_failed = Signal()  # kind: one of KINDS; for whoever counts them
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
)


def error_for_user(exc: Exception, has_text: bool = False) -> CustomStreamError | None:
    """What to raise in place of a model's failure; ``None`` if it is none. ``has_text``: it had spoken."""
    match exc:
        case openai.RateLimitError() if exc.code != "insufficient_quota":
            kind, message = "busy", _busy(exc.response.headers.get("Retry-After", ""))
        case openai.APIConnectionError() | openai.InternalServerError() if not has_text:
            kind, message = "unreachable", UNREACHABLE
        case openai.BadRequestError() | openai.UnprocessableEntityError():
            kind, message = "refused", REFUSED
        case openai.APIStatusError(status_code=413 | 415):
            kind, message = "refused", REFUSED
        case openai.APIStatusError():  # no key, no such model, nothing left to spend: nothing a user could do
            kind, message = "unavailable", UNAVAILABLE
        case MaxTurnsExceeded():
            kind, message = "endless", ENDLESS
        case openai.OpenAIError() | AgentsException() | httpx2.HTTPError():
            kind, message = "broke_off", BROKE_OFF
        case json.JSONDecodeError() | pydantic.ValidationError():  # it speaks, but not its API
            kind, message = "broke_off", BROKE_OFF
        case _:
            return None
    model_failed.send(None, kind=kind)
    # Neither its message nor its traceback: both may quote the conversation, or the key.
    logger.error(
        "The model failed: %s, status %s, code %s, request %s",
        type(exc).__name__,
        *(getattr(exc, name, None) for name in ("status_code", "code", "request_id")),
    )
    return CustomStreamError(message, allow_retry=kind not in ("refused", "unavailable"))


def notice_for_user(ending: Ending, has_text: bool) -> NoticeEvent | None:
    """What the user is told when an answer ended without an exception; ``None`` if the answer is whole.

    ``has_text``: whether anything was said, perhaps before a tool was called. Raises
    ``CustomStreamError`` if nothing was.
    """
    match ending:
        case Ending.COMPLETE:
            return None
        case Ending.LENGTH:
            kind, notice, error = "cut_off", LENGTH_NOTICE, LENGTH_ERROR
        case Ending.FILTER:
            kind, notice, error = "filtered", FILTER_NOTICE, FILTER_ERROR
        case Ending.UNKNOWN:  # no failure: some providers never give a reason
            return NoticeEvent(level="info", message=UNKNOWN_NOTICE)
        case Ending.EMPTY:
            kind, notice, error = "empty", EMPTY_NOTICE, EMPTY_ERROR
    model_failed.send(None, kind=kind)
    logger.warning("The model's answer is not whole: %s", kind)
    if has_text:
        return NoticeEvent(level="warning", message=notice)
    raise CustomStreamError(error, allow_retry=ending != Ending.FILTER)  # a filter would stop a retry, too


def _busy(retry_after: str) -> str:
    try:
        seconds = math.ceil(float(retry_after))
    except (ValueError, OverflowError):  # a date, nan, inf
        seconds = 0
    when = f"in {seconds} seconds" if 1 < seconds <= MAX_RETRY_AFTER_SECONDS else "in a moment"
    return f"The assistant is very busy. Please try again {when}."
