"""The keys that verify JWTs: public keys from Better Auth's jwks table or JWKS URL, or one secret.

Each process caches the whole key set for BETTER_AUTH_KEYS_TTL. After that time the set is stale:

- The next request with a JWT refreshes the stale set, and waits for the new set.
- During this refresh, other requests whose key is in the old set use the old set and do not wait.

A request whose key is not in the set also refreshes the set, even if the set is not stale. If another
request is already refreshing the set, this request waits for that refresh, at most one second. The same rules
hold for the first load.

If a refresh fails, the old set stays in use.
"""

import json
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jwt
from django.db.models import Q, QuerySet
from django.utils import timezone
from jwt.utils import base64url_encode

from authn.conf import conf
from authn.errors import Unavailable
from authn.jwt.jwks import fetch
from authn.models import SigningKey
from authn.tables.naming import exists
from runtime.circuit_breaker import CircuitBreaker

logger = logging.getLogger(__name__)

# The rate limit of refreshes is a bucket: it starts with 10 refreshes, each refresh takes one, and one is
# added each second, up to 10.
# A limit is needed because an unknown kid causes a refresh: every forged JWT could cause one.
# A fixed pause between two refreshes would be too strict. If Better Auth gets
# several requests after its key has expired, Better Auth makes several keys within a second, and we need each
# of them at once.
# An attacker can keep the bucket empty. That delays the load of a new key by about a second.
MAX_REFRESHES, REFRESH_PERIOD_SECONDS = 10, 10.0

# How long a request waits for another request's refresh, counted from the start of that refresh. A waiting
# request holds one of the server's few worker threads. Without this limit, a few forged JWTs could hold all
# threads while the source of the keys hangs.
MAX_WAIT_SECONDS = 1.0

SECRET_KID = "the-secret"  # noqa: S105 - the kid of the one key that BETTER_AUTH_KEYS=secret has

CURVES = {"Ed25519": "EdDSA", "P-256": "ES256", "P-521": "ES512"}


@dataclass(frozen=True, slots=True)
class Key:
    """A key that verifies JWTs.

    ``expires_at``: aware UTC. Better Auth signs no JWT with this key after that time. ``None``
    if the key does not expire, or if its expiry is not known. It is not known for keys from a URL, for the
    secret, and for a jwks table without the column ``expiresAt``.
    """

    kid: str
    jwk: jwt.PyJWK
    expires_at: datetime | None

    @property
    def algorithm(self) -> str:
        return self.jwk.algorithm_name


def find(kid: str) -> Key | None:
    """Returns the key with this key id, or ``None``. Raises ``Unavailable`` if there is no set to look in."""
    return _key_set.find(kid)


def has_keys() -> bool:
    """Whether the set has any key. If it has none, this loads the set again.

    Raises ``Unavailable`` if no set could be loaded.
    """
    return _key_set.has_keys()


def known_ids() -> list[str]:
    """Returns the key ids of the cached keys, sorted. Loads nothing."""
    return sorted(_key_set._keys or {})


def why_unusable(jwk: Any, alg: Any) -> str:
    """Returns why a key of the table or of a JWKS document cannot be used, or "" if it can be used."""
    try:
        _public_key(jwk, alg)
    except UnusableKey as exc:
        return str(exc)
    except Exception as exc:
        return f"it cannot be read ({type(exc).__name__})"
    return ""


def clear_cache(**kwargs: Any) -> None:
    """Drop the cached set. Also used as a receiver of Django's ``setting_changed``."""
    global _key_set
    if str(kwargs.get("setting", "BETTER_AUTH")).startswith("BETTER_AUTH"):
        _key_set = _KeySet()


class UnusableKey(ValueError):
    """The message is the reason. It shows no part of the key except its algorithm."""


class _KeySet:
    def __init__(self) -> None:
        self._keys: dict[str, Key] | None = None
        # All times are values of time.monotonic().
        self._loaded_at = 0.0
        self._source = CircuitBreaker("Signing keys")
        self._refresh_began_at: float | None = None  # None if no refresh is running
        self._refreshes_left, self._refilled_at = float(MAX_REFRESHES), 0.0
        self._lock = threading.Lock()  # held during a refresh

    def find(self, kid: str) -> Key | None:
        keys = self._keys
        if keys is not None and kid in keys:
            # If the lock is taken, another request is refreshing the stale set. Use the old set meanwhile.
            if self._is_stale() and self._lock.acquire(blocking=False):
                try:
                    self._refresh()
                finally:
                    self._lock.release()
        elif self._acquire_lock():
            try:
                # Look again: the request that held the lock before us may have loaded the key.
                if self._keys is None or kid not in self._keys:
                    self._refresh()
            finally:
                self._lock.release()
        else:
            raise Unavailable("keys_unavailable")
        if self._keys is None:
            raise Unavailable("keys_unavailable")
        return self._keys.get(kid)

    def has_keys(self) -> bool:
        # Do not wait while another thread loads the set: the readiness check calls this again soon.
        if not self._keys and self._lock.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._lock.release()
        if self._keys is None:
            raise Unavailable("keys_unavailable")
        return bool(self._keys)

    def _acquire_lock(self) -> bool:
        """Try to acquire the lock, and return whether this succeeded.

        If another request is refreshing, wait until MAX_WAIT_SECONDS after the start of its refresh. But if
        the last refresh failed (the circuit breaker is not closed), do not wait at all: the other request
        only tests whether the source works again.
        """
        began_at = self._refresh_began_at
        if began_at is None:
            timeout = MAX_WAIT_SECONDS
        elif self._source.is_closed:
            timeout = began_at + MAX_WAIT_SECONDS - time.monotonic()
        else:
            timeout = 0.0
        return self._lock.acquire(timeout=max(timeout, 0.0))

    def _is_stale(self) -> bool:
        return time.monotonic() - self._loaded_at > conf.BETTER_AUTH_KEYS_TTL.total_seconds()

    def _refresh(self) -> None:
        now = time.monotonic()
        refilled = (now - self._refilled_at) * MAX_REFRESHES / REFRESH_PERIOD_SECONDS
        self._refreshes_left, self._refilled_at = min(MAX_REFRESHES, self._refreshes_left + refilled), now
        if self._refreshes_left < 1 or not self._source.allows_call():
            return
        self._refreshes_left -= 1
        self._refresh_began_at = now
        try:
            self._keys = {key.kid: key for key in _load()}
        except Exception as exc:
            self._source.failed(exc)
        else:
            # The TTL counts from the start of the refresh, not from its end: a key may be revoked after its
            # row was read.
            self._loaded_at = now
            self._source.succeeded()
        finally:
            self._refresh_began_at = None


_key_set = _KeySet()


def _load() -> Iterator[Key]:
    if conf.BETTER_AUTH_KEYS == "secret":
        secret = {"kty": "oct", "k": base64url_encode(conf.BETTER_AUTH_SECRET.encode()).decode()}
        yield Key(SECRET_KID, jwt.PyJWK(secret, "HS256"), None)
        return
    entries: Iterable[Any]
    if conf.BETTER_AUTH_KEYS == "jwks":
        entries = fetch(conf.BETTER_AUTH_JWKS_URL, allow_private=conf.BETTER_AUTH_JWKS_PRIVATE)
    else:
        entries = _rows()
    for entry in entries:
        kid = None
        try:
            kid, jwk, alg, expires_at = _read_entry(entry)
            if not isinstance(kid, str):
                raise TypeError
            yield Key(kid, _public_key(jwk, alg), expires_at)
        except Exception as exc:
            # Catch every exception: one bad key must not make the other keys unusable.
            logger.warning("Signing key %s is not usable: %s", kid, type(exc).__name__)


def _read_entry(entry: Any) -> tuple[Any, Any, Any, datetime | None]:
    """Returns the kid, key, algorithm and expiry of a row of the table or an entry of a JWKS document.

    An entry of a JWKS document may be any JSON value.
    """
    if isinstance(entry, SigningKey):
        expires_at = getattr(entry, "expires_at", None)
        return entry.kid, entry.public_key, getattr(entry, "alg", None), expires_at
    if not isinstance(entry, dict):
        raise TypeError
    return entry.get("kid"), entry, entry.get("alg"), None


def _rows() -> QuerySet[SigningKey]:
    if not exists("jwks", "expiresAt"):
        return SigningKey.objects.all()
    # Better Auth never deletes a row. So leave out keys that expired so long ago that every JWT they signed
    # has expired too. The leeway counts twice: a JWT may be issued that long after its key's expiry, and the
    # JWT is accepted that long after its own expiry.
    oldest = timezone.now() - conf.BETTER_AUTH_MAX_TOKEN_LIFETIME - 2 * conf.BETTER_AUTH_LEEWAY
    return SigningKey.objects.filter(Q(expires_at=None) | Q(expires_at__gt=oldest))


def _public_key(jwk: Any, alg: Any) -> jwt.PyJWK:
    members = json.loads(jwk) if isinstance(jwk, str) else jwk
    if "d" in members:
        raise UnusableKey("it is a private key, and everybody who can read it can sign tokens")
    key = jwt.PyJWK(members, algorithm=_algorithm(members, alg))
    # PyJWT checks the curve and the length of a key only when it verifies a JWT, and it only warns of a short
    # key. So check both here.
    if key.Algorithm.check_key_length(key.Algorithm.prepare_key(key.key)):
        raise UnusableKey("it is too short")
    return key


def _algorithm(jwk: dict[str, Any], alg: str | None) -> str:
    """Returns the key's algorithm. It comes from the key and the allow-list, never from a JWT's header.

    ``alg``: ``None`` in rows from before Better Auth 1.7. Then the key's type or curve gives the algorithm.
    """
    allowed = conf.BETTER_AUTH_ALGORITHMS
    if alg is None and jwk["kty"] == "RSA":
        alg = next((name for name in allowed if name.startswith(("RS", "PS"))), None)
    elif alg is None:
        alg = CURVES.get(jwk["crv"])
    if alg not in allowed:
        raise UnusableKey(f"{alg} is not in BETTER_AUTH_ALGORITHMS")
    return alg
