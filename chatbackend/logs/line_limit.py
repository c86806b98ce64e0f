"""A limit on the log lines that anybody can cause without a token.

Such a line is about an unknown path, an unknown host, a bad address of an attachment, or a request that is
not HTTP. Refused attempts have their own limit, for each address (``authn.throttling``).
"""

import logging
import threading
import time

LINES, PER_SECONDS = 120, 60.0  # for a whole process

CAUSED_BY_STRANGERS = ("django.request", "django.security", "uvicorn.error")


class LineLimit(logging.Filter):
    """A handler's filter. The first line over the limit says so; the others of that minute are dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._begun_at, self._lines = 0.0, 0  # time.monotonic()
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        # A 4xx is a warning. An error is our own fault, except for Django's SuspiciousOperation.
        is_theirs = record.levelno == logging.WARNING or record.name.startswith("django.security")
        if not is_theirs or not record.name.startswith(CAUSED_BY_STRANGERS):
            return True
        with self._lock:
            now = time.monotonic()
            if now - self._begun_at >= PER_SECONDS:
                self._begun_at, self._lines = now, 0
            self._lines += 1
            lines = self._lines
        if lines == LINES + 1:
            record.msg, record.args, record.exc_info = "More such lines are left out for a while", (), None
        return lines <= LINES + 1
