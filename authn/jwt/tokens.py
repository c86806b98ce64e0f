"""Is this token one that our Better Auth made for us, and still good? No request, no user look-up."""

import json
import re
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import jwt
from django.views.decorators.debug import sensitive_variables
from jwt.exceptions import InvalidSubjectError

from authn.conf import conf
from authn.errors import TokenRefused
from authn.jwt import keys

MAX_CACHED = 1024  # tokens: those of so many users who are busy in the same minute
MAX_LENGTH = 8192  # characters; proxies allow about as much for all headers together
COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")

# Better Auth's ids, whatever their column: 32 letters and digits, a UUID, a number. The caller picks
# the kid before anything is verified, and PostgreSQL raises on a NUL, so nothing else goes further.
ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
EMAIL_LENGTH = 320

REQUIRED = ["exp", "iat", "iss", "aud", "sub", "email"]
# Better Auth's oauth-provider signs access and id tokens with the same keys; these claims give them away.
OAUTH_CLAIMS = ("azp", "client_id", "scope")

REASONS: dict[type[Exception], str] = {
    jwt.ExpiredSignatureError: "expired",
    jwt.ImmatureSignatureError: "not_yet_valid",
    jwt.InvalidSignatureError: "signature",
    jwt.InvalidIssuerError: "issuer",
    jwt.InvalidAudienceError: "audience",
    InvalidSubjectError: "subject",
}


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says.

    ``*_at``: aware UTC. ``email``: lower case. ``payload``: every claim, as JSON.
    """

    subject: str
    email: str
    session_id: str | None
    issued_at: datetime
    expires_at: datetime
    key_id: str
    algorithm: str
    payload: str = field(repr=False)

    @property
    def raw(self) -> dict[str, Any]:
        """Every claim, in a new dict each time: all requests with the same token share this object."""
        claims: dict[str, Any] = json.loads(self.payload)
        return claims


@sensitive_variables()  # nor what is below: PyJWT's frames hold the token under other names, ours its claims
def verify(token: str) -> Claims:
    """Check a Better Auth JWT (compact form) and return its claims.

    Raises ``TokenRefused`` for any token we do not accept, ``Unavailable`` when there are no keys to
    check it with. Source: better-auth packages/better-auth/src/plugins/jwt/sign.ts; RFC 7519, RFC 8725.
    """
    key = _key(token)
    try:
        claims = _verified(token, key)
        if claims.expires_at + conf.BETTER_AUTH_LEEWAY <= datetime.now(UTC):
            expired = TokenRefused("expired")
            expired.verified_payload = claims.raw
            raise expired
    except TokenRefused as refused:
        refused.key_id, refused.algorithm = key.kid, key.algorithm
        raise
    return claims


# The same token with the same key says the same each time: all but the hour. Only what is good is kept, and
# no longer than the key is, which a refresh of the set replaces once a minute.
@lru_cache(maxsize=MAX_CACHED)
def _verified(token: str, key: keys.Key) -> Claims:
    decoder = copy(_decoder)
    try:
        return _within_limits(_claims(_payload(decoder, token, key), key), key)
    except TokenRefused as refused:
        refused.verified_payload = decoder.verified_payload
        raise


def _within_limits(claims: Claims, key: keys.Key) -> Claims:
    lifetime = claims.expires_at - claims.issued_at
    if not timedelta(0) < lifetime <= conf.BETTER_AUTH_MAX_TOKEN_LIFETIME:
        raise TokenRefused("lifetime")
    # A retired key's row stays for ever: a live key signs only before it expires.
    if key.expires_at is not None and claims.issued_at - conf.BETTER_AUTH_LEEWAY > key.expires_at:
        raise TokenRefused("key_retired")
    if claims.session_id is None and conf.BETTER_AUTH_REQUIRE_SID:
        raise TokenRefused("missing_sid")
    return claims


def _key(token: str) -> keys.Key:
    if len(token) > MAX_LENGTH:
        raise TokenRefused("too_long")
    if not COMPACT.fullmatch(token):
        raise TokenRefused("malformed")
    header = _header(token.partition(".")[0])
    # Session caches, access tokens and logout tokens of Better Auth name their kind here (RFC 8725 §3.11).
    if header.get("typ", "JWT") != "JWT":
        raise TokenRefused("type")
    if "b64" in header:  # the one extension that PyJWT lets a token ask for, by crit
        raise TokenRefused("critical_header")
    # There is one secret, whatever a token calls it, and HS256 names none.
    kid = keys.SECRET_KID if conf.BETTER_AUTH_KEYS == "secret" else header.get("kid")
    if not isinstance(kid, str) or not ID.fullmatch(kid):
        raise TokenRefused("malformed_kid")
    key = keys.find(kid)
    if key is None:
        raise TokenRefused("unknown_kid", key_id=kid)
    if header.get("alg") != key.algorithm:
        raise TokenRefused("algorithm", key_id=kid)
    return key


@lru_cache(maxsize=16)  # all that a key signs begins with the same one
def _header(segment: str) -> dict[str, Any]:
    try:
        # As a token without the rest: PyJWT would decode that, too, and again below.
        return jwt.get_unverified_header(f"{segment}..")
    except jwt.PyJWTError as exc:
        raise TokenRefused("malformed") from exc


class _Decoder(jwt.PyJWT):
    """Decodes one token. ``verified_payload``: every claim; ``None`` until the signature is verified."""

    verified_payload: dict[str, Any] | None = None

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        """PyJWT's own hook. It runs after the signature is verified and before the claims are checked."""
        self.verified_payload = {}  # the signature is good even if this is no JSON
        self.verified_payload = super()._decode_payload(decoded)
        return self.verified_payload


_decoder = _Decoder()  # to copy: a new one would make all of PyJWT's algorithms again


def _payload(decoder: _Decoder, token: str, key: keys.Key) -> dict[str, Any]:
    try:
        payload: dict[str, Any] = decoder.decode(
            token,
            key.jwk,
            algorithms=[key.algorithm],
            issuer=conf.BETTER_AUTH_ISSUER,
            audience=conf.BETTER_AUTH_AUDIENCE,
            leeway=conf.BETTER_AUTH_LEEWAY,
            options={"require": REQUIRED},
        )
    except jwt.MissingRequiredClaimError as exc:
        raise TokenRefused(f"missing_{exc.claim}") from exc
    except jwt.PyJWTError as exc:
        raise TokenRefused(REASONS.get(type(exc), "malformed")) from exc
    return payload


def _claims(payload: dict[str, Any], key: keys.Key) -> Claims:
    for name in OAUTH_CLAIMS:
        if name in payload:
            raise TokenRefused("other_token_kind")
    subject, email, session_id = payload["sub"], payload["email"], payload.get("sid")
    if not ID.fullmatch(subject):
        raise TokenRefused("subject")
    if (
        not isinstance(email, str)
        or not email.strip()
        or len(email) > EMAIL_LENGTH
        or not email.isprintable()
    ):
        raise TokenRefused("email")
    if session_id is not None and not (isinstance(session_id, str) and ID.fullmatch(session_id)):
        raise TokenRefused("sid")
    return Claims(
        subject=subject,
        email=normalize_email(email),
        session_id=session_id,
        issued_at=_datetime(payload["iat"]),
        expires_at=_datetime(payload["exp"]),
        key_id=key.kid,
        algorithm=key.algorithm,
        payload=json.dumps(payload),
    )


def normalize_email(email: str) -> str:
    """As Better Auth stores it. It uses JavaScript's toLowerCase(), so lower() and not casefold()."""
    return email.strip().lower()


def _datetime(numeric_date: Any) -> datetime:
    # PyJWT takes "1" and true for numbers; RFC 7519 §2 (NumericDate) does not.
    if type(numeric_date) not in (int, float):
        raise TokenRefused("malformed_date")
    try:
        return datetime.fromtimestamp(numeric_date, UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise TokenRefused("malformed_date") from exc
