"""A limit to the lines of the log that anybody can have written, without a token and without end.

They name an unknown path, a host that is not ours, a bad address of an attachment, or what is no HTTP.
Refused attempts have a limit of their own, for each address (``authn.refusals``).
"""

import logging
import threading
import time

LINES, PER_SECONDS = 120, 60.0  # of a process, in all

CAUSED_BY_STRANGERS = ("django.request", "django.security", "uvicorn.error")


class FewLines(logging.Filter):
    """A handler's filter. The first line too many says so, and the rest of that minute is left out."""

    def __init__(self) -> None:
        super().__init__()
        self._begun_at, self._lines = 0.0, 0  # time.monotonic()
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        # A 4xx is a warning. An error is our own fault, but for what Django finds suspicious.
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
