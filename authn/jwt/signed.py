"""What all JWTs of Better Auth have in common: their form, header, key, signature and times.

``authn.jwt.tokens`` and ``authn.jwt.access_tokens`` verify two kinds of JWTs with it. Each says which ``typ``
it accepts, and reads the claims of its kind. So no token of one kind passes for the other.
"""

import re
from collections.abc import Callable, Sequence
from copy import copy
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import jwt
from jwt.exceptions import InvalidSubjectError

from authn.conf import conf
from authn.errors import TokenRefused
from authn.jwt import keys

MAX_CACHED = 1024  # tokens of a kind; about as many as users who are active in the same minute
MAX_TOKEN_LENGTH = 8192  # characters; many proxies allow about 8 KB for all headers together
COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")

# Better Auth's ids are 32 letters and digits, a UUID, or a number. Only such ids may reach a query:
# PostgreSQL raises an error for a NUL character, and an attacker can choose the kid, which is used before the
# signature is verified.
ID = re.compile(r"[A-Za-z0-9_-]{1,128}")

REASON_OF_EXCEPTION: dict[type[Exception], str] = {
    jwt.ExpiredSignatureError: "expired",
    jwt.ImmatureSignatureError: "not_yet_valid",
    jwt.InvalidSignatureError: "signature",
    jwt.InvalidIssuerError: "issuer",
    jwt.InvalidAudienceError: "audience",
    InvalidSubjectError: "subject",
}


class Verified(Protocol):
    """The claims of a verified JWT."""

    @property
    def subject(self) -> str: ...
    @property
    def session_id(self) -> str | None: ...
    @property
    def expires_at(self) -> datetime: ...


V = TypeVar("V", bound=Verified)


def verify(token: str, check_type: Callable[[Any], None], verified: Callable[[str, keys.Key], V]) -> V:
    """Check a JWT (compact form) and return its claims. The caller hides its variables from error reports.

    ``check_type``: raises ``TokenRefused`` if a JWT with this ``typ`` is of another kind. A header without
    ``typ`` counts as "JWT".
    ``verified``: calls ``read``. It may cache the result: the same token with the same key always has the
    same result, except for its expiry, and this function checks the expiry again. Each refresh of the key set
    creates new Key objects, so entries from before the refresh are no longer used.

    Raises ``TokenRefused`` if the JWT is not accepted. Raises ``Unavailable`` if no keys could be loaded.
    """
    key = _key(token, check_type)
    try:
        claims = verified(token, key)
        if claims.expires_at + conf.BETTER_AUTH_LEEWAY <= datetime.now(UTC):
            expired = TokenRefused("expired")
            expired.verified_payload = {"sub": claims.subject, "sid": claims.session_id}
            raise expired
    except TokenRefused as refused:
        refused.key_id, refused.algorithm = key.kid, key.algorithm
        raise
    return claims


def read(
    token: str,
    key: keys.Key,
    to_claims: Callable[[dict[str, Any], keys.Key], V],
    *,
    issuer: str,
    audience: Sequence[str],
    required: list[str],
) -> V:
    """Verify the signature and the claims that every kind has, and return what ``to_claims`` returns."""
    decoder = copy(_decoder)
    try:
        try:
            payload: dict[str, Any] = decoder.decode(
                token,
                key.jwk,
                algorithms=[key.algorithm],
                issuer=issuer,
                audience=audience,
                leeway=conf.BETTER_AUTH_LEEWAY,
                options={"require": required},
            )
        except jwt.MissingRequiredClaimError as exc:
            raise TokenRefused(f"missing_{exc.claim}") from exc
        except jwt.PyJWTError as exc:
            raise TokenRefused(REASON_OF_EXCEPTION.get(type(exc), "malformed")) from exc
        return to_claims(payload, key)
    except TokenRefused as refused:
        refused.verified_payload = decoder.verified_payload
        raise


def subject(payload: dict[str, Any]) -> str:
    """Returns the user's id. Raises ``TokenRefused`` if ``sub`` is no id."""
    found: str = payload["sub"]
    if not ID.fullmatch(found):
        raise TokenRefused("subject")
    return found


def session_id(payload: dict[str, Any]) -> str | None:
    """Returns ``sid``, or ``None`` if there is none. Raises ``TokenRefused`` if it is no id."""
    found = payload.get("sid")
    if found is not None and not (isinstance(found, str) and ID.fullmatch(found)):
        raise TokenRefused("sid")
    return found


def dates(payload: dict[str, Any], key: keys.Key) -> tuple[datetime, datetime]:
    """Returns ``iat`` and ``exp`` as aware UTC, if they are within our limits."""
    issued_at, expires_at = _datetime(payload["iat"]), _datetime(payload["exp"])
    if not timedelta(0) < expires_at - issued_at <= conf.BETTER_AUTH_MAX_TOKEN_LIFETIME:
        raise TokenRefused("lifetime")
    # Better Auth keeps the row of an expired key, but never signs with an expired key. If a JWT was issued
    # after the key had expired, the key may be stolen.
    if key.expires_at is not None and issued_at - conf.BETTER_AUTH_LEEWAY > key.expires_at:
        raise TokenRefused("key_retired")
    return issued_at, expires_at


def _key(token: str, check_type: Callable[[Any], None]) -> keys.Key:
    if len(token) > MAX_TOKEN_LENGTH:
        raise TokenRefused("too_long")
    if not COMPACT.fullmatch(token):
        raise TokenRefused("malformed")
    header = _header(token.partition(".")[0])
    # Better Auth's session caches, access tokens and logout tokens have a typ of their own (RFC 8725 §3.11).
    check_type(header.get("typ", "JWT"))
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


@lru_cache(maxsize=16)  # all tokens of one key and one kind have the same header
def _header(segment: str) -> dict[str, Any]:
    try:
        # Leave out the payload and the signature: PyJWT would decode both here, and again in ``read``.
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


def _datetime(numeric_date: Any) -> datetime:
    # PyJWT accepts the string "1" and the JSON value true as numbers. RFC 7519 §2 (NumericDate) does not.
    if type(numeric_date) not in (int, float):
        raise TokenRefused("malformed_date")
    try:
        return datetime.fromtimestamp(numeric_date, UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise TokenRefused("malformed_date") from exc
