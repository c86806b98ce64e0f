"""Sends requests to a model. If the provider refuses a request for good, sends a simpler request.

The cause of such a refusal is in the conversation: a picture, a file, an id or the length. Every later
message sends the conversation again. So without a simpler request, the provider would refuse all later
messages.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import openai
from chatkit.types import NoticeEvent, ThreadStreamEvent

from support.assistant.provider import input_items
from support.assistant.provider.input_items import FILE, Item

logger = logging.getLogger(__name__)

T = TypeVar("T")
SendEvent = Callable[[ThreadStreamEvent], Awaitable[None]]

REFUSAL_STATUSES = {400, 404, 413, 415, 422}
# Some providers answer with these if their model cannot read a picture or a file. The cause may also be an
# outage. So the Agents SDK sends the request again first, as after any other 5xx.
FAILURE_STATUSES = {500, 501}
RETRIES = 2  # of the Agents SDK, after the first attempt
KEY_LIFETIME_SECONDS = 3600
MAX_KEYS = 10_000

FILES_NOT_READ = "The assistant could not look at every picture and file, and answers without them."
HISTORY_NOT_READ = "The assistant could not read the earlier messages, and answers the last one alone."


class ExpiringSet:
    """A set that drops each key after KEY_LIFETIME_SECONDS, and the oldest key if there are too many."""

    def __init__(self) -> None:
        self._expires_at: OrderedDict[Hashable, float] = OrderedDict()  # time.monotonic()

    def add(self, key: Hashable) -> None:
        self._expires_at.pop(key, None)
        self._expires_at[key] = time.monotonic() + KEY_LIFETIME_SECONDS
        if len(self._expires_at) > MAX_KEYS:
            self._expires_at.popitem(last=False)

    def __contains__(self, key: Hashable) -> bool:
        return self._expires_at.get(key, 0.0) > time.monotonic()


# What models have refused, for this process. A key is (model, ITEM_IDS) or (model, user id, hash of a file).
#
# Each file has its own key, so that one broken picture does not hide other pictures from the model.
#
# The key of a file contains the user's id. A provider refuses a whole request, so a file that is not broken
# may be remembered together with a broken one. Another user may send the same file, and the model should see
# it.
known_refusals = ExpiringSet()
ITEM_IDS = "ids"


@dataclass(frozen=True)
class ModelInput:
    """The input items of one request.

    ``earlier``: the items before the newest message. ``newest``: the newest message, and the part of its
    answer that exists already, such as tool calls.
    """

    earlier: list[Item]
    newest: list[Item]

    @property
    def items(self) -> list[Item]:
        return self.earlier + self.newest

    def without_ids(self) -> "ModelInput":
        """Return the input without ids.

        Only ``newest`` may have ids. Our own code writes the earlier items, and gives them no ids.
        """
        return replace(self, newest=input_items.without_ids(self.newest))

    def without_files(self, is_removed: Callable[[Item], bool]) -> "ModelInput":
        earlier, newest = (
            input_items.without_files(items, is_removed) for items in (self.earlier, self.newest)
        )
        return ModelInput(earlier, newest)

    def without_earlier(self) -> "ModelInput":
        # A handoff, or an agent that another agent calls as a tool, may have a shorter input. Then all of its
        # items count as earlier.
        return replace(self, earlier=[]) if self.newest else self


# These are applied one after the other, each to the result of the one before. The first removes the least.
SIMPLIFICATIONS: list[Callable[[ModelInput], ModelInput]] = [
    ModelInput.without_ids,
    lambda model_input: model_input.without_files(lambda part: part["type"] == FILE),
    lambda model_input: model_input.without_files(lambda part: True),
    ModelInput.without_earlier,
]


class ModelRequests:
    """Sends the requests for one answer. There are several if the model calls tools.

    ``model``: the provider's URL and the model's name. ``user_id``: the author of the newest message.
    ``earlier_count``: the number of items before the newest message. ``send_event``: sends a notice to the
    client if the model did not get the whole conversation. Each notice is sent once.
    """

    def __init__(
        self,
        model: tuple[str, str],
        user_id: str = "",
        earlier_count: int = 0,
        send_event: SendEvent | None = None,
    ) -> None:
        self._model, self._user_id, self._earlier_count = model, user_id, earlier_count
        self._send_event = send_event
        self._sends_earlier = True
        self._failures_with_files = 0
        self._sent_notices: set[str] = set()

    async def send(self, items: list[Item], send_once: Callable[[list[Item]], Awaitable[T]]) -> T:
        """Send the items. As long as the provider refuses, send simpler input. Returns the provider's answer.

        ``send_once`` makes one request. If the provider refuses all inputs, this method raises the first
        refusal.
        """
        original = ModelInput(items[: self._earlier_count], items[self._earlier_count :])
        refusals: list[openai.APIStatusError] = []
        for model_input in self._variants(original):
            try:
                answer = await send_once(model_input.items)
            except openai.APIStatusError as exc:
                has_files = bool(input_items.files_in(model_input.items))
                if has_files and exc.status_code in FAILURE_STATUSES:
                    self._failures_with_files += 1
                if not self._is_refusal(exc, has_files):
                    raise
                # Drop the traceback, because it refers to this list: a reference cycle.
                refusals.append(exc.with_traceback(None))
            else:
                if refusals:
                    self._remember(original, model_input, refusals[0])
                await self._send_notices(original, model_input)
                return answer
        raise refusals.pop(0)  # pop: an exception in the list would be a reference cycle

    def _is_refusal(self, exc: openai.APIStatusError, has_files: bool) -> bool:
        """Whether the provider would refuse the same input again.

        A 500 or 501 may be an outage. So the first RETRIES of them for an input with files do not count as
        refusals: ``send`` raises them, and the Agents SDK calls ``send`` again. Each later 500 or 501 for an
        input with files counts as a refusal.
        """
        if has_files and exc.status_code in FAILURE_STATUSES:
            return self._failures_with_files > RETRIES
        return exc.status_code in REFUSAL_STATUSES and exc.code != "model_not_found"

    def _variants(self, original: ModelInput) -> Iterator[ModelInput]:
        """Yield the input without the parts that the model is known to refuse. Then yield simpler inputs."""
        model_input = original.without_files(lambda part: self._key(part) in known_refusals)
        if (self._model, ITEM_IDS) in known_refusals:
            model_input = model_input.without_ids()
        if not self._sends_earlier:
            model_input = model_input.without_earlier()
        yield model_input
        for simplify in SIMPLIFICATIONS:
            simpler = simplify(model_input)
            if simpler != model_input:
                model_input = simpler
                yield model_input

    def _remember(self, original: ModelInput, accepted: ModelInput, refusal: openai.APIStatusError) -> None:
        """Log the refusal, and remember what the provider refused: the difference of both inputs."""
        # Do not log the refusal's message: it may quote the conversation.
        logger.warning(
            "The model's provider refused a request and took a simpler one: status %s, code %s, request %s",
            *(refusal.status_code, refusal.code, refusal.request_id),
        )
        if original.earlier and not accepted.earlier:
            # The length of the conversation may be the cause. So do not remember the files and ids.
            self._sends_earlier = False
            return
        if accepted == original.without_ids():
            known_refusals.add((self._model, ITEM_IDS))
        for part in _removed_files(original.items, accepted.items):
            known_refusals.add(self._key(part))

    async def _send_notices(self, original: ModelInput, accepted: ModelInput) -> None:
        # Compare only the files of the newest message. The user got a notice about earlier files when those
        # were new.
        notices = {
            FILES_NOT_READ: bool(_removed_files(original.newest, accepted.newest)),
            HISTORY_NOT_READ: bool(original.earlier) and not accepted.earlier,
        }
        for message, applies in notices.items():
            if applies and self._send_event and message not in self._sent_notices:
                self._sent_notices.add(message)
                await self._send_event(NoticeEvent(level="warning", message=message))

    def _key(self, part: Item) -> Hashable:
        """Return the key of a file for ``known_refusals``."""
        return self._model, self._user_id, hash(part.get("image_url") or part.get("file_data"))


def _removed_files(original: list[Item], accepted: list[Item]) -> list[Item]:
    """Return the pictures and files of ``original`` that ``accepted`` does not have."""
    kept = input_items.files_in(accepted)
    return [part for part in input_items.files_in(original) if part not in kept]
