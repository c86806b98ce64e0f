"""The one place that builds a streaming response.

A stream's work is a task of its own, which the response merely listens to. So it begins before the
headers are sent (a missing thread can still be a 404), always runs in one task, as the SDK's context
variables demand, never waits for a slow reader, and is cancelled at an ``await`` of its own when the
client leaves: only there does the SDK keep what was said so far.
"""

import asyncio
import logging
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager

from chatkit.errors import CustomStreamError, ErrorCode
from chatkit.store import NotFoundError
from chatkit.types import ErrorEvent
from django.dispatch import Signal
from django.http import StreamingHttpResponse

from runtime import worker_threads
from runtime.outages import is_outage
from support.chat import server_errors
from support.conf import conf

logger = logging.getLogger(__name__)

HEADERS = {
    "Content-Type": "text/event-stream",
    # no-transform and identity: a compressor, Django's own or a proxy's, would hold events back.
    "Cache-Control": "no-store, no-transform",
    "Content-Encoding": "identity",
    "X-Accel-Buffering": "no",  # nginx
}
SHUTDOWN_TIMEOUT_SECONDS = 10  # of a shutdown with what is being put away
ERROR = b'data: {"type":"error"'  # how the SDK's error event begins

# A comment that is sent after so long without an event. Some proxies and platforms end a connection that is
# idle for 30 seconds, and a model may think for longer. No empty line follows the comment: some clients would
# take that for a message without data.
KEEP_ALIVE_SECONDS = 12
KEEP_ALIVE = b": keep-alive\n"

# For whoever counts streams.
opened = Signal()
began = Signal()  # seconds: until the first event
closed = Signal()  # seconds, ending: one of ENDINGS
ENDINGS = ("complete", "error", "cancelled", "refused")

# Also what keeps them alive: asyncio itself holds its tasks by weak references alone.
_tasks: set["asyncio.Task[None]"] = set()
_slots_in_use: Counter[str] = Counter()  # users


class StreamLimitReached(Exception):
    """This process answers as many of the user's requests as SUPPORT_STREAMS_PER_USER allows."""


class EventStream:
    """A stream of which the first event is there."""

    def __init__(
        self, work: "asyncio.Task[None]", events: "asyncio.Queue[bytes | None]", first: bytes
    ) -> None:
        self._task, self._events, self._first = work, events, first
        # A client may leave just before its response is built, and then nobody ever listens.
        weakref.finalize(self, _cancel_threadsafe, work).atexit = False

    def response(self) -> StreamingHttpResponse:
        return StreamingHttpResponse(self._iterate(), headers=HEADERS)

    async def _iterate(self) -> AsyncIterator[bytes]:
        try:
            yield self._first
            while (event := await self._next()) is not None:
                yield event
        finally:
            await _cancel_and_wait(self._task)

    async def _next(self) -> bytes | None:
        # Comments only come after the first event. Until then the headers are not sent, so that a missing
        # thread can still be a 404. The first event does not wait for a model: it is ChatKit's
        # stream_options.
        if not self._events.empty():
            return self._events.get_nowait()  # without a timer
        try:
            async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                return await self._events.get()
        except TimeoutError:
            return KEEP_ALIVE


async def start(source: AsyncIterable[bytes], user_id: str) -> EventStream:
    """Begin the work and wait for its first event.

    Raises ``StreamLimitReached`` before there is any work. Before the first event it also raises what has a status: the
    caller's mistakes and refusals (see ``server_errors.is_shown_to_caller``), and the database's errors.
    Everything else becomes an ``error`` event: after a 5xx ChatKit's client would send the message again, up
    to five times.
    """
    events: asyncio.Queue[bytes | None] = asyncio.Queue()
    refusal: list[Exception] = []
    _acquire_slot(user_id)
    work = asyncio.create_task(_run(source, events, refusal))
    _tasks.add(work)
    # Of the task, for that is told of every end there is: of one, too, that was cancelled before it began.
    work.add_done_callback(lambda _: _on_done(work, user_id))
    try:
        first = await events.get()
    except asyncio.CancelledError:
        await _cancel_and_wait(work)
        raise
    if refusal:
        raise refusal.pop()  # which would otherwise be kept by its own traceback
    if first is None:
        raise NotFoundError  # how the SDK answers a retry of an item it does not find
    return EventStream(work, events, first)


@contextmanager
def slot(user_id: str) -> Iterator[None]:
    """Inside, an answer that is no stream, and takes its time, is one of so many. Raises ``StreamLimitReached``."""
    _acquire_slot(user_id)
    try:
        yield
    finally:
        _release_slot(user_id)


async def cancel_all() -> None:
    """End every stream of this process and wait until what was said is put away: for its shutdown."""
    for work in _tasks:
        work.cancel()
    if _tasks:  # with a limit: a database that hangs must not keep the process
        await asyncio.wait(_tasks, timeout=SHUTDOWN_TIMEOUT_SECONDS)


def _on_done(work: "asyncio.Task[None]", user_id: str) -> None:
    _tasks.discard(work)
    _release_slot(user_id)


def _acquire_slot(user_id: str) -> None:
    if _slots_in_use[user_id] >= conf.SUPPORT_STREAMS_PER_USER:
        raise StreamLimitReached
    _slots_in_use[user_id] += 1


def _release_slot(user_id: str) -> None:
    _slots_in_use[user_id] -= 1
    if not _slots_in_use[user_id]:
        del _slots_in_use[user_id]


async def _run(
    source: AsyncIterable[bytes], events: "asyncio.Queue[bytes | None]", refusal: list[Exception]
) -> None:
    begun, ending, opened_at = False, "refused", time.perf_counter()
    opened.send(None)
    try:
        async with worker_threads.use_worker_threads():
            async for event in source:
                # Unbounded, so that nothing here is awaited but the SDK; an answer bounds its own length.
                events.put_nowait(event)
                if not begun:
                    begun, ending = True, "complete"
                    worker_threads.has_begun.set(True)
                    began.send(None, seconds=time.perf_counter() - opened_at)
                if event.startswith(ERROR):
                    ending = "error"
    except asyncio.CancelledError:
        ending = "cancelled"
        events.put_nowait(_error_event())  # for who still listens when the server is shut down
        raise
    except Exception as exc:
        is_shown = server_errors.is_shown_to_caller(exc)
        if not begun and (is_shown or is_outage(exc)) and not isinstance(exc, CustomStreamError):
            refusal.append(exc)
        else:
            ending = "error"
            if not is_shown:
                logger.exception("A stream failed")
            events.put_nowait(_error_event(server_errors.custom_stream_error(exc)))
    finally:
        events.put_nowait(None)
        closed.send(None, seconds=time.perf_counter() - opened_at, ending=ending)


def _error_event(told: CustomStreamError | None = None) -> bytes:
    event = ErrorEvent(code=ErrorCode.STREAM_ERROR, allow_retry=True)
    if told is not None:
        event = ErrorEvent(code="custom", message=told.message, allow_retry=told.allow_retry)
    return b"data: " + event.model_dump_json(exclude_none=True).encode() + b"\n\n"


def _cancel_threadsafe(work: "asyncio.Task[None]") -> None:
    if not work.done():
        work.get_loop().call_soon_threadsafe(work.cancel)


async def _cancel_and_wait(work: "asyncio.Task[None]") -> None:
    """Cancel the work and wait until it has put away what was said. No effect on work that is done."""
    work.cancel()
    await asyncio.wait([work])
