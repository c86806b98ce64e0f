"""A limit to refused attempts: REFUSED_RATE_PER_ADDRESS, for each client address and each genuine token.

Only its signature tells a good token from one of a flood at the same address, so it is looked at first,
always: that is about a fifth of what a forged token costs, and nobody is kept out by what others do at their
address. Once over the limit, a caller whose token is no good gets a 429 and nothing else of ours: no
look-up, no question to the cache, no line of the log, which is a third less of the CPU. A genuine token that
is refused (expired, its session gone) counts by itself, so that replaying it asks the database no more, and
an honest neighbour with an expired one still gets the 401 that has their page fetch another.

Counted in Django's cache, which servers may share; each remembers by itself who is over the limit, so that
a good request asks nobody. While the cache does not answer, each server counts by itself.
"""

import hashlib
import logging
import math
import time
from typing import Any

from django.core.cache import cache
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.views.decorators.debug import sensitive_variables
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from authn import audit, clients
from authn.conf import conf
from authn.errors import TooManyAttempts
from authn.reasons import REASONS

logger = logging.getLogger(__name__)

# What stops a token at one of these is met behind its signature, and so is only said of a genuine one.
BEHIND_THE_SIGNATURE = {
    *("payload", "times", "issuer", "audience", "claims", "lifetime", "sid", "user", "ban", "session")
}
PERIODS = {"s", "sec", "second", "m", "min", "minute", "h", "hour", "d", "day"}
MOST_REMEMBERED = 10_000
CACHE_PAUSE_SECONDS = 5.0  # each question to a cache that hangs keeps a thread for a second

_until: dict[str, float] = {}  # who is over the limit, and until when; time.monotonic() throughout
_cache_pause_until = 0.0
_in_this_process = LocMemCache("refusals", {"OPTIONS": {"MAX_ENTRIES": MOST_REMEMBERED}})


def check_token(value: str) -> None:
    """Of a genuine one, before anybody is looked up. Raises ``TooManyAttempts``."""
    if _until:
        _check(_of_token(value))


def check_address(request: Request) -> None:
    """For what nothing tells a forgery by but a look-up. Raises ``TooManyAttempts``."""
    if _until:
        _check(_of_address(request))


@sensitive_variables("value")
def record(attempt: audit.Attempt, reason: str, status: int, value: str = "", **details: Any) -> None:
    """Count a refused attempt with the credential ``value``, and write it down.

    Raises ``TooManyAttempts`` in its place where it is one too many, of which only the first is written.
    """
    if status >= 500:  # our own fault
        attempt.refused(reason, status, **details)
        return
    step = REASONS[reason].step if reason in REASONS else ""
    is_genuine = step in BEHIND_THE_SIGNATURE and reason != "unknown_token"
    who = _of_token(value) if value and is_genuine else _of_address(attempt.request)
    try:
        _check(who)
    except TooManyAttempts:
        unwritten(attempt)
        raise
    limit, seconds = rate(conf.REFUSED_RATE_PER_ADDRESS)
    if _counted(who, seconds) <= limit:
        attempt.refused(reason, status, **details)
        return
    _remember(who, seconds)
    attempt.refused(TooManyAttempts.default_code, TooManyAttempts.status_code, **details)
    raise TooManyAttempts(seconds)


def unwritten(attempt: audit.Attempt) -> None:
    """One of those that are only counted by whoever counts them."""
    seconds = time.perf_counter() - attempt.started
    audit.attempted.send(None, outcome="refused", reason=TooManyAttempts.default_code, seconds=seconds)


def rate(text: str) -> tuple[int, int]:
    """How many in how many seconds, from DRF's notation: ``60/min``. Raises ``ValueError``."""
    if text.partition("/")[2] not in PERIODS:  # of which DRF reads the first letter: a month is a minute
        raise ValueError(text)
    try:
        number, seconds = SimpleRateThrottle.parse_rate(None, text)  # type: ignore[arg-type]
    except (ValueError, KeyError, IndexError):
        raise ValueError(text) from None
    if not number or number < 1 or not seconds:
        raise ValueError(text)
    return number, seconds


def forget() -> None:
    global _cache_pause_until
    _until.clear()
    _in_this_process.clear()
    _cache_pause_until = 0.0


def _check(who: str) -> None:
    wait = _until.get(who, 0.0) - time.monotonic()
    if wait > 0:
        raise TooManyAttempts(math.ceil(wait))


def _remember(who: str, seconds: int) -> None:
    now = time.monotonic()
    if len(_until) >= MOST_REMEMBERED:
        for each in [each for each, until in list(_until.items()) if until <= now]:
            _until.pop(each, None)
        if len(_until) >= MOST_REMEMBERED:  # a flood from everywhere: the cache still counts
            _until.clear()
    _until[who] = now + seconds


def _counted(who: str, seconds: int) -> int:
    global _cache_pause_until
    key = f"refused:{who}"
    if time.monotonic() >= _cache_pause_until:
        try:
            return _one_more(cache, key, seconds)
        except Exception as exc:  # each cache has errors of its own
            logger.error("Refused attempts are counted by this process alone: %s", exc)
            _cache_pause_until = time.monotonic() + CACHE_PAUSE_SECONDS
    return _one_more(_in_this_process, key, seconds)


def _one_more(counters: BaseCache, key: str, seconds: int) -> int:
    counters.add(key, 0, seconds)
    try:
        return counters.incr(key)
    except ValueError:  # its time was over in between
        counters.set(key, 1, seconds)
        return 1


def _of_address(request: Request) -> str:
    return f"address:{clients.network(request.META)}"


@sensitive_variables("value")
def _of_token(value: str) -> str:
    return f"token:{hashlib.sha256(value.encode(errors='replace')).hexdigest()}"
