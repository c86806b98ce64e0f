"""Sends requests to a model. If the provider refuses one permanently, a simpler request is tried.

The cause of such a refusal is in the conversation. Without a simpler request, the provider would also refuse
every later message of that conversation.
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
# Some servers answer with these if their model cannot read a picture or a file. The cause may also be an
# outage. So the SDK first retries, as after any other 5xx.
FAILURE_STATUSES = {500, 501}
RETRIES = 2
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


# What the models refused, in this process. A key names a model and either ITEM_IDS or one user's file.
# Each file has its own key: one broken picture must not hide other pictures from the model.
# The key contains the user: a provider refuses a whole request, so a good file may be remembered along with a
# broken one. Another user may have sent the same good file.
known_refusals = ExpiringSet()
ITEM_IDS = "ids"


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

    def without_files(self, is_removed: Callable[[Item], bool]) -> "Request":
        earlier, newest = (
            input_items.without_files(items, is_removed) for items in (self.earlier, self.newest)
        )
        return Request(earlier, newest)

    def without_earlier(self) -> "Request":
        return replace(self, earlier=[])


# Applied one after the other. The first ones take the least from the model.
SIMPLIFICATIONS: list[Callable[[Request], Request]] = [
    Request.without_ids,
    lambda request: request.without_files(lambda part: part["type"] == FILE),
    lambda request: request.without_files(lambda part: True),
    Request.without_earlier,
]


class ModelRequests:
    """The requests for one answer.

    ``model``: the provider's URL and the model's name. ``user_id``: the author of the newest message.
    ``earlier_count``: how many items come before the newest message. ``send_event``: sends a notice to the
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

    async def send(self, items: list[Item], send: Callable[[list[Item]], Awaitable[T]]) -> T:
        """Send the request, or the first simpler one that the provider accepts.

        Raises the first refusal if the provider accepts none of them.
        """
        original = Request(items[: self._earlier_count], items[self._earlier_count :])
        refusals: list[openai.APIStatusError] = []
        for request in self._variants(original):
            try:
                answer = await send(request.items)
            except openai.APIStatusError as exc:
                if not self._is_permanent(exc, request):
                    raise
                refusals.append(exc.with_traceback(None))  # its traceback refers to this list: a cycle
            else:
                if refusals:
                    self._remember(original, request, refusals[0])
                await self._send_notices(original, request)
                return answer
        raise refusals.pop(0)

    def _is_permanent(self, exc: openai.APIStatusError, request: Request) -> bool:
        if exc.status_code in FAILURE_STATUSES and input_items.files_in(request.items):
            self._failures_with_files += 1
            return self._failures_with_files > RETRIES
        return exc.status_code in REFUSAL_STATUSES and exc.code != "model_not_found"

    def _variants(self, original: Request) -> Iterator[Request]:
        """The request without what the model is known to refuse. Then simpler and simpler requests."""
        request = original.without_files(lambda part: self._key(part) in known_refusals)
        if (self._model, ITEM_IDS) in known_refusals:
            request = request.without_ids()
        if not self._sends_earlier:
            request = request.without_earlier()
        yield request
        for simplify in SIMPLIFICATIONS:
            simpler = simplify(request)
            if simpler != request:
                request = simpler
                yield request

    def _remember(self, original: Request, accepted: Request, refusal: openai.APIStatusError) -> None:
        # The refusal's message is not logged: it may quote the conversation.
        logger.warning(
            "The model's provider refused a request and took a simpler one: status %s, code %s, request %s",
            *(refusal.status_code, refusal.code, refusal.request_id),
        )
        if original.earlier and not accepted.earlier:
            self._sends_earlier = False  # the length may be the cause, not the files or ids
            return
        if accepted == original.without_ids():
            known_refusals.add((self._model, ITEM_IDS))
        for part in _removed_files(original.items, accepted.items):
            known_refusals.add(self._key(part))

    async def _send_notices(self, original: Request, accepted: Request) -> None:
        # Only the newest message's files: there was a notice about earlier files when they were new.
        notices = {
            FILES_NOT_READ: bool(_removed_files(original.newest, accepted.newest)),
            HISTORY_NOT_READ: bool(original.earlier) and not accepted.earlier,
        }
        for message, applies in notices.items():
            if applies and self._send_event and message not in self._sent_notices:
                self._sent_notices.add(message)
                await self._send_event(NoticeEvent(level="warning", message=message))

    def _key(self, part: Item) -> Hashable:
        return self._model, self._user_id, hash(part.get("image_url") or part.get("file_data"))


def _removed_files(original: list[Item], accepted: list[Item]) -> list[Item]:
    kept = input_items.files_in(accepted)
    return [part for part in input_items.files_in(original) if part not in kept]
