"""The keys that verify tokens: public ones from Better Auth's jwks table or its JWKS URL, or one secret.

The whole set is kept in the process, with a TTL. A request whose key is in the set never waits for a refresh.
Any other request waits for a moment at most, even before the first set is loaded: requests with a session
cookie need the threads too. A set that cannot be refreshed stays in use.
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

# An unknown kid costs a refresh, so a forger could ask for one a request. A bucket and not a plain
# pause between two refreshes: Better Auth mints several keys within a second when requests race for
# an expired one, and each must be found at once. It fills drop by drop, so that a forger who keeps it
# empty delays a new key by one drop and not until the bucket is full again.
MAX_REFRESHES, REFRESH_PERIOD_SECONDS = 10, 10.0

# Counted from the start of another request's refresh. A request that waits holds one of the server's few
# threads. While the source hangs, a few forged tokens would hold them all.
MAX_WAIT_SECONDS = 1.0

SECRET_KID = "the-secret"  # noqa: S105 - the kid of the one key that BETTER_AUTH_KEYS=secret has

CURVES = {"Ed25519": "EdDSA", "P-256": "ES256", "P-521": "ES512"}


@dataclass(frozen=True, slots=True)
class Key:
    """``expires_at``: aware UTC; after it Better Auth signs no more with this key. Unknown from a URL."""

    kid: str
    jwk: jwt.PyJWK
    expires_at: datetime | None

    @property
    def algorithm(self) -> str:
        return self.jwk.algorithm_name


def find(kid: str) -> Key | None:
    """The key of that id, or ``None``. Raises ``Unavailable`` when no set was ever loaded."""
    return _key_set.find(kid)


def has_keys() -> bool:
    """Whether there is a key at all; without one, looks for it. Raises ``Unavailable`` as ``find`` does."""
    return _key_set.has_keys()


def known_ids() -> list[str]:
    """The ids of the set in use."""
    return sorted(_key_set._keys or {})


def why_unusable(jwk: Any, alg: Any) -> str:
    """Why a key of the table or of a JWKS document is not usable; empty when it is."""
    try:
        _public_key(jwk, alg)
    except UnusableKey as exc:
        return str(exc)
    except Exception as exc:
        return f"it cannot be read ({type(exc).__name__})"
    return ""


def clear_cache(**kwargs: Any) -> None:
    """Drop the cached set; also the receiver of Django's ``setting_changed``."""
    global _key_set
    if str(kwargs.get("setting", "BETTER_AUTH")).startswith("BETTER_AUTH"):
        _key_set = _KeySet()


class UnusableKey(ValueError):
    """Says why in words, which name nothing of the key but its algorithm."""


class _KeySet:
    def __init__(self) -> None:
        self._keys: dict[str, Key] | None = None
        self._loaded_at = 0.0  # time.monotonic() throughout
        self._source = CircuitBreaker("Signing keys")
        self._began_at: float | None = None  # the refresh that is under way
        self._allowance, self._allowance_at = float(MAX_REFRESHES), 0.0
        self._lock = threading.Lock()

    def find(self, kid: str) -> Key | None:
        keys = self._keys
        if keys is not None and kid in keys:
            # A known key never waits: one request refreshes an old set, the others use it meanwhile.
            if self._is_stale() and self._lock.acquire(blocking=False):
                try:
                    self._refresh()
                finally:
                    self._lock.release()
        elif self._acquire_lock():
            try:  # whoever waited here may find the key in what the one before loaded
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
        # Whoever asks has time: while another thread is loading, this one does not wait for it.
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
        left, began_at = MAX_WAIT_SECONDS, self._began_at
        if began_at is not None:
            left = began_at + MAX_WAIT_SECONDS - time.monotonic() if self._source.is_closed else 0.0
        return self._lock.acquire(timeout=max(left, 0.0))

    def _is_stale(self) -> bool:
        return time.monotonic() - self._loaded_at > conf.BETTER_AUTH_KEYS_TTL.total_seconds()

    def _refresh(self) -> None:
        now = time.monotonic()
        earned = (now - self._allowance_at) * MAX_REFRESHES / REFRESH_PERIOD_SECONDS
        self._allowance, self._allowance_at = min(MAX_REFRESHES, self._allowance + earned), now
        if self._allowance < 1 or not self._source.allows_call():
            return
        self._allowance -= 1
        self._began_at = now
        try:
            self._keys = {key.kid: key for key in _load()}
        except Exception as exc:
            self._source.failed(exc)
        else:
            self._loaded_at = now  # not when it ended: a key may be revoked after its row was read
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
            # Whatever is wrong with one key, it must not take the others down.
            logger.warning("Signing key %s is not usable: %s", kid, type(exc).__name__)


def _read_entry(entry: Any) -> tuple[Any, Any, Any, datetime | None]:
    """The kid, key, algorithm and expiry of a row, or of a JWKS document's entry, which may be any JSON."""
    if isinstance(entry, SigningKey):
        expires_at = getattr(entry, "expires_at", None)
        return entry.kid, entry.public_key, getattr(entry, "alg", None), expires_at
    if not isinstance(entry, dict):
        raise TypeError
    return entry.get("kid"), entry, entry.get("alg"), None


def _rows() -> QuerySet[SigningKey]:
    if not exists("jwks", "expiresAt"):
        return SigningKey.objects.all()
    # Rows stay for ever, so they would pile up here too. No token that is still good can be older than this.
    oldest = timezone.now() - conf.BETTER_AUTH_MAX_TOKEN_LIFETIME - 2 * conf.BETTER_AUTH_LEEWAY
    return SigningKey.objects.filter(Q(expires_at=None) | Q(expires_at__gt=oldest))


def _public_key(jwk: Any, alg: Any) -> jwt.PyJWK:
    members = json.loads(jwk) if isinstance(jwk, str) else jwk
    if "d" in members:
        raise UnusableKey("it is a private key, and whoever can read it can sign")
    key = jwt.PyJWK(members, algorithm=_algorithm(members, alg))
    # PyJWT looks at the curve and the length only when it verifies, and merely warns of a short key.
    if key.Algorithm.check_key_length(key.Algorithm.prepare_key(key.key)):
        raise UnusableKey("it is too short")
    return key


def _algorithm(jwk: dict[str, Any], alg: str | None) -> str:
    """From the key and the allow-list, never from a token. ``alg`` is NULL in rows from before 1.7."""
    allowed = conf.BETTER_AUTH_ALGORITHMS
    if alg is None and jwk["kty"] == "RSA":
        alg = next((name for name in allowed if name.startswith(("RS", "PS"))), None)
    elif alg is None:
        alg = CURVES.get(jwk["crv"])
    if alg not in allowed:
        raise UnusableKey(f"{alg} is not in BETTER_AUTH_ALGORITHMS")
    return alg
