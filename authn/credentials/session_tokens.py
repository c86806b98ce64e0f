"""Verifies Better Auth's signed session tokens. Its session cookie and its bearer() plugin use them.

The form is ``<token>.<signature>``. The signature is the padded base64 of an HMAC-SHA256 over the token, with
Better Auth's secret as the key. The signature proves only that Better Auth issued the token. Only the
session's row shows whether the session is still active.

Source: better-call src/crypto.ts and src/context.ts, better-auth src/plugins/bearer/index.ts.
"""

import base64
import hmac
import re
from urllib.parse import unquote

from django.views.decorators.debug import sensitive_variables

from authn.conf import conf
from authn.errors import TokenRefused
from authn.jwt.signed import ID, MAX_TOKEN_LENGTH

SIGNED = re.compile(r"([!-~]+)\.([A-Za-z0-9+/]{43}=)")  # greedy, so it splits at the last dot


@sensitive_variables()
def verify(value: str) -> str:
    """Verify the signature, and return the token without it. Raises ``TokenRefused``.

    ``value``: a signed session token. It may be percent-encoded.
    """
    if len(value) > MAX_TOKEN_LENGTH:
        raise TokenRefused("too_long")
    signed = SIGNED.fullmatch(unquote(value))
    if signed is None:
        raise TokenRefused("malformed")
    token, signature = signed.groups()
    secret = conf.BETTER_AUTH_SECRET
    # Anybody can sign with an empty secret. The system checks also find an empty secret before the start.
    if not secret:
        raise TokenRefused("no_secret")
    expected = base64.b64encode(hmac.digest(secret.encode(), token.encode(), "sha256"))
    # Compare the text, not the decoded bytes: base64 can encode the same bytes in several ways.
    if not hmac.compare_digest(expected, signature.encode()):
        raise TokenRefused("signature")
    return token


@sensitive_variables()
def check_unsigned(value: str) -> str:
    """Return the token if it has the form of a token. Otherwise raise ``TokenRefused``.

    Without a signature, nothing proves that Better Auth issued the token.
    """
    if not ID.fullmatch(value):
        raise TokenRefused("malformed")
    return value
