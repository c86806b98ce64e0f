"""A limit on refused attempts: REFUSED_RATE_PER_ADDRESS, for each client address and each genuine credential.

The signature is always verified first. Nothing else tells a good token from a flood at the same address, so a
flood keeps no neighbour out. This check is about a fifth of what a forged token costs.

A refused attempt is counted by what was verified of it:

- nothing: by the client's address.
- a signed session token: by that token, however it is encoded.
- a JWT: by its session (``sid``), or by its user (``sub``) if it names none. All their JWTs count
  together.

A 401 for a JWT is counted separately at each address. A page gets a new token after a 401. Somebody at
another address with an old token of the same user must not be able to turn that 401 into a 429.

Past the limit a refused attempt is a 429 and is not logged. A session token or JWT that a look-up has refused
is then not looked up again. Other JWTs of the same session or user still are. One of them may be good, for
example after a new sign-in or the end of a ban.

Counted in Django's cache, which servers may share; each remembers by itself who is over the limit, so that
a good request asks nobody. While the cache does not answer, each server counts by itself.
"""

import hashlib
import math
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self

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
MOST_REMEMBERED = 10_000


@dataclass(slots=True, repr=False)  # no error report shows the token
class VerifiedCredential:
    """A credential whose signature is good.

    ``counted_by``: the name under which its refused attempts are counted. ``token``: the token itself, which
    is not looked up again past the limit; empty if it was never looked up. Both are only stored as hashes.
    They are hashed later, because a good request needs no hash.
    """

    counted_by: str
    token: str

    @classmethod
    def session_token(cls, token: str) -> Self:
        name = f"session-token:{token}"
        return cls(name, name)

    @classmethod
    def jwt(cls, session_id: Any, user_id: Any, token: str = "") -> Self:
        """``token``: given if its user and session are looked up next."""
        counted_by = f"session:{session_id}" if session_id else f"user:{user_id}"
        # Without its signature: ECDSA has two for one text, and anybody can compute the second one.
        return cls(counted_by, f"jwt:{token.rpartition('.')[0]}" if token else "")


_blocked_until: dict[str, float] = {}  # who is over the limit, and until when (time.monotonic())
_in_this_process = LocMemCache("refusals", {"OPTIONS": {"MAX_ENTRIES": MOST_REMEMBERED}})
cache_breaker = CircuitBreaker("Cache (CACHE_URL)")  # for everything that counts in it


def check_token(attempt: audit.Attempt) -> None:
    """Call it with a verified token, before any look-up. Raises ``TooManyAttempts``."""
    if _blocked_until and attempt.verified_credential:
        token = _hashed(attempt.verified_credential.token)
        _check(token)
        _check(_at_address(token, attempt.request))


def check_address(request: Request) -> None:
    """For what nothing tells a forgery by but a look-up. Raises ``TooManyAttempts``."""
    if _blocked_until:
        _check(_of_address(request))


def record(attempt: audit.Attempt, reason: str, status: int, **details: Any) -> None:
    """Count a refused attempt, and log it.

    Raises ``TooManyAttempts`` if it is over the limit. Only the first attempt over the limit is logged.
    """
    # A 5xx is our own fault and not counted. Without keys, forged tokens get a 503 too, so that is counted.
    if status >= 500 and reason != "keys_unavailable":
        attempt.log_refused(reason, status, **details)
        return
    who, token = _names(attempt, status)
    try:
        _check(who)
    except TooManyAttempts as too_many:
        signal_without_logging(attempt)
        _block(token, too_many.wait)
        raise
    limit, seconds = parse_rate(conf.REFUSED_RATE_PER_ADDRESS)
    if _counted(who, seconds) <= limit:
        attempt.log_refused(reason, status, **details)
        return
    _block(who, seconds)
    _block(token, seconds)
    attempt.log_refused(TooManyAttempts.default_code, TooManyAttempts.status_code, **details)
    raise TooManyAttempts(seconds)


def signal_without_logging(attempt: audit.Attempt) -> None:
    """For the metrics, which count every attempt."""
    seconds = time.perf_counter() - attempt.started
    audit.attempted.send(None, outcome="refused", reason=TooManyAttempts.default_code, seconds=seconds)


def parse_rate(text: str) -> tuple[int, int]:
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


def clear() -> None:
    global cache_breaker
    _blocked_until.clear()
    _in_this_process.clear()
    cache_breaker = CircuitBreaker("Cache (CACHE_URL)")


def _check(who: str) -> None:
    wait = _blocked_until.get(who, 0.0) - time.monotonic()
    if wait > 0:
        raise TooManyAttempts(math.ceil(wait))


def _block(who: str, seconds: int) -> None:
    if not who:
        return
    now = time.monotonic()
    if len(_blocked_until) >= MOST_REMEMBERED:
        for each in [each for each, until in list(_blocked_until.items()) if until <= now]:
            _blocked_until.pop(each, None)
        if len(_blocked_until) >= MOST_REMEMBERED:  # a flood from everywhere: the cache still counts
            _blocked_until.clear()
    _blocked_until[who] = now + seconds


def _counted(who: str, seconds: int) -> int:
    key = f"refused:{who}"
    if cache_breaker.allows_call():
        try:
            count = _one_more(cache, key, seconds)
        except Exception as exc:  # each cache has errors of its own
            cache_breaker.failed(exc)
        else:
            cache_breaker.succeeded()
            return count
    return _one_more(_in_this_process, key, seconds)


def _one_more(counters: BaseCache, key: str, seconds: int) -> int:
    counters.add(key, 0, seconds)
    try:
        return counters.incr(key)
    except ValueError:  # its time was over in between
        counters.set(key, 1, seconds)
        return 1


def _names(attempt: audit.Attempt, status: int) -> tuple[str, str]:
    """The name to count a refused attempt by, and the token not to look up again past the limit."""
    if attempt.verified_credential is None:
        return _of_address(attempt.request), ""
    who, token = _hashed(attempt.verified_credential.counted_by), _hashed(attempt.verified_credential.token)
    if status != HTTPStatus.UNAUTHORIZED:
        return who, token
    return _at_address(who, attempt.request), _at_address(token, attempt.request)


def _of_address(request: Request) -> str:
    return f"address:{client_address.network(request.META)}"


def _at_address(name: str, request: Request) -> str:
    return name and f"{name}:{client_address.network(request.META)}"


@sensitive_variables()
def _hashed(name: str) -> str:
    kind, _, value = name.partition(":")
    return name and f"{kind}:{hashlib.sha256(value.encode(errors='replace')).hexdigest()}"
