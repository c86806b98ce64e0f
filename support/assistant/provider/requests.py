"""Sends a request to a model, and a simpler one if the provider refuses the first for good.

The cause of such a refusal is in the conversation, so every later message would be refused too.
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

REFUSALS = {400, 404, 413, 415, 422}
# Some servers answer so to a picture or a file that their model does not take. It may also be an outage.
# So the SDK first tries again, as after any other 5xx.
FAILURES = {500, 501}
RETRIES = 2
REMEMBER_SECONDS = 3600
MAX_REMEMBERED = 10_000

FILES_NOT_READ = "The assistant could not look at every picture and file, and answers without them."
HISTORY_NOT_READ = "The assistant could not read the earlier messages, and answers the last one alone."


class ExpiringSet:
    """A set. It drops a key after REMEMBER_SECONDS, and the oldest key if there are too many."""

    def __init__(self) -> None:
        self._expires_at: OrderedDict[Hashable, float] = OrderedDict()  # time.monotonic()

    def add(self, key: Hashable) -> None:
        self._expires_at.pop(key, None)
        self._expires_at[key] = time.monotonic() + REMEMBER_SECONDS
        if len(self._expires_at) > MAX_REMEMBERED:
            self._expires_at.popitem(last=False)

    def __contains__(self, key: Hashable) -> bool:
        return self._expires_at.get(key, 0.0) > time.monotonic()


# What each model refused, in this process: hashes of files, or IDS. Files are remembered one by one: a single
# broken picture must not hide other pictures from the model. They are remembered for each user apart: a
# provider refuses a whole request, so a file beside a broken one may be good. Another user may have it too.
refused = ExpiringSet()
IDS = "ids"


@dataclass(frozen=True)
class Request:
    """``earlier``: items before the newest message. ``newest``: that message and the answer to it so far."""

    earlier: list[Item]
    newest: list[Item]

    @property
    def items(self) -> list[Item]:
        return self.earlier + self.newest

    def without_ids(self) -> "Request":
        return replace(self, newest=input_items.without_ids(self.newest))

    def without_files(self, is_left_out: Callable[[Item], bool]) -> "Request":
        earlier, newest = (
            input_items.without_files(items, is_left_out) for items in (self.earlier, self.newest)
        )
        return Request(earlier, newest)

    def without_earlier(self) -> "Request":
        return replace(self, earlier=[])


# Applied one after the other, in this order. What costs the answer least comes first.
SIMPLER: list[Callable[[Request], Request]] = [
    Request.without_ids,
    lambda request: request.without_files(lambda part: part["type"] == FILE),
    lambda request: request.without_files(lambda part: True),
    Request.without_earlier,
]


class ModelRequests:
    """The requests of one answer.

    ``model``: its provider and its name. ``user_id``: the user whose message is answered. ``earlier``: how
    many items come before the newest message. ``send_event``: called once for each notice about what the model
    could not read.
    """

    def __init__(
        self, model: tuple[str, str], user_id: str = "", earlier: int = 0, send_event: SendEvent | None = None
    ) -> None:
        self._model, self._user_id, self._earlier, self._send_event = model, user_id, earlier, send_event
        self._reads_earlier = True
        self._failures_with_files = 0
        self._sent_notices: set[str] = set()

    async def send(self, items: list[Item], send: Callable[[list[Item]], Awaitable[T]]) -> T:
        """Raises the first refusal if no simpler request is accepted either."""
        whole = Request(items[: self._earlier], items[self._earlier :])
        refusals: list[openai.APIStatusError] = []
        for request in self._from_whole_to_simple(whole):
            try:
                answer = await send(request.items)
            except openai.APIStatusError as exc:
                if not self._is_for_good(exc, request):
                    raise
                refusals.append(exc.with_traceback(None))  # its traceback refers to this list: a cycle
            else:
                if refusals:
                    self._remember(whole, request, refusals[0])
                await self._send_notices(whole, request)
                return answer
        raise refusals.pop(0)

    def _is_for_good(self, exc: openai.APIStatusError, request: Request) -> bool:
        if exc.status_code in FAILURES and input_items.files_in(request.items):
            self._failures_with_files += 1
            return self._failures_with_files > RETRIES
        return exc.status_code in REFUSALS and exc.code != "model_not_found"

    def _from_whole_to_simple(self, whole: Request) -> Iterator[Request]:
        request = whole.without_files(lambda part: self._key(part) in refused)
        if (self._model, IDS) in refused:
            request = request.without_ids()
        if not self._reads_earlier:
            request = request.without_earlier()
        yield request
        for simplify in SIMPLER:
            simpler = simplify(request)
            if simpler != request:
                request = simpler
                yield request

    def _remember(self, whole: Request, accepted: Request, refusal: openai.APIStatusError) -> None:
        # Without the refusal's message: it may quote the conversation.
        logger.warning(
            "The model's provider refused a request and took a simpler one: status %s, code %s, request %s",
            *(refusal.status_code, refusal.code, refusal.request_id),
        )
        if whole.earlier and not accepted.earlier:
            self._reads_earlier = False  # perhaps the length was the cause, and not the files or ids
            return
        if accepted == whole.without_ids():
            refused.add((self._model, IDS))
        for part in _left_out(whole.items, accepted.items):
            refused.add(self._key(part))

    async def _send_notices(self, whole: Request, accepted: Request) -> None:
        # The user was told about the files of an earlier message when that message was answered.
        missing = {
            FILES_NOT_READ: bool(_left_out(whole.newest, accepted.newest)),
            HISTORY_NOT_READ: bool(whole.earlier) and not accepted.earlier,
        }
        for message, is_missing in missing.items():
            if is_missing and self._send_event and message not in self._sent_notices:
                self._sent_notices.add(message)
                await self._send_event(NoticeEvent(level="warning", message=message))

    def _key(self, part: Item) -> Hashable:
        return self._model, self._user_id, hash(part.get("image_url") or part.get("file_data"))


def _left_out(whole: list[Item], accepted: list[Item]) -> list[Item]:
    shown = input_items.files_in(accepted)
    return [part for part in input_items.files_in(whole) if part not in shown]
