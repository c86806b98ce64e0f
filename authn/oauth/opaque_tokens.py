"""Looks up opaque access tokens of Better Auth's oauth-provider plugin.

Better Auth issues them to a client that names no resource, and to every client with ``disableJwtPlugin``. It
stores the SHA-256 of each token (its option ``storeTokens``).

Source: better-auth packages/oauth-provider/src/introspect.ts and src/utils/index.ts.
"""

import hashlib
import re
from typing import TYPE_CHECKING

from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from jwt.utils import base64url_encode

from authn import models
from authn.conf import conf
from authn.errors import TokenRefused, unavailable_on_outage
from authn.jwt import access_tokens
from authn.jwt.access_tokens import AccessToken

if TYPE_CHECKING:
    from authn.models import OAuthAccessToken

# Better Auth generates 32 letters. A team's own generator may use other characters, such as hyphens.
OPAQUE = re.compile(r"[A-Za-z0-9_~+/=-]{16,512}")


def is_opaque(value: str) -> bool:
    """Whether the value looks like an opaque token. A JWT has dots, and does not."""
    prefix = conf.BETTER_AUTH_OAUTH_TOKEN_PREFIX
    return value.startswith(prefix) and OPAQUE.fullmatch(value[len(prefix) :]) is not None


@sensitive_variables()
def look_up(value: str) -> "OAuthAccessToken":
    """Returns the row of a token, even if the token has expired or is revoked.

    Raises ``TokenRefused`` if there is none: the client may have invented the token.
    """
    secret = value.removeprefix(conf.BETTER_AUTH_OAUTH_TOKEN_PREFIX)
    token_hash = base64url_encode(hashlib.sha256(secret.encode()).digest()).decode()
    with unavailable_on_outage():
        row = models.OAuthAccessToken.with_hash(token_hash).first()
    if row is None:
        raise TokenRefused("unknown_access_token")
    return row


def verify(row: "OAuthAccessToken", resource: str) -> AccessToken:
    """Check the row of an access token for this resource. Raises ``TokenRefused``."""
    if row.revoked is not None:
        raise TokenRefused("revoked")
    if row.expires_at <= timezone.now():
        raise TokenRefused("expired")
    if row.resources:
        access_tokens.check_resources(row.resources, resource)
    elif conf.BETTER_AUTH_OAUTH_REQUIRE_RESOURCE:
        raise TokenRefused("no_resource")
    if row.confirmation not in (None, "null"):
        raise TokenRefused("sender_constrained")
    if row.user_id is None:
        raise TokenRefused("no_user")
    return AccessToken(row.user_id, row.client_id, frozenset(row.scopes), row.session_id, row.expires_at)
