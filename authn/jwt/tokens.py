"""Verifies JWTs: our Better Auth issued the JWT for us, and it has not expired. Looks up no user."""

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

MAX_CACHED = 1024  # tokens; about as many as users who are active in the same minute
MAX_TOKEN_LENGTH = 8192  # characters; many proxies allow about 8 KB for all headers together
COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")

# Better Auth's ids are 32 letters and digits, a UUID, or a number. Only such ids may reach a query:
# PostgreSQL raises an error for a NUL character, and an attacker can choose the kid, which is used before the
# signature is verified.
ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
MAX_EMAIL_LENGTH = 320

REQUIRED = ["exp", "iat", "iss", "aud", "sub", "email"]
# Better Auth's oauth-provider plugin signs access tokens and id tokens with the same keys. Only these tokens
# have these claims.
OAUTH_CLAIMS = ("azp", "client_id", "scope")

REASON_OF_EXCEPTION: dict[type[Exception], str] = {
    jwt.ExpiredSignatureError: "expired",
    jwt.ImmatureSignatureError: "not_yet_valid",
    jwt.InvalidSignatureError: "signature",
    jwt.InvalidIssuerError: "issuer",
    jwt.InvalidAudienceError: "audience",
    InvalidSubjectError: "subject",
}


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a verified JWT.

    ``subject``: the user's id. ``email``: in lower case. ``*_at``: aware UTC. ``payload``: all claims, as
    JSON.
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
        """All claims. A new dict each time, because requests with the same JWT share this object."""
        claims: dict[str, Any] = json.loads(self.payload)
        return claims


# This also hides the variables in PyJWT's frames, which hold the token under other names.
@sensitive_variables()
def verify(token: str) -> Claims:
    """Check a Better Auth JWT (compact form) and return its claims.

    Raises ``TokenRefused`` if the JWT is not accepted. Raises ``Unavailable`` if no keys could be loaded.
    Source: better-auth packages/better-auth/src/plugins/jwt/sign.ts; RFC 7519, RFC 8725.
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


# The same token with the same key always has the same result, except for its expiry. ``verify`` checks the
# expiry again. An exception is not cached, so only accepted tokens are cached. Each refresh of the key set
# creates new Key objects, so entries from before the refresh are no longer used.
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
    # Better Auth keeps the row of an expired key, but never signs with an expired key. If a JWT was issued
    # after the key had expired, the key may be stolen.
    if key.expires_at is not None and claims.issued_at - conf.BETTER_AUTH_LEEWAY > key.expires_at:
        raise TokenRefused("key_retired")
    if claims.session_id is None and conf.BETTER_AUTH_REQUIRE_SID:
        raise TokenRefused("missing_sid")
    return claims


def _key(token: str) -> keys.Key:
    if len(token) > MAX_TOKEN_LENGTH:
        raise TokenRefused("too_long")
    if not COMPACT.fullmatch(token):
        raise TokenRefused("malformed")
    header = _header(token.partition(".")[0])
    # Better Auth's session caches, access tokens and logout tokens have another typ (RFC 8725 §3.11).
    if header.get("typ", "JWT") != "JWT":
        raise TokenRefused("type")
    if "b64" in header:  # the only crit extension that PyJWT supports
        raise TokenRefused("critical_header")
    # A secret needs no kid: there is only one, and most HS256 tokens have no kid.
    kid = keys.SECRET_KID if conf.BETTER_AUTH_KEYS == "secret" else header.get("kid")
    if not isinstance(kid, str) or not ID.fullmatch(kid):
        raise TokenRefused("malformed_kid")
    key = keys.find(kid)
    if key is None:
        raise TokenRefused("unknown_kid", key_id=kid)
    if header.get("alg") != key.algorithm:
        raise TokenRefused("algorithm", key_id=kid)
    return key


@lru_cache(maxsize=16)  # all tokens of one key have the same header
def _header(segment: str) -> dict[str, Any]:
    try:
        # Leave out the payload and the signature: PyJWT would decode both here, and again in ``_payload``.
        return jwt.get_unverified_header(f"{segment}..")
    except jwt.PyJWTError as exc:
        raise TokenRefused("malformed") from exc


class _Decoder(jwt.PyJWT):
    """Decodes one token. ``verified_payload``: all claims, or ``None`` until the signature is verified."""

    verified_payload: dict[str, Any] | None = None

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        """Keep the payload. PyJWT calls this after it verifies the signature, and then checks the claims."""
        self.verified_payload = {}  # if the payload is not JSON, this stays: the signature is verified
        self.verified_payload = super()._decode_payload(decoded)
        return self.verified_payload


_decoder = _Decoder()  # copied for each token: a new instance would create all of PyJWT's algorithms again


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
        raise TokenRefused(REASON_OF_EXCEPTION.get(type(exc), "malformed")) from exc
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
        or len(email) > MAX_EMAIL_LENGTH
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
    """Returns the email as Better Auth stores it.

    Better Auth uses JavaScript's toLowerCase(). Python's lower() does the same, and casefold() does not.
    """
    return email.strip().lower()


def _datetime(numeric_date: Any) -> datetime:
    # PyJWT accepts the string "1" and the JSON value true as numbers. RFC 7519 §2 (NumericDate) does not.
    if type(numeric_date) not in (int, float):
        raise TokenRefused("malformed_date")
    try:
        return datetime.fromtimestamp(numeric_date, UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise TokenRefused("malformed_date") from exc
