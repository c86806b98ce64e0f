"""Checks of the settings for credentials: which are accepted, the secret, the cookie, the session source."""

import re

from django.core.checks import CheckMessage, Error

from authn.authentication import CREDENTIALS
from authn.conf import conf

SESSION_TOKEN_CREDENTIALS = {"cookie", "bearer"}  # signed with Better Auth's secret
COOKIE_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 6265 §4.1.1
NEWEST_SECRET = re.compile(r" *\d+ *: *[^, ]")  # 2:new,1:old
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


def check_credentials() -> list[CheckMessage]:
    enabled = conf.BETTER_AUTH_CREDENTIALS
    if enabled and len(set(enabled)) == len(enabled) and set(enabled) <= set(CREDENTIALS):
        return []
    return [
        Error(
            "BETTER_AUTH_CREDENTIALS is not a list of credentials.",
            hint=f"Write one or more of {', '.join(CREDENTIALS)}, each once. The default is jwt.",
            id="authn.E020",
        )
    ]


def check_secret() -> list[CheckMessage]:
    if conf.BETTER_AUTH_SECRETS and not NEWEST_SECRET.match(conf.BETTER_AUTH_SECRETS):
        return [
            Error(
                "BETTER_AUTH_SECRETS is not in Better Auth's format.",
                hint="Write Better Auth's own value, the newest first: 2:new-secret,1:old-secret.",
                id="authn.E022",
            )
        ]
    if conf.BETTER_AUTH_SECRET or not SESSION_TOKEN_CREDENTIALS & set(conf.BETTER_AUTH_CREDENTIALS):
        return []
    return [
        Error(
            "BETTER_AUTH_SECRET is missing. Session tokens are verified with it.",
            hint="Write Better Auth's own secret, or remove cookie and bearer from BETTER_AUTH_CREDENTIALS.",
            id="authn.E021",
        )
    ]


def check_cookie_name() -> list[CheckMessage]:
    if COOKIE_NAME.fullmatch(conf.BETTER_AUTH_COOKIE_NAME.removeprefix("__Secure-")):
        return []
    return [
        Error(
            "BETTER_AUTH_COOKIE_NAME is not a valid cookie name.",
            hint="Write it without __Secure-, such as better-auth.session_token.",
            id="authn.E024",
        )
    ]


def check_session_source() -> list[CheckMessage]:
    source = conf.BETTER_AUTH_SESSION_SOURCE
    if source == "database" or (source.startswith(REDIS_SCHEMES) and _is_redis_url(source)):
        return []
    return [
        Error(
            "BETTER_AUTH_SESSION_SOURCE is neither database nor the URL of a Redis.",
            hint="Write database, or the URL of Better Auth's secondaryStorage: redis://…, rediss://… or "
            "unix://….",
            id="authn.E023",
        )
    ]


def _is_redis_url(url: str) -> bool:
    # Imported here because it loads the Redis client, which few deployments need. In these, the check at the
    # start loads it, so no request has to.
    from authn.credentials import secondary_storage

    try:
        return secondary_storage.is_redis_url(url)
    except ImportError:  # check_packages reports it
        return True


REALM = re.compile(r"[ !#-\[\]-~]*")  # the text of a quoted-string without escapes (RFC 9110 §5.6.4)


def check_realm() -> list[CheckMessage]:
    if REALM.fullmatch(conf.BETTER_AUTH_REALM):
        return []
    return [
        Error(
            "BETTER_AUTH_REALM cannot be written into a header.",
            hint="Write letters, digits and spaces, such as the name of your API. Use no quotation marks.",
            id="authn.E026",
        )
    ]


CHECKS = (check_credentials, check_secret, check_cookie_name, check_session_source, check_realm)
