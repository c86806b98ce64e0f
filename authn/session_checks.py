"""System checks of what callers show."""

import re
from typing import Any

from django.core.checks import CheckMessage, Error

from authn.authentication import CREDENTIALS
from authn.conf import conf

SIGNED = {"cookie", "bearer"}  # by Better Auth, with its secret
COOKIE_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 6265 §4.1.1
NEWEST_SECRET = re.compile(r" *\d+ *: *[^, ]")  # 2:new,1:old


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    each = (_credentials, _secret, _cookie_name)
    return [message for check in each for message in check()]


def _credentials() -> list[CheckMessage]:
    listed = conf.BETTER_AUTH_CREDENTIALS
    if listed and len(set(listed)) == len(listed) and set(listed) <= set(CREDENTIALS):
        return []
    return [
        Error(
            "BETTER_AUTH_CREDENTIALS does not say what callers may show.",
            hint=f"Write one or more of {', '.join(CREDENTIALS)}, each once; jwt is the default.",
            id="authn.E020",
        )
    ]


def _secret() -> list[CheckMessage]:
    if conf.BETTER_AUTH_SECRETS and not NEWEST_SECRET.match(conf.BETTER_AUTH_SECRETS):
        return [
            Error(
                "BETTER_AUTH_SECRETS is not written as Better Auth reads it.",
                hint="Write Better Auth's own value, the newest first: 2:new-secret,1:old-secret.",
                id="authn.E022",
            )
        ]
    if conf.BETTER_AUTH_SECRET or not SIGNED & set(conf.BETTER_AUTH_CREDENTIALS):
        return []
    return [
        Error(
            "BETTER_AUTH_SECRET is missing, and session tokens are verified with it.",
            hint="Write Better Auth's own secret, or leave cookie and bearer out of BETTER_AUTH_CREDENTIALS.",
            id="authn.E021",
        )
    ]


def _cookie_name() -> list[CheckMessage]:
    if COOKIE_NAME.fullmatch(conf.BETTER_AUTH_COOKIE_NAME.removeprefix("__Secure-")):
        return []
    return [
        Error(
            "BETTER_AUTH_COOKIE_NAME is no name of a cookie.",
            hint="Write it without __Secure-, such as better-auth.session_token.",
            id="authn.E024",
        )
    ]
