"""Verifies JWTs of the jwt() plugin: our Better Auth issued the JWT for us, and it has not expired.

Looks up no user.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.views.decorators.debug import sensitive_variables

from authn.conf import conf
from authn.errors import TokenRefused
from authn.jwt import keys, signed

MAX_EMAIL_LENGTH = 320

REQUIRED = ["exp", "iat", "iss", "aud", "sub", "email"]
# Better Auth's oauth-provider plugin signs access tokens and id tokens with the same keys. Only these tokens
# have these claims.
OAUTH_CLAIMS = ("azp", "client_id", "scope")


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
    return signed.verify(token, _check_type, _verified)


def _check_type(typ: Any) -> None:
    if typ != "JWT":
        raise TokenRefused("type")


@lru_cache(maxsize=signed.MAX_CACHED)  # an exception is not cached, so only accepted tokens are cached
def _verified(token: str, key: keys.Key) -> Claims:
    return signed.read(
        token,
        key,
        _claims,
        issuer=conf.BETTER_AUTH_ISSUER,
        audience=conf.BETTER_AUTH_AUDIENCE,
        required=REQUIRED,
    )


def _claims(payload: dict[str, Any], key: keys.Key) -> Claims:
    for name in OAUTH_CLAIMS:
        if name in payload:
            raise TokenRefused("other_token_kind")
    subject, email = signed.subject(payload), payload["email"]
    if (
        not isinstance(email, str)
        or not email.strip()
        or len(email) > MAX_EMAIL_LENGTH
        or not email.isprintable()
    ):
        raise TokenRefused("email")
    session_id = signed.session_id(payload)
    issued_at, expires_at = signed.dates(payload, key)
    if session_id is None and conf.BETTER_AUTH_REQUIRE_SID:
        raise TokenRefused("missing_sid")
    return Claims(
        subject=subject,
        email=normalize_email(email),
        session_id=session_id,
        issued_at=issued_at,
        expires_at=expires_at,
        key_id=key.kid,
        algorithm=key.algorithm,
        payload=json.dumps(payload),
    )


def normalize_email(email: str) -> str:
    """Returns the email as Better Auth stores it.

    Better Auth uses JavaScript's toLowerCase(). Python's lower() does the same, and casefold() does not.
    """
    return email.strip().lower()
