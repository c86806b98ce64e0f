"""Verifies OAuth access tokens in the form of JWTs, as Better Auth issues them to MCP clients.

Better Auth signs them with the same keys as the JWTs of the jwt() plugin, but their ``typ`` is ``at+jwt``,
and each is issued for one resource. The chat endpoint accepts no access token (``authn.jwt.tokens``).
"""

import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from typing import Any

from django.views.decorators.debug import sensitive_variables

from authn.conf import conf
from authn.errors import TokenRefused
from authn.jwt import keys, signed

TYPES = ("at+jwt", "application/at+jwt")  # RFC 9068 §2.1
REQUIRED = ["exp", "iat", "iss", "aud", "sub", "jti", "scope"]

# A client that registers gets 32 letters as its id. A client with a metadata document has the document's URL.
CLIENT_ID = re.compile(r"[!-~]{1,1024}")
SCOPE = re.compile(r"[!#-\[\]-~]+")  # RFC 6749 §3.3
MAX_SCOPE_LENGTH = 4096  # characters of all scopes together


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A verified OAuth access token.

    ``subject``: the id of the user for whom the client acts. ``scopes``: what the user has allowed.
    ``session_id``: the session in which the user did so, or ``None``. ``expires_at``: aware UTC.
    ``key_id``, ``algorithm``: of the key that signed it. ``None`` if it is opaque.
    """

    subject: str
    client_id: str
    scopes: frozenset[str]
    session_id: str | None
    expires_at: datetime
    key_id: str | None = None
    algorithm: str | None = None


# This also hides the variables in PyJWT's frames, which hold the token under other names.
@sensitive_variables()
def verify(token: str, resource: str) -> AccessToken:
    """Check an access token (compact form) for this resource, and return what it says.

    Raises ``TokenRefused`` if the token is not accepted. Raises ``Unavailable`` if no keys could be loaded.
    Source: better-auth packages/oauth-provider/src/token.ts; RFC 9068.
    """
    return signed.verify(token, _check_type, partial(_verified, resource))


def check_resources(resources: list[str], resource: str) -> None:
    """Raise ``TokenRefused`` if a token for these resources is not only for this resource.

    A token that also names another API could be sent on to us by that API. Only the provider's own userinfo
    endpoint may be named too: Better Auth adds it if the user has allowed the scope ``openid``.
    """
    if resource not in resources:
        raise TokenRefused("audience")
    if not set(resources) <= {resource, conf.oauth_userinfo_url}:
        raise TokenRefused("other_audience")


def _check_type(typ: Any) -> None:
    if typ == "JWT":
        raise TokenRefused("not_an_access_token")
    if typ not in TYPES:
        raise TokenRefused("type")


@lru_cache(maxsize=signed.MAX_CACHED)  # an exception is not cached, so only accepted tokens are cached
def _verified(resource: str, token: str, key: keys.Key) -> AccessToken:
    return signed.read(
        token,
        key,
        partial(_access_token, resource),
        issuer=conf.BETTER_AUTH_OAUTH_ISSUER,
        audience=[resource],
        required=REQUIRED,
    )


def _access_token(resource: str, payload: dict[str, Any], key: keys.Key) -> AccessToken:
    audience = payload["aud"]
    check_resources([audience] if isinstance(audience, str) else audience, resource)
    subject, client_id, scopes = signed.subject(payload), _client_id(payload), _scopes(payload)
    session_id = signed.session_id(payload)
    if not signed.ID.fullmatch(payload["jti"]):
        raise TokenRefused("jti")
    # RFC 9449 §6, RFC 8705 §3: only a request with a proof of the client's key may use such a token. We check
    # no proofs, and without one the token may be stolen.
    if "cnf" in payload:
        raise TokenRefused("sender_constrained")
    # A token of the grant client_credentials has the client's id in place of a user's id.
    if subject == client_id:
        raise TokenRefused("no_user")
    _, expires_at = signed.dates(payload, key)
    return AccessToken(subject, client_id, scopes, session_id, expires_at, key.kid, key.algorithm)


def _client_id(payload: dict[str, Any]) -> str:
    """Returns the client's id. Better Auth writes it into ``client_id`` and ``azp``."""
    given = [payload[name] for name in ("client_id", "azp") if payload.get(name) is not None]
    if not given:
        raise TokenRefused("missing_client_id")
    client_id = given[0]
    if not isinstance(client_id, str) or not CLIENT_ID.fullmatch(client_id) or given[-1] != client_id:
        raise TokenRefused("client_id")
    return client_id


def _scopes(payload: dict[str, Any]) -> frozenset[str]:
    scope = payload["scope"]
    if not isinstance(scope, str) or len(scope) > MAX_SCOPE_LENGTH:
        raise TokenRefused("scope")
    scopes = scope.split(" ") if scope else []
    if not all(map(SCOPE.fullmatch, scopes)):
        raise TokenRefused("scope")
    return frozenset(scopes)
