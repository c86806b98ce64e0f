"""Limits how many attempts to authenticate may be refused.

Each refused attempt adds one to a counter. The limit of each counter is REFUSED_RATE_PER_ADDRESS, such as
``60/min``. The counter depends on the credential:

- Without a verified credential: the counter of the client's IP address.
- With a verified session token: the counter of that token. All encodings of the token share this counter.
- With a verified JWT: the counter of its session (``sid``), or of its user (``sub``) if it names no session.
  All JWTs of that session or user share this counter.

If a verified JWT gets a 401, each IP address has its own counter for this JWT's session or user. The reason
is an attack with an old JWT of the user. The user's browser gets a new JWT after a 401, but not after a 429.
With one counter for all IP addresses, the attacker could fill this counter. Then the user would get a 429 in
place of the 401, and no new JWT.

If a counter is over the limit, a refused attempt gets a 429. The first such attempt in a period is logged,
and the others are not. A session token or JWT that was refused after its look-up is then blocked: it is not
looked up again until the period ends. Other JWTs of the same session or user are still looked up. They may be
accepted, for example after a new sign-in or the end of a ban.

A counter over the limit never blocks a verified credential that has not been refused itself. So a flood of
forged tokens from an IP address does not lock out other users of that IP address. This needs the signature of
each signed credential to be verified, even if its IP address is over the limit. The verification takes about
a fifth of all the time that a request with a forged token takes.

A session token without a signature cannot be verified. It is not looked up while its IP address is over the
limit.

The counters are in the cache of BETTER_AUTH_CACHE, which all servers may share. Each process also remembers
which counters and tokens are blocked, so an accepted request does not need the cache. While the cache does
not answer, each process counts by itself.
"""

import hashlib
import math
import time
from http import HTTPStatus
from typing import Any

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.views.decorators.debug import sensitive_variables
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from authn import audit, client_address
from authn.conf import conf
from authn.errors import TooManyAttempts
from runtime.circuit_breaker import CircuitBreaker, NoAnswer

PERIODS = {"s", "sec", "second", "m", "min", "minute", "h", "hour", "d", "day"}
MAX_BLOCKED = 10_000  # counters and tokens that a process remembers

# For each blocked counter or token: the end of its period, as a value of time.monotonic().
_blocked_until: dict[str, float] = {}
_local_counters = LocMemCache("refusals", {"OPTIONS": {"MAX_ENTRIES": MAX_BLOCKED}})
_breakers: dict[str, CircuitBreaker] = {}  # by the alias of the cache


def check_token(attempt: audit.Attempt) -> None:
    """Raise ``TooManyAttempts`` if the verified token is blocked. Called before the token's look-up."""
    if _blocked_until and attempt.verified_credential:
        token = _hashed(attempt.verified_credential.token)
        _raise_if_blocked(token)
        _raise_if_blocked(_at_address(token, attempt.request))


def check_address(request: Request) -> None:
    """Raise ``TooManyAttempts`` if the client's IP address is blocked. Called before the look-up of a session
    token without a signature."""
    if _blocked_until:
        _raise_if_blocked(_address_counter(request))


def record(attempt: audit.Attempt, reason: str, status: int, **details: Any) -> None:
    """Count a refused attempt, and log it. Raises ``TooManyAttempts`` if the attempt is over the limit.

    Logs the first attempt over the limit as a 429. Does not log the others in the same period.
    """
    # A 5xx is our own fault, so it is not counted. Only the 503 for missing keys ("keys_unavailable") is
    # counted, because forged tokens get it too.
    if status >= 500 and reason != "keys_unavailable":
        attempt.log_refused(reason, status, **details)
        return
    counter, token = _counter_and_token(attempt, status)
    try:
        _raise_if_blocked(counter)
    except TooManyAttempts as too_many:
        report_to_metrics(attempt)
        _block(token, too_many.wait)
        raise
    limit, seconds = parse_rate(conf.REFUSED_RATE_PER_ADDRESS)
    if _count(counter, seconds) <= limit:
        attempt.log_refused(reason, status, **details)
        return
    _block(counter, seconds)
    _block(token, seconds)
    attempt.log_refused(TooManyAttempts.default_code, TooManyAttempts.status_code, **details)
    raise TooManyAttempts(seconds)


def report_to_metrics(attempt: audit.Attempt) -> None:
    """Send the signal ``audit.attempted`` for an attempt over the limit, and write no log record.

    The metrics and the admin count every attempt.
    """
    audit.attempted.send(
        None,
        outcome="refused",
        reason=TooManyAttempts.default_code,
        status=TooManyAttempts.status_code,
        seconds=time.perf_counter() - attempt.started,
    )


def parse_rate(text: str) -> tuple[int, int]:
    """Returns the number and the seconds of a rate in DRF's notation: ``(60, 60)`` for ``60/min``.

    Raises ``ValueError``.
    """
    # DRF reads only the first letter of the period, so it would read "month" as a minute.
    if text.partition("/")[2] not in PERIODS:
        raise ValueError(text)
    try:
        number, seconds = SimpleRateThrottle.parse_rate(None, text)  # type: ignore[arg-type]
    except (ValueError, KeyError, IndexError):
        raise ValueError(text) from None
    if not number or number < 1 or not seconds:
        raise ValueError(text)
    return number, seconds


def counters() -> BaseCache:
    """Returns the cache that counts.

    Django's default cache is in the process and drops entries as soon as it has 300. It would forget counts,
    so then the counts are in a larger cache of this module, which is in the process too.
    """
    shared = caches[conf.BETTER_AUTH_CACHE]
    is_small = isinstance(shared, LocMemCache) and shared._max_entries < MAX_BLOCKED
    return _local_counters if is_small else shared


def breaker_of(alias: str) -> CircuitBreaker:
    """Returns the circuit breaker of a cache. Everything in this process that counts in the cache uses it."""
    return _breakers.get(alias) or _breakers.setdefault(alias, CircuitBreaker(f"CACHES[{alias!r}]"))


def increment(cache: BaseCache, key: str, seconds: int, number: int = 1) -> int:
    """Add to a number in the cache, and return the sum. A new number stays for ``seconds``."""
    cache.add(key, 0, seconds)
    try:
        return cache.incr(key, number)
    except ValueError:  # the entry expired between the two calls
        cache.set(key, number, seconds)
        return number


def clear() -> None:
    """Reset the counts of this process. For tests."""
    _blocked_until.clear()
    _local_counters.clear()
    _breakers.clear()


def _raise_if_blocked(name: str) -> None:
    wait = _blocked_until.get(name, 0.0) - time.monotonic()
    if wait > 0:
        raise TooManyAttempts(math.ceil(wait))


def _block(name: str, seconds: int) -> None:
    """Block a counter or a token. Does nothing if the name is empty."""
    if not name:
        return
    now = time.monotonic()
    if len(_blocked_until) >= MAX_BLOCKED:
        for expired in [each for each, until in list(_blocked_until.items()) if until <= now]:
            _blocked_until.pop(expired, None)
        # None or few have expired: there is a flood from many IP addresses. Forget all, the cache still
        # counts.
        if len(_blocked_until) >= MAX_BLOCKED:
            _blocked_until.clear()
    _blocked_until[name] = now + seconds


def _count(counter: str, seconds: int) -> int:
    """Count one refused attempt. Returns the number of refused attempts in this period, with this attempt."""
    cache_key = f"refused:{counter}"
    breaker = breaker_of(conf.BETTER_AUTH_CACHE)
    try:
        return breaker.call(lambda: increment(counters(), cache_key, seconds))
    except NoAnswer:
        return increment(_local_counters, cache_key, seconds)


def _counter_and_token(attempt: audit.Attempt, status: int) -> tuple[str, str]:
    """Returns the name of the attempt's counter, and the name of its token ("" if no look-up was made).

    ``verified_credential.counter`` and ``verified_credential.token`` are names like ``<kind>:<value>``. The
    returned names have the hash of the value.
    """
    credential = attempt.verified_credential
    if credential is None:
        return _address_counter(attempt.request), ""
    counter, token = _hashed(credential.counter), _hashed(credential.token)
    if status != HTTPStatus.UNAUTHORIZED:
        return counter, token
    return _at_address(counter, attempt.request), _at_address(token, attempt.request)


def _address_counter(request: Request) -> str:
    """Returns the name of the counter of the client's IP address."""
    return f"address:{client_address.network(request.META)}"


def _at_address(name: str, request: Request) -> str:
    """Returns the name with the client's IP address. Returns "" for an empty name."""
    return name and f"{name}:{client_address.network(request.META)}"


@sensitive_variables()
def _hashed(name: str) -> str:
    """Returns ``<kind>:<hash of the value>`` for ``<kind>:<value>``. Returns "" for an empty name."""
    kind, _, value = name.partition(":")
    return name and f"{kind}:{hashlib.sha256(value.encode(errors='replace')).hexdigest()}"
