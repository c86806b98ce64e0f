"""Limits how many streams of a user are open at the same time in this process (SUPPORT_STREAMS_PER_USER)."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from support.conf import conf

_in_use: Counter[str] = Counter()  # by user id
_lock = threading.Lock()  # streams begin in several threads


class StreamLimitReached(Exception):
    """The user already has as many streams as SUPPORT_STREAMS_PER_USER allows."""


def acquire(user_id: str) -> None:
    """Raises ``StreamLimitReached``. Otherwise call ``release`` when the stream has ended."""
    with _lock:
        if _in_use[user_id] >= conf.SUPPORT_STREAMS_PER_USER:
            raise StreamLimitReached
        _in_use[user_id] += 1


def release(user_id: str) -> None:
    with _lock:
        _in_use[user_id] -= 1
        if not _in_use[user_id]:
            del _in_use[user_id]


@contextmanager
def held(user_id: str) -> Iterator[None]:
    """Count the work in the block as one of the user's streams. Raises ``StreamLimitReached``.

    It is for slow answers that are not streamed, such as a dictation.
    """
    acquire(user_id)
    try:
        yield
    finally:
        release(user_id)
