"""A circuit breaker. While a server does not answer, one caller at a time tries it; others are refused.

Each call to a server that hangs would hold a thread until its timeout, and a process has few threads.

- closed: everybody may call.
- open: a call has failed. Until a pause is over, nobody may call.
- half-open: the pause is over. One caller tries, the others are refused until the outcome is known.

The log gets one line when an outage begins, and one when it ends.
"""

import logging
import threading
import time

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 2.0  # between two tries; Retry-After tells clients the same time
MAX_TRY_SECONDS = 60.0  # after that another caller may try: the first one has not reported


class CircuitBreaker:
    """Shared by the threads of a process. ``name``: the server's name, with which each log line begins."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._failed_at: float | None = None  # the outage's first failure; time.monotonic() throughout
        self._next_try_at = 0.0
        self._lock = threading.Lock()

    @property
    def is_closed(self) -> bool:
        return self._failed_at is None

    def allows_call(self) -> bool:
        """Whether the caller may call. If so, it has to report the outcome: ``failed`` or ``succeeded``."""
        if self._failed_at is None:  # without the lock: each good request asks
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
        if failed_at is not None:  # otherwise another thread has logged it
            seconds = time.monotonic() - failed_at
            logger.info("%s: answers again, after %.0f s", self._name, seconds)
