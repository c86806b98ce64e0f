"""Builds all streaming responses. Each stream runs in an asyncio task of its own and collects its events. The
response sends all events that have come together in one piece.

There are two reasons for the task:

- A slow client does not slow down a stream that it has begun to read.
- If the client leaves, the task is cancelled at an ``await`` of the ChatKit SDK. The SDK stores the partial
  answer only if it is cancelled there.

The headers are sent only after the first event, so the answer to a missing conversation can still be a 404.
There are two ways to the first event: ``start`` takes it in the task, and ``begin_in_thread`` takes it before
the task, in the thread of the view. The second way is faster, but not every stream may use it.
"""

import asyncio
import logging
import time
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Coroutine
from typing import Any

from chatkit.errors import CustomStreamError, ErrorCode
from chatkit.store import NotFoundError
from chatkit.types import ErrorEvent
from django.dispatch import Signal
from django.http import StreamingHttpResponse

from runtime import worker_threads
from runtime.database_calls import stream_has_begun
from runtime.outages import is_outage
from support.chat import server_errors, slots
from support.chat.unsent_events import UnsentEvents

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

# The open streams of this process. The set keeps their tasks alive: asyncio itself has only weak references.
_open: set["_Stream"] = set()


class EventResponse(StreamingHttpResponse):
    """The response of a stream. Django's class would pass each event through two more generators."""

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        super().__init__(events, headers=HEADERS)
        self._events = events

    def __aiter__(self) -> AsyncIterator[bytes]:
        content = self._iterator  # type: ignore[attr-defined]  # middleware may have replaced the events
        return self._events if content is self._events else super().__aiter__()


class EventStream:
    """A stream that has begun."""

    def __init__(self, stream: "_Stream", event_loop: asyncio.AbstractEventLoop) -> None:
        self._stream = stream
        # If the client leaves before the response is sent, nothing iterates over the events. The stream is
        # then cancelled when this object is freed.
        self._cancel = weakref.finalize(self, _cancel_threadsafe, stream, event_loop)
        self._cancel.atexit = False

    def response(self) -> StreamingHttpResponse:
        response = EventResponse(self.events())
        # Ends the stream: if this response is not sent (``deferred_response.abandon_replaced``), or if the
        # server cancels the request (``graceful_shutdown.run_shielded``).
        response.abandon = self._cancel  # type: ignore[attr-defined]
        return response

    async def events(self) -> AsyncIterator[bytes]:
        """Yield the events, several together if they came together. A cancelled caller cancels the stream."""
        self._stream.ensure_task()
        try:
            while events := await self._stream.unsent.take():
                yield events
        finally:
            await self._stream.cancel_and_wait()


async def start(source: AsyncIterable[bytes], user_id: str) -> EventStream:
    """Start the stream in its task and wait for its first event.

    Raises ``StreamLimitReached`` before the stream starts. If the stream fails before its first event, this
    function raises three kinds of exceptions, because their responses have a status:

    - a caller's mistake and a refusal with a 4xx (see ``server_errors``)
    - an outage of the database
    - ``NotFoundError``, if the stream ends without an event

    Any other failure becomes an ``error`` event: a fault, a refusal with a 5xx, and a ``CustomStreamError``.
    After a response with a 5xx, ChatKit's client would send the message again, up to five times.
    """
    stream, has_begun, early_errors = _Stream(source, user_id), asyncio.Event(), list[Exception]()

    async def begin_and_go_on() -> None:
        try:
            async with worker_threads.use_worker_threads():
                await stream.begin()
        except Exception as exc:
            early_errors.append(exc)
            return
        finally:
            has_begun.set()
        if stream.is_open:
            await stream.go_on()

    stream.start_task(begin_and_go_on())
    try:
        await has_begun.wait()
    except asyncio.CancelledError:
        await stream.cancel_and_wait()
        raise
    if early_errors:
        # ``pop``, because the exception's traceback refers to this list: a reference cycle.
        raise early_errors.pop()
    return EventStream(stream, asyncio.get_running_loop())


async def begin_in_thread(
    source: AsyncIterable[bytes], user_id: str, event_loop: asyncio.AbstractEventLoop
) -> EventStream:
    """Take the first event in the current thread, in ``run_inline``. Raises the same exceptions as ``start``.

    The task starts in ``event_loop`` when the response is sent. So before its first event, ``source`` may
    await only the database, and may not set context variables for later.
    """
    stream = _Stream(source, user_id)
    try:
        await stream.begin()
    except BaseException:
        stream.end()
        raise
    return EventStream(stream, event_loop)


async def cancel_all() -> None:
    """Cancel all streams of this process, and wait until their partial answers are stored.

    A shutdown calls this.
    """
    streams = list(_open)
    for stream in streams:
        stream.cancel()
    tasks = [stream.task for stream in streams if stream.task]
    if tasks:  # the wait has a timeout, because a database that hangs must not stop the shutdown
        await asyncio.wait(tasks, timeout=SHUTDOWN_TIMEOUT_SECONDS)


class _Stream:
    """Adds the events of ``source`` to ``unsent``: first ``begin``, then ``go_on`` in the stream's task."""

    def __init__(self, source: AsyncIterable[bytes], user_id: str) -> None:
        slots.acquire(user_id)
        self.unsent = UnsentEvents()
        self.task: asyncio.Task[None] | None = None
        self._source, self._user_id = source, user_id
        self._opened_at, self._ending = time.perf_counter(), "refused"
        _open.add(self)
        opened.send_robust(None)

    async def begin(self) -> None:
        """Wait for the first event. Raises the exceptions that ``start`` describes.

        After any other failure, the stream has ended with an ``error`` event.
        """
        try:
            self._source = aiter(self._source)
            first = await anext(self._source, None)
        except Exception as exc:
            if (server_errors.is_expected(exc) or is_outage(exc)) and not isinstance(exc, CustomStreamError):
                raise
            self._fail(exc)
            self.end()
            return
        if first is None:
            raise NotFoundError  # the ChatKit SDK sends no event if the item to retry does not exist
        self._ending = "error" if first.startswith(ERROR) else "complete"
        self.unsent.add(first)
        began.send_robust(None, seconds=time.perf_counter() - self._opened_at)

    async def go_on(self) -> None:
        stream_has_begun.set(True)
        try:
            async with worker_threads.use_worker_threads():
                async for event in self._source:
                    self.unsent.add(event)
                    if event.startswith(ERROR):
                        self._ending = "error"
        except Exception as exc:
            self._fail(exc)

    @property
    def is_open(self) -> bool:
        return self in _open

    def ensure_task(self) -> None:
        if self.is_open and not self.task:
            self.start_task(self.go_on())

    def start_task(self, work: Coroutine[Any, Any, None]) -> None:
        self.task = asyncio.create_task(work)
        # A done callback always runs. A ``finally`` in the task would not run if the task was cancelled
        # before it starts.
        self.task.add_done_callback(self._on_done)

    def cancel(self) -> None:
        if self.task:
            self.task.cancel()
        else:
            self.end(is_cancelled=True)

    async def cancel_and_wait(self) -> None:
        """Cancel the task and wait until it has stored the partial answer. Does nothing if it is done."""
        self.cancel()
        if self.task:
            await asyncio.wait([self.task])

    def end(self, *, is_cancelled: bool = False) -> None:
        try:
            _open.remove(self)  # one step, because two threads may end the stream at the same time
        except KeyError:
            return
        if is_cancelled:
            self._ending = "cancelled"
            self.unsent.add(_error_event())  # a shutdown cancels streams whose clients are still connected
        self.unsent.end()
        slots.release(self._user_id)
        closed.send_robust(None, seconds=time.perf_counter() - self._opened_at, ending=self._ending)

    def _on_done(self, task: "asyncio.Task[None]") -> None:
        self.task = None
        self.end(is_cancelled=task.cancelled())

    def _fail(self, error: Exception) -> None:
        self._ending = "error"
        if not server_errors.is_expected(error):
            logger.error("A stream failed", exc_info=error)
        self.unsent.add(_error_event(server_errors.custom_stream_error(error)))


def _error_event(error: CustomStreamError | None = None) -> bytes:
    """Return an ``error`` event in the SSE format, with the text of ``error`` if there is one."""
    event = ErrorEvent(code=ErrorCode.STREAM_ERROR, allow_retry=True)
    if error is not None:
        event = ErrorEvent(code="custom", message=error.message, allow_retry=error.allow_retry)
    return b"data: " + event.model_dump_json(exclude_none=True).encode() + b"\n\n"


def _cancel_threadsafe(stream: _Stream, event_loop: asyncio.AbstractEventLoop) -> None:
    """Cancel the stream from any thread: the garbage collector may run a finalizer in any of them."""
    if stream.is_open and not event_loop.is_closed():
        event_loop.call_soon_threadsafe(stream.cancel)
