"""Builds all streaming responses. Each stream runs in an asyncio task of its own and collects its events. The
response sends all events that have come together in one piece.

There are four reasons for the task:

- The task starts before the headers are sent. So the answer to a missing conversation can still be a 404.
- The ChatKit SDK's context variables need one task for the whole stream.
- A slow client does not slow down the stream.
- If the client leaves, the task is cancelled at an ``await`` of the ChatKit SDK. The SDK stores the partial
  answer only if it is cancelled there.
"""

import asyncio
import logging
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial

from chatkit.errors import CustomStreamError, ErrorCode
from chatkit.store import NotFoundError
from chatkit.types import ErrorEvent
from django.dispatch import Signal
from django.http import StreamingHttpResponse

from runtime import worker_threads
from runtime.database_calls import stream_has_begun
from runtime.outages import is_outage
from support.chat import server_errors
from support.chat.unsent_events import KEEP_ALIVE, UnsentEvents
from support.conf import conf

logger = logging.getLogger(__name__)

HEADERS = {
    "Content-Type": "text/event-stream",
    # no-transform and identity: compression, by Django or by a proxy, would delay events.
    "Cache-Control": "no-store, no-transform",
    "Content-Encoding": "identity",
    "X-Accel-Buffering": "no",  # nginx
}
SHUTDOWN_TIMEOUT_SECONDS = 10  # for storing the partial answers
ERROR = b'data: {"type":"error"'  # the first bytes of the ChatKit SDK's error event

# Sent for metrics. ``seconds`` counts from the start of the stream.
opened = Signal()
began = Signal()  # sent with the first event, with ``seconds``
closed = Signal()  # sent with ``seconds`` and ``ending``, which is one of STREAM_ENDINGS
STREAM_ENDINGS = ("complete", "error", "cancelled", "refused")

# The tasks of the running streams. This set keeps the tasks alive: asyncio has only weak references to them.
_tasks: set["asyncio.Task[None]"] = set()
_slots_in_use: Counter[str] = Counter()  # by user id


class StreamLimitReached(Exception):
    """The user already has as many streams in this process as SUPPORT_STREAMS_PER_USER allows."""


class EventStream:
    """A running stream, whose first events have been taken."""

    def __init__(self, task: "asyncio.Task[None]", unsent: UnsentEvents, first: bytes) -> None:
        self._task, self._unsent, self._first = task, unsent, first
        # If the client leaves before the response is sent, nothing iterates over the events. The finalizer
        # then cancels the task when this object is freed.
        weakref.finalize(self, _cancel_threadsafe, weakref.ref(task)).atexit = False

    def response(self) -> StreamingHttpResponse:
        response = StreamingHttpResponse(self.events(), headers=HEADERS)
        # Ends the stream: if this response is not sent (``deferred_response.abandon_replaced``), or if the
        # server cancels the request (``graceful_shutdown.run_shielded``). The reference to the task is weak.
        # A normal one would be a reference cycle: request → ``abandon`` → task → its context → request.
        end_stream = partial(_cancel_threadsafe, weakref.ref(self._task))
        response.abandon = end_stream  # type: ignore[attr-defined]
        return response

    async def events(self) -> AsyncIterator[bytes]:
        """Yield the events, several together if they came together. A cancelled caller cancels the stream."""
        try:
            yield self._first
            while events := await self._unsent.take():
                yield events
        finally:
            await _cancel_and_wait(self._task)


async def start(source: AsyncIterable[bytes], user_id: str) -> EventStream:
    """Start the stream and wait for its first event.

    Raises ``StreamLimitReached`` before the stream starts. If the stream fails before its first event, this
    function raises three kinds of exceptions, because their responses have a status:

    - a caller's mistake and a refusal with a 4xx (see ``server_errors``)
    - an outage of the database
    - ``NotFoundError``, if the stream ends without an event

    Any other failure becomes an ``error`` event: a fault, a refusal with a 5xx, and a ``CustomStreamError``.
    After a response with a 5xx, ChatKit's client would send the message again, up to five times.
    """
    events = UnsentEvents()
    early_errors: list[Exception] = []  # at most one: see ``_run``
    _acquire_slot(user_id)
    task = asyncio.create_task(_run(source, events, early_errors))
    _tasks.add(task)
    # A done callback always runs. A ``finally`` in ``_run`` would not run if the task was cancelled before it
    # starts.
    task.add_done_callback(lambda _: _on_done(task, user_id))
    try:
        # No comment can come before the first event. The wait is short: the ChatKit SDK sends its first event
        # before it calls a model.
        while (first := await events.take()) == KEEP_ALIVE:
            pass
    except asyncio.CancelledError:
        await _cancel_and_wait(task)
        raise
    if early_errors:
        # ``pop``, because the exception's traceback refers to this list: a reference cycle.
        raise early_errors.pop()
    if not first:
        raise NotFoundError  # the ChatKit SDK sends no event if the item to retry does not exist
    return EventStream(task, events, first)


@contextmanager
def slot(user_id: str) -> Iterator[None]:
    """Count the work in the block as one of the user's streams. Raises ``StreamLimitReached``.

    It is for slow answers that are not streamed, such as a dictation.
    """
    _acquire_slot(user_id)
    try:
        yield
    finally:
        _release_slot(user_id)


async def cancel_all() -> None:
    """Cancel all streams of this process, and wait until their partial answers are stored.

    A shutdown calls this.
    """
    for task in _tasks:
        task.cancel()
    if _tasks:  # the wait has a timeout, because a database that hangs must not stop the shutdown
        await asyncio.wait(_tasks, timeout=SHUTDOWN_TIMEOUT_SECONDS)


def _on_done(task: "asyncio.Task[None]", user_id: str) -> None:
    _tasks.discard(task)
    _release_slot(user_id)


def _acquire_slot(user_id: str) -> None:
    if _slots_in_use[user_id] >= conf.SUPPORT_STREAMS_PER_USER:
        raise StreamLimitReached
    _slots_in_use[user_id] += 1


def _release_slot(user_id: str) -> None:
    _slots_in_use[user_id] -= 1
    if not _slots_in_use[user_id]:
        del _slots_in_use[user_id]


async def _run(source: AsyncIterable[bytes], events: UnsentEvents, early_errors: list[Exception]) -> None:
    """Add the events of ``source`` to ``events``.

    Puts an exception that ``start`` should raise into ``early_errors``. There is at most one, and only before
    the first event.
    """
    has_begun, ending, opened_at = False, "refused", time.perf_counter()
    opened.send(None)
    try:
        async with worker_threads.use_worker_threads():
            async for event in source:
                events.add(event)
                if not has_begun:
                    has_begun, ending = True, "complete"
                    stream_has_begun.set(True)
                    began.send(None, seconds=time.perf_counter() - opened_at)
                if event.startswith(ERROR):
                    ending = "error"
    except asyncio.CancelledError:
        ending = "cancelled"
        events.add(_error_event())  # a shutdown cancels streams whose clients are still connected
        raise
    except Exception as exc:
        is_expected = server_errors.is_expected(exc)
        if not has_begun and (is_expected or is_outage(exc)) and not isinstance(exc, CustomStreamError):
            early_errors.append(exc)
        else:
            ending = "error"
            if not is_expected:
                logger.exception("A stream failed")
            events.add(_error_event(server_errors.custom_stream_error(exc)))
    finally:
        events.end()
        closed.send(None, seconds=time.perf_counter() - opened_at, ending=ending)


def _error_event(error: CustomStreamError | None = None) -> bytes:
    """Return an ``error`` event in the SSE format, with the text of ``error`` if there is one."""
    event = ErrorEvent(code=ErrorCode.STREAM_ERROR, allow_retry=True)
    if error is not None:
        event = ErrorEvent(code="custom", message=error.message, allow_retry=error.allow_retry)
    return b"data: " + event.model_dump_json(exclude_none=True).encode() + b"\n\n"


def _cancel_threadsafe(reference: "weakref.ref[asyncio.Task[None]]") -> None:
    """Cancel the task from any thread: the garbage collector may run a finalizer in any of them."""
    task = reference()
    if task is not None and not task.done():
        task.get_loop().call_soon_threadsafe(task.cancel)


async def _cancel_and_wait(task: "asyncio.Task[None]") -> None:
    """Cancel the task and wait until it has stored the partial answer. Does nothing if the task is done."""
    task.cancel()
    await asyncio.wait([task])
