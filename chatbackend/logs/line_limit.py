"""Limits the number of log lines that a caller without a token can cause.

Such a line reports an unknown path, an unknown host, a bad URL of an attachment, or a request that is not
HTTP. Refused credentials have their own limit for each IP address (``authn.throttling``).
"""

import logging
import threading
import time

LINES, PER_SECONDS = 120, 60.0  # per process

LIMITED_LOGGERS = ("django.request", "django.security", "uvicorn.error")


class LineLimit(logging.Filter):
    """A filter for a handler.

    It replaces the first line over the limit with a note, and drops the other lines of that minute.
    """

    def __init__(self) -> None:
        super().__init__()
        self._started_at, self._lines = 0.0, 0  # time.monotonic()
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        # Django logs a 4xx as a warning. It logs our own faults as errors, but also a SuspiciousOperation.
        is_callers_fault = record.levelno == logging.WARNING or record.name.startswith("django.security")
        if not is_callers_fault or not record.name.startswith(LIMITED_LOGGERS):
            return True
        with self._lock:
            now = time.monotonic()
            if now - self._started_at >= PER_SECONDS:
                self._started_at, self._lines = now, 0
            self._lines += 1
            lines = self._lines
        if lines == LINES + 1:
            record.msg, record.args, record.exc_info = (
                "Too many such lines: the others of this minute are dropped",
                (),
                None,
            )
        return lines <= LINES + 1
