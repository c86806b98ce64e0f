"""Limits refused attempts to REFUSED_RATE_PER_ADDRESS, for each client address and each genuine credential.

The signature is always verified first. Only the signature tells a good token from a flood of forged ones at
the same address, so a flood locks nobody else out. This check costs about a fifth of what a forged token
costs.

A refused attempt is counted by what was verified:

- nothing: by the client's address.
- a signed session token: by that token, in every encoding.
- a JWT: by its session (``sid``), or by its user (``sub``) if it names no session. All JWTs of the session or
  user count together.

A 401 for a JWT is counted separately at each address. A page gets a new token after a 401. Otherwise somebody
at another address with an old token of the same user could turn that 401 into a 429.

Past the limit, a refused attempt gets a 429 and is not logged. A session token or JWT whose look-up was
refused is not looked up again until the period ends. Other JWTs of the same session or user are still looked
up: they may be good, for example after a new sign-in or the end of a ban.

Django's cache counts, and all servers may share it. Each process remembers which keys are over the limit, so
a good request needs no cache. While the cache does not answer, each process counts by itself.
"""

import hashlib
import math
import time
from http import HTTPStatus
from typing import Any

from django.core.cache import cache
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.views.decorators.debug import sensitive_variables
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from authn import audit, client_address
from authn.conf import conf
from authn.errors import TooManyAttempts
from runtime.circuit_breaker import CircuitBreaker

PERIODS = {"s", "sec", "second", "m", "min", "minute", "h", "hour", "d", "day"}
MAX_BLOCKED = 10_000  # that a process remembers

_blocked_until: dict[str, float] = {}  # by key; time.monotonic()
_local_counters = LocMemCache("refusals", {"OPTIONS": {"MAX_ENTRIES": MAX_BLOCKED}})
cache_breaker = CircuitBreaker("Cache (CACHE_URL)")  # shared by everything that counts in the cache


def check_token(attempt: audit.Attempt) -> None:
    """Call it with a verified token, before the look-up. Raises ``TooManyAttempts``."""
    if _blocked_until and attempt.verified_credential:
        token_key = _hashed(attempt.verified_credential.token)
        _raise_if_blocked(token_key)
        _raise_if_blocked(_at_address(token_key, attempt.request))


def check_address(request: Request) -> None:
    """Call it before the look-up of a token without a signature. Raises ``TooManyAttempts``."""
    if _blocked_until:
        _raise_if_blocked(_address_key(request))


def record(attempt: audit.Attempt, reason: str, status: int, **details: Any) -> None:
    """Count a refused attempt, and log it.

    Raises ``TooManyAttempts`` if it is over the limit. Only the first attempt over the limit is logged.
    """
    # A 5xx is our own fault and not counted. But without keys, forged tokens get a 503 too, so that counts.
    if status >= 500 and reason != "keys_unavailable":
        attempt.log_refused(reason, status, **details)
        return
    counter_key, token_key = _keys(attempt, status)
    try:
        _raise_if_blocked(counter_key)
    except TooManyAttempts as too_many:
        count_without_logging(attempt)
        _block(token_key, too_many.wait)
        raise
    limit, seconds = parse_rate(conf.REFUSED_RATE_PER_ADDRESS)
    if _count(counter_key, seconds) <= limit:
        attempt.log_refused(reason, status, **details)
        return
    _block(counter_key, seconds)
    _block(token_key, seconds)
    attempt.log_refused(TooManyAttempts.default_code, TooManyAttempts.status_code, **details)
    raise TooManyAttempts(seconds)


def count_without_logging(attempt: audit.Attempt) -> None:
    """Send the metrics signal: the metrics count every attempt."""
    seconds = time.perf_counter() - attempt.started
    audit.attempted.send(None, outcome="refused", reason=TooManyAttempts.default_code, seconds=seconds)


def parse_rate(text: str) -> tuple[int, int]:
    """The number and the seconds of a rate in DRF's notation, such as ``60/min``. Raises ``ValueError``."""
    if text.partition("/")[2] not in PERIODS:  # DRF reads only the first letter: a month would be a minute
        raise ValueError(text)
    try:
        number, seconds = SimpleRateThrottle.parse_rate(None, text)  # type: ignore[arg-type]
    except (ValueError, KeyError, IndexError):
        raise ValueError(text) from None
    if not number or number < 1 or not seconds:
        raise ValueError(text)
    return number, seconds


def clear() -> None:
    """Forget all counts. For tests."""
    global cache_breaker
    _blocked_until.clear()
    _local_counters.clear()
    cache_breaker = CircuitBreaker("Cache (CACHE_URL)")


def _raise_if_blocked(key: str) -> None:
    wait = _blocked_until.get(key, 0.0) - time.monotonic()
    if wait > 0:
        raise TooManyAttempts(math.ceil(wait))


def _block(key: str, seconds: int) -> None:
    if not key:
        return
    now = time.monotonic()
    if len(_blocked_until) >= MAX_BLOCKED:
        for expired in [each for each, until in list(_blocked_until.items()) if until <= now]:
            _blocked_until.pop(expired, None)
        if len(_blocked_until) >= MAX_BLOCKED:  # a flood from many addresses: the cache still counts it
            _blocked_until.clear()
    _blocked_until[key] = now + seconds


def _count(key: str, seconds: int) -> int:
    """Count one more refused attempt. Returns the number in this period, with this one."""
    cache_key = f"refused:{key}"
    if cache_breaker.allows_call():
        try:
            number = _increment(cache, cache_key, seconds)
        except Exception as exc:  # each cache backend has its own exceptions
            cache_breaker.failed(exc)
        else:
            cache_breaker.succeeded()
            return number
    return _increment(_local_counters, cache_key, seconds)


def _increment(counters: BaseCache, cache_key: str, seconds: int) -> int:
    counters.add(cache_key, 0, seconds)
    try:
        return counters.incr(cache_key)
    except ValueError:  # the entry expired between the two calls
        counters.set(cache_key, 1, seconds)
        return 1


def _keys(attempt: audit.Attempt, status: int) -> tuple[str, str]:
    """The key to count a refused attempt by, and the key of the token (empty if it has none)."""
    credential = attempt.verified_credential
    if credential is None:
        return _address_key(attempt.request), ""
    counter_key, token_key = _hashed(credential.counted_by), _hashed(credential.token)
    if status != HTTPStatus.UNAUTHORIZED:
        return counter_key, token_key
    return _at_address(counter_key, attempt.request), _at_address(token_key, attempt.request)


def _address_key(request: Request) -> str:
    return f"address:{client_address.network(request.META)}"


def _at_address(key: str, request: Request) -> str:
    """A separate key for each address. Empty for an empty key."""
    return key and f"{key}:{client_address.network(request.META)}"


@sensitive_variables()
def _hashed(key: str) -> str:
    kind, _, value = key.partition(":")
    return key and f"{kind}:{hashlib.sha256(value.encode(errors='replace')).hexdigest()}"
