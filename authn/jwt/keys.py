"""The keys that verify tokens: public keys from Better Auth's jwks table or JWKS URL, or one secret.

Each process caches the whole key set, with a TTL. A request whose key is in the set never waits for a
refresh. Any other request waits for a second at most, even for the first load: it holds a thread that
requests with a session cookie need. A set that cannot be refreshed stays in use.
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

# An unknown kid causes a refresh, so forged tokens could cause one with each request. A token bucket limits
# the refreshes. A fixed pause between two would not do: when several requests find the key expired, Better
# Auth makes several keys within a second, and we must find each at once. The bucket refills one by one, so an
# attacker who keeps it empty delays a new key by a second only.
MAX_REFRESHES, REFRESH_PERIOD_SECONDS = 10, 10.0

# From the start of another request's refresh. A waiting request holds one of the server's few threads. If the
# source hangs, a few forged tokens could hold them all.
MAX_WAIT_SECONDS = 1.0

SECRET_KID = "the-secret"  # noqa: S105 - the kid of the one key that BETTER_AUTH_KEYS=secret has

CURVES = {"Ed25519": "EdDSA", "P-256": "ES256", "P-521": "ES512"}


@dataclass(frozen=True, slots=True)
class Key:
    """``expires_at``: aware UTC. Better Auth signs no tokens with this key after it. ``None`` from a URL."""

    kid: str
    jwk: jwt.PyJWK
    expires_at: datetime | None

    @property
    def algorithm(self) -> str:
        return self.jwk.algorithm_name


def find(kid: str) -> Key | None:
    """The key with that id, or ``None``. Raises ``Unavailable`` if no set could be loaded."""
    return _key_set.find(kid)


def has_keys() -> bool:
    """Whether there is any key. Loads the set if there is none. Raises ``Unavailable`` as ``find`` does."""
    return _key_set.has_keys()


def known_ids() -> list[str]:
    """The ids of the cached keys, sorted. Loads nothing."""
    return sorted(_key_set._keys or {})


def why_unusable(jwk: Any, alg: Any) -> str:
    """Why a key from the table or a JWKS document cannot be used, or ""."""
    try:
        _public_key(jwk, alg)
    except UnusableKey as exc:
        return str(exc)
    except Exception as exc:
        return f"it cannot be read ({type(exc).__name__})"
    return ""


def clear_cache(**kwargs: Any) -> None:
    """Drop the cached set. Also a receiver of Django's ``setting_changed``."""
    global _key_set
    if str(kwargs.get("setting", "BETTER_AUTH")).startswith("BETTER_AUTH"):
        _key_set = _KeySet()


class UnusableKey(ValueError):
    """Its message says why, and names nothing of the key but its algorithm."""


class _KeySet:
    def __init__(self) -> None:
        self._keys: dict[str, Key] | None = None
        self._loaded_at = 0.0  # time.monotonic() throughout
        self._source = CircuitBreaker("Signing keys")
        self._began_at: float | None = None  # of the refresh that is running
        self._allowance, self._allowance_at = float(MAX_REFRESHES), 0.0
        self._lock = threading.Lock()

    def find(self, kid: str) -> Key | None:
        keys = self._keys
        if keys is not None and kid in keys:
            # A known key never waits: one request refreshes a stale set, and the others use it meanwhile.
            if self._is_stale() and self._lock.acquire(blocking=False):
                try:
                    self._refresh()
                finally:
                    self._lock.release()
        elif self._acquire_lock():
            try:  # the request that had the lock before us may have loaded the key
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
        # The readiness check asks again soon, so it does not wait while another thread loads.
        if not self._keys and self._lock.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._lock.release()
        if self._keys is None:
            raise Unavailable("keys_unavailable")
        return bool(self._keys)

    def _acquire_lock(self) -> bool:
        """Whether we got the lock. Nobody waits while another request tries a source that has failed."""
        timeout, began_at = MAX_WAIT_SECONDS, self._began_at
        if began_at is not None:
            timeout = began_at + MAX_WAIT_SECONDS - time.monotonic() if self._source.is_closed else 0.0
        return self._lock.acquire(timeout=max(timeout, 0.0))

    def _is_stale(self) -> bool:
        return time.monotonic() - self._loaded_at > conf.BETTER_AUTH_KEYS_TTL.total_seconds()

    def _refresh(self) -> None:
        now = time.monotonic()
        refilled = (now - self._allowance_at) * MAX_REFRESHES / REFRESH_PERIOD_SECONDS
        self._allowance, self._allowance_at = min(MAX_REFRESHES, self._allowance + refilled), now
        if self._allowance < 1 or not self._source.allows_call():
            return
        self._allowance -= 1
        self._began_at = now
        try:
            self._keys = {key.kid: key for key in _load()}
        except Exception as exc:
            self._source.failed(exc)
        else:
            self._loaded_at = now  # the start, not the end: a key may be revoked after its row was read
            self._source.succeeded()
        finally:
            self._began_at = None


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
            # Catch everything: one bad key must not make the others unusable.
            logger.warning("Signing key %s is not usable: %s", kid, type(exc).__name__)


def _read_entry(entry: Any) -> tuple[Any, Any, Any, datetime | None]:
    """The kid, key, algorithm and expiry of a row or of an entry in a JWKS document (any JSON)."""
    if isinstance(entry, SigningKey):
        expires_at = getattr(entry, "expires_at", None)
        return entry.kid, entry.public_key, getattr(entry, "alg", None), expires_at
    if not isinstance(entry, dict):
        raise TypeError
    return entry.get("kid"), entry, entry.get("alg"), None


def _rows() -> QuerySet[SigningKey]:
    if not exists("jwks", "expiresAt"):
        return SigningKey.objects.all()
    # Better Auth never deletes rows, so leave out keys that are too old for any valid token.
    oldest = timezone.now() - conf.BETTER_AUTH_MAX_TOKEN_LIFETIME - 2 * conf.BETTER_AUTH_LEEWAY
    return SigningKey.objects.filter(Q(expires_at=None) | Q(expires_at__gt=oldest))


def _public_key(jwk: Any, alg: Any) -> jwt.PyJWK:
    members = json.loads(jwk) if isinstance(jwk, str) else jwk
    if "d" in members:
        raise UnusableKey("it is a private key, and everybody who can read it can sign tokens")
    key = jwt.PyJWK(members, algorithm=_algorithm(members, alg))
    # PyJWT checks the curve and the length only when it verifies, and only warns of a short key.
    if key.Algorithm.check_key_length(key.Algorithm.prepare_key(key.key)):
        raise UnusableKey("it is too short")
    return key


def _algorithm(jwk: dict[str, Any], alg: str | None) -> str:
    """From the key and the allow-list, never from a token. ``alg`` is NULL in rows from before Better Auth
    1.7."""
    allowed = conf.BETTER_AUTH_ALGORITHMS
    if alg is None and jwk["kty"] == "RSA":
        alg = next((name for name in allowed if name.startswith(("RS", "PS"))), None)
    elif alg is None:
        alg = CURVES.get(jwk["crv"])
    if alg not in allowed:
        raise UnusableKey(f"{alg} is not in BETTER_AUTH_ALGORITHMS")
    return alg
