"""Collects the events of a stream until its response sends them."""

import asyncio
import math

# Events that follow faster than this are sent together. The first event is sent at once, and so is the end. A
# browser draws every 16 ms, so nobody sees the difference. Each piece costs the server a call of the kernel
# and the client a message.
SEND_EVERY_SECONDS = 0.016

# After this time without an event, the response sends a comment of the SSE format. Some proxies and platforms
# close a connection that is idle for 30 seconds, and a model may think for longer. No empty line follows the
# comment: some clients would read an empty line as a message without data.
KEEP_ALIVE_SECONDS = 12
KEEP_ALIVE = b": keep-alive\n"


class UnsentEvents:
    """The events that a stream has made, and that its response has not sent yet. They have one reader.

    ``add`` never waits for the reader, so the stream's task awaits only the ChatKit SDK. The events cannot
    grow longer than the answer.
    """

    def __init__(self) -> None:
        self._unsent: list[bytes] = []
        self._has_ended = False
        self._taken_at = -math.inf  # time of the event loop
        self._reader: asyncio.Future[None] | None = None
        self._reader_wants_event = False

    def add(self, event: bytes) -> None:
        self._unsent.append(event)
        if self._reader_wants_event:
            self._wake_reader()

    def end(self) -> None:
        self._has_ended = True
        self._wake_reader()

    async def take(self) -> bytes:
        """Wait for events and return all of them.

        Returns b"" at the end of the stream, and ``KEEP_ALIVE`` in a long pause.
        """
        if not self._unsent:
            self._reader_wants_event = True
            await self._wait(KEEP_ALIVE_SECONDS)
            self._reader_wants_event = False
        time_of_loop = asyncio.get_running_loop().time
        if self._unsent and (pause := self._taken_at + SEND_EVERY_SECONDS - time_of_loop()) > 0:
            await self._wait(pause)
        if self._unsent:
            self._taken_at = time_of_loop()
            taken = b"".join(self._unsent)
            self._unsent.clear()
            return taken
        return b"" if self._has_ended else KEEP_ALIVE

    async def _wait(self, seconds: float) -> None:
        """Wait so long, or until ``_wake_reader`` or the end of the stream."""
        if self._has_ended:
            return
        loop = asyncio.get_running_loop()
        self._reader = loop.create_future()
        timer = loop.call_later(seconds, self._wake_reader)
        try:
            await self._reader
        finally:
            timer.cancel()
            self._reader = None

    def _wake_reader(self) -> None:
        if self._reader and not self._reader.done():
            self._reader.set_result(None)
