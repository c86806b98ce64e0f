"""System checks: a wrong setting stops the start, and the hint says what to write."""

from datetime import timedelta
from typing import Any

from django.core.checks import CheckMessage, Error

from authn.conf import conf, origin

KEY_SOURCES = ("database", "jwks")
PLUGINS = ("admin",)
ALGORITHMS = ("EdDSA", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512")


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    return [message for check in (_url, _keys, _algorithms, _times, _plugins) for message in check()]


def _url() -> list[CheckMessage]:
    if origin(conf.BETTER_AUTH_URL):
        return []
    return [
        Error(
            "BETTER_AUTH_URL should be the address of Better Auth.",
            hint="Write Better Auth's own baseURL, such as https://auth.example.com.",
            id="authn.E001",
        )
    ]


def _keys() -> list[CheckMessage]:
    if conf.BETTER_AUTH_KEYS not in KEY_SOURCES:
        return [
            Error(
                "BETTER_AUTH_KEYS names no source of keys.",
                hint=f"Write one of {', '.join(KEY_SOURCES)}.",
                id="authn.E002",
            )
        ]
    if conf.BETTER_AUTH_KEYS == "jwks" and not origin(conf.BETTER_AUTH_JWKS_URL):
        return [
            Error(
                "BETTER_AUTH_JWKS_URL should be an http(s) address.",
                hint="Write Better Auth's JWKS address, such as https://auth.example.com/api/auth/jwks.",
                id="authn.E003",
            )
        ]
    return []


def _algorithms() -> list[CheckMessage]:
    if conf.BETTER_AUTH_ALGORITHMS and set(conf.BETTER_AUTH_ALGORITHMS) <= set(ALGORITHMS):
        return []
    return [
        Error(
            "BETTER_AUTH_ALGORITHMS should list signature algorithms with a public key.",
            # No HS*: a public key must never work as a secret.
            hint=f"Choose from {', '.join(ALGORITHMS)}.",
            id="authn.E004",
        )
    ]


def _times() -> list[CheckMessage]:
    zero = timedelta(0)
    try:
        shortest = min(conf.BETTER_AUTH_MAX_TOKEN_LIFETIME, conf.BETTER_AUTH_KEYS_TTL)
        is_good = zero <= conf.BETTER_AUTH_LEEWAY and zero < shortest
    except (ValueError, OverflowError):  # an environment variable may say "nan" or "inf"
        is_good = False
    if is_good:
        return []
    return [
        Error(
            "BETTER_AUTH_LEEWAY_SECONDS, BETTER_AUTH_MAX_TOKEN_LIFETIME_SECONDS or "
            "BETTER_AUTH_KEYS_TTL_SECONDS is out of range.",
            hint="Better Auth's tokens live 900 seconds; a leeway of 10 allows for two clocks.",
            id="authn.E005",
        )
    ]


def _plugins() -> list[CheckMessage]:
    unknown = sorted(set(conf.BETTER_AUTH_PLUGINS) - set(PLUGINS))
    if not unknown:
        return []
    return [
        Error(
            f"BETTER_AUTH_PLUGINS names what we do not read: {', '.join(unknown)}.",
            hint=f"Only plugins whose columns matter here belong in it: {', '.join(PLUGINS)}.",
            id="authn.E006",
        )
    ]
