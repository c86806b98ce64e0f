"""Checks of the settings for OAuth access tokens."""

import re

from django.core.checks import CheckMessage, Error

from authn.conf import conf, origin

PREFIX = re.compile(r"[A-Za-z0-9._~+/=-]{0,64}")  # the characters of a Bearer token (RFC 6750 §2.1)


def check_oauth_issuer() -> list[CheckMessage]:
    # If it follows from BETTER_AUTH_URL, the check of that setting reports it.
    if not conf.BETTER_AUTH_OAUTH_ISSUER or origin(conf.BETTER_AUTH_OAUTH_ISSUER):
        return []
    return [
        Error(
            "BETTER_AUTH_OAUTH_ISSUER is not the URL of an authorization server.",
            hint="Write the issuer in Better Auth's /.well-known/oauth-authorization-server, such as "
            "https://auth.example.com/api/auth, or leave it out.",
            id="authn.E033",
        )
    ]


def check_token_prefix() -> list[CheckMessage]:
    if PREFIX.fullmatch(conf.BETTER_AUTH_OAUTH_TOKEN_PREFIX):
        return []
    return [
        Error(
            "BETTER_AUTH_OAUTH_TOKEN_PREFIX cannot be the beginning of a token.",
            hint="Write the plugin's option prefix.opaqueAccessToken, such as acme_, or leave it out.",
            id="authn.E034",
        )
    ]


CHECKS = (check_oauth_issuer, check_token_prefix)
