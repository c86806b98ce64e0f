"""Better Auth's own session token, as its cookie and its bearer() plugin carry it: is it one we gave out?

``<token>.<signature>``, where the signature is the padded base64 of an HMAC-SHA256 over the token with
Better Auth's secret. It proves the origin alone: the session's row decides whether it still lives.
Source: better-call src/crypto.ts and src/context.ts, better-auth src/plugins/bearer/index.ts.
"""

import base64
import hmac
import re
from urllib.parse import unquote

from django.views.decorators.debug import sensitive_variables

from authn.conf import conf
from authn.errors import TokenRefused
from authn.jwt.tokens import ID, MAX_LENGTH

SIGNED = re.compile(r"([!-~]+)\.([A-Za-z0-9+/]{43}=)")  # greedy: split at the last dot


@sensitive_variables()
def verify(value: str) -> str:
    """The token in a signed value, percent-encoded or not. Raises ``TokenRefused``."""
    if len(value) > MAX_LENGTH:
        raise TokenRefused("too_long")
    signed = SIGNED.fullmatch(unquote(value))
    if signed is None:
        raise TokenRefused("malformed")
    token, signature = signed.groups()
    secret = conf.BETTER_AUTH_SECRET
    if not secret:  # anybody could sign with the empty one; a project that runs no system checks gets here
        raise TokenRefused("no_secret")
    ours = base64.b64encode(hmac.digest(secret.encode(), token.encode(), "sha256"))
    # The text is compared and not what it decodes to: base64 has several spellings of the same bytes.
    if not hmac.compare_digest(ours, signature.encode()):
        raise TokenRefused("signature")
    return token


@sensitive_variables()
def bare(value: str) -> str:
    """The token without a signature, when it has the shape of one; nothing proves that it is ours."""
    if not ID.fullmatch(value):
        raise TokenRefused("malformed")
    return value
