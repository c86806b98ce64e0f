"""Verifies Better Auth's session token, which its cookie and its bearer() plugin carry.

The form is ``<token>.<signature>``. The signature is the padded base64 of an HMAC-SHA256 over the token, with
Better Auth's secret as the key. It proves only that Better Auth issued the token. The session's row shows
whether the session is still active.
Source: better-call src/crypto.ts and src/context.ts, better-auth src/plugins/bearer/index.ts.
"""

import base64
import hmac
import re
from urllib.parse import unquote

from django.views.decorators.debug import sensitive_variables

from authn.conf import conf
from authn.errors import TokenRefused
from authn.jwt.tokens import ID, MAX_TOKEN_LENGTH

SIGNED = re.compile(r"([!-~]+)\.([A-Za-z0-9+/]{43}=)")  # greedy, so it splits at the last dot


@sensitive_variables()
def verify(value: str) -> str:
    """The token in a signed value, which may be percent-encoded. Raises ``TokenRefused``."""
    if len(value) > MAX_TOKEN_LENGTH:
        raise TokenRefused("too_long")
    signed = SIGNED.fullmatch(unquote(value))
    if signed is None:
        raise TokenRefused("malformed")
    token, signature = signed.groups()
    secret = conf.BETTER_AUTH_SECRET
    if not secret:  # anybody can sign with an empty secret; the system checks find this before the start
        raise TokenRefused("no_secret")
    expected = base64.b64encode(hmac.digest(secret.encode(), token.encode(), "sha256"))
    # Compare the text, not the decoded bytes: base64 can encode the same bytes in several ways.
    if not hmac.compare_digest(expected, signature.encode()):
        raise TokenRefused("signature")
    return token


@sensitive_variables()
def check_unsigned(value: str) -> str:
    """A token without a signature, if it has a token's form. Nothing proves that Better Auth issued it."""
    if not ID.fullmatch(value):
        raise TokenRefused("malformed")
    return value
