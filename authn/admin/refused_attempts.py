"""Counts the refused attempts of each minute, for a start page of the admin.

The counts are in the cache of BETTER_AUTH_CACHE. The import of this module connects it to the signal
``audit.attempted``. So a project without such a page counts nothing.
"""

import threading
import time
from collections import Counter
from typing import Any

from django.core.cache.backends.locmem import LocMemCache
from django.dispatch import receiver

from authn import audit, throttling
from authn.conf import conf
from authn.errors import TooManyAttempts
from runtime.circuit_breaker import NoAnswer

MINUTES = 60

# The attempts of each minute that are not in the cache yet.
_waiting: Counter[int] = Counter()
_lock = threading.Lock()
_stored_at = 0.0  # when attempts were last added to the cache: a value of time.monotonic()


def in_last_hour() -> int | None:
    """Return the number of refused attempts in the last 60 minutes. ``None`` if the cache cannot tell.

    Counts the attempts at all servers that share the cache. The latest second of a flood may be missing.
    """
    now = _minute()
    minutes = range(now - MINUTES + 1, now + 1)
    keys = [_key(minute) for minute in minutes]
    breaker = throttling.breaker_of(conf.BETTER_AUTH_CACHE)
    try:
        stored: dict[str, int] = breaker.call(lambda: throttling.counters().get_many(keys))
    except NoAnswer:
        return None
    with _lock:
        return sum(stored.values()) + sum(_waiting[minute] for minute in minutes)


def counts_all_servers() -> bool:
    """Whether other server processes count their refused attempts in the same cache."""
    return not isinstance(throttling.counters(), LocMemCache)


def clear() -> None:
    """Forget the attempts that are not in the cache yet. For tests."""
    global _stored_at
    _waiting.clear()
    _stored_at = 0.0


@receiver(audit.attempted)
def _count(outcome: str, status: int, **kwargs: Any) -> None:
    """Count one refused attempt. A 5xx is our own fault, so it is not counted.

    An attempt over its limit must stay cheap: it waits in this process for a later attempt, and both are
    added to the cache together. That happens once a second at most.
    """
    global _stored_at
    if outcome != "refused" or status >= 500:
        return
    with _lock:
        _waiting[_minute()] += 1
        now = time.monotonic()
        if status == TooManyAttempts.status_code and now - _stored_at < 1:
            return
        _stored_at = now
        counted = {minute: number for minute, number in _waiting.items() if minute > _minute() - MINUTES}
        _waiting.clear()
    try:
        throttling.breaker_of(conf.BETTER_AUTH_CACHE).call(lambda: _store(counted))
    except NoAnswer:
        with _lock:
            _waiting.update(counted)


def _store(counted: dict[int, int]) -> None:
    for minute, number in counted.items():
        throttling.increment(throttling.counters(), _key(minute), (MINUTES + 1) * 60, number)


def _minute() -> int:
    return int(time.time() // 60)


def _key(minute: int) -> str:
    return f"refused:minute:{minute}"
