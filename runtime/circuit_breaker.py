"""A circuit breaker. While a server does not answer, one caller at a time tries it. Others are refused.

Each call to a server that hangs would hold a thread until its timeout, and a process has few threads.

- closed: every caller may call.
- open: a call has failed. No caller may call until a pause is over.
- half-open: the pause is over. One caller tries. The others are refused until its outcome is known.

The log gets one line when an outage begins, and one when it ends.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 2.0  # between two tries; clients get the same time in Retry-After
MAX_TRY_SECONDS = 60.0  # if a caller reports no outcome within this time, another caller may try


class NoAnswer(Exception):
    """The server has failed, or it failed a moment ago and is not called."""


class CircuitBreaker:
    """The state of one server. All threads of a process share it. ``name`` begins each of its log lines."""

    def __init__(self, name: str) -> None:
        self._name = name
        # Both are values of ``time.monotonic()``.
        self._failed_at: float | None = None  # the first failure of this outage; ``None``: no outage
        self._next_try_at = 0.0
        self._lock = threading.Lock()

    @property
    def is_closed(self) -> bool:
        return self._failed_at is None

    def call(self, function: Callable[[], R]) -> R:
        """Call the function and report the outcome. Raises ``NoAnswer`` if it fails, or may not be called."""
        if not self.allows_call():
            raise NoAnswer
        try:
            result = function()
        except Exception as exc:  # each cache backend has its own exceptions
            self.failed(exc)
            raise NoAnswer from exc
        self.succeeded()
        return result

    def allows_call(self) -> bool:
        """Whether the caller may call. It must then report the outcome with ``failed`` or ``succeeded``."""
        if self._failed_at is None:  # without the lock, because each request asks
            return True
        with self._lock:
            now = time.monotonic()
            if self._failed_at is not None and now < self._next_try_at:
                return False
            self._next_try_at = now + MAX_TRY_SECONDS
            return True

    def failed(self, error: BaseException) -> None:
        with self._lock:
            now = time.monotonic()
            self._next_try_at = now + PAUSE_SECONDS
            if self._failed_at is not None:
                return
            self._failed_at = now
        logger.error("%s: no good answer: %s", self._name, error, exc_info=error)

    def succeeded(self) -> None:
        if self._failed_at is None:
            return
        with self._lock:
            failed_at, self._failed_at = self._failed_at, None
        if failed_at is not None:  # ``None``: another thread has already logged the end
            seconds = time.monotonic() - failed_at
            logger.info("%s: answers again, after %.0f s", self._name, seconds)
