"""Checks of the settings that verify JWTs: Better Auth's URL, its keys, algorithms and times."""

from datetime import timedelta

import jwt
from django.core.checks import CheckMessage, Error

from authn.conf import conf, origin

# An expired JWT is still accepted during the leeway. Two clocks that are kept right differ by much less.
MAX_LEEWAY = timedelta(minutes=5)
MAX_DURATION = timedelta(days=365)
KEY_SOURCES = ("database", "jwks", "secret")
MIN_SECRET_LENGTH = 32  # characters; RFC 7518 §3.2: a key at least as long as the hash
ALGORITHMS = ("EdDSA", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512")


def check_url() -> list[CheckMessage]:
    if origin(conf.BETTER_AUTH_URL):
        return []
    return [
        Error(
            "BETTER_AUTH_URL is not the URL of Better Auth.",
            hint="Write Better Auth's own baseURL, such as https://auth.example.com.",
            id="authn.E001",
        )
    ]


def check_keys() -> list[CheckMessage]:
    if conf.BETTER_AUTH_KEYS not in KEY_SOURCES:
        return [
            Error(
                "BETTER_AUTH_KEYS is not a source of keys.",
                hint=f"Write one of {', '.join(KEY_SOURCES)}.",
                id="authn.E002",
            )
        ]
    if conf.BETTER_AUTH_KEYS == "jwks" and not origin(conf.BETTER_AUTH_JWKS_URL):
        return [
            Error(
                "BETTER_AUTH_JWKS_URL is not an http(s) URL.",
                hint="Write Better Auth's JWKS URL, such as https://auth.example.com/api/auth/jwks.",
                id="authn.E003",
            )
        ]
    is_https = conf.BETTER_AUTH_JWKS_URL.startswith("https://")
    if conf.BETTER_AUTH_KEYS == "jwks" and not is_https and not conf.BETTER_AUTH_JWKS_PRIVATE:
        return [
            Error(
                "BETTER_AUTH_JWKS_URL is not https. An attacker on the network could send other keys.",
                hint="Write https, or BETTER_AUTH_JWKS_PRIVATE=True for a server in your own network.",
                id="authn.E013",
            )
        ]
    if conf.BETTER_AUTH_KEYS == "secret" and not _is_secret(conf.BETTER_AUTH_SECRET):
        return [
            Error(
                "BETTER_AUTH_SECRET is too short to verify tokens with, or it is a public key.",
                hint=f"Write the secret that signs the tokens: at least {MIN_SECRET_LENGTH} characters.",
                id="authn.E007",
            )
        ]
    return []


def _is_secret(secret: str) -> bool:
    # PyJWT refuses a public key in prepare_key. If a public key were the secret, anybody could sign tokens.
    try:
        jwt.get_algorithm_by_name("HS256").prepare_key(secret)
    except jwt.InvalidKeyError:
        return False
    return len(secret) >= MIN_SECRET_LENGTH


def check_algorithms() -> list[CheckMessage]:
    # HS256 is never mixed with others: a public key must not work as a secret.
    allowed = ["HS256"] if conf.BETTER_AUTH_KEYS == "secret" else ALGORITHMS
    if set(conf.BETTER_AUTH_ALGORITHMS) <= set(allowed):
        return []
    return [
        Error(
            "BETTER_AUTH_ALGORITHMS has an algorithm that cannot be used with "
            f"BETTER_AUTH_KEYS={conf.BETTER_AUTH_KEYS}.",
            hint=f"Choose from {', '.join(allowed)}, or leave it out.",
            id="authn.E004",
        )
    ]


def check_times() -> list[CheckMessage]:
    zero = timedelta(0)
    try:
        durations = (conf.BETTER_AUTH_MAX_TOKEN_LIFETIME, conf.BETTER_AUTH_KEYS_TTL)
        is_valid = (
            zero <= conf.BETTER_AUTH_LEEWAY <= MAX_LEEWAY
            and zero < min(durations) <= max(durations) <= MAX_DURATION
        )
    except (ValueError, OverflowError):  # an environment variable may be "nan" or "inf"
        is_valid = False
    if is_valid:
        return []
    return [
        Error(
            "BETTER_AUTH_LEEWAY_SECONDS, BETTER_AUTH_MAX_TOKEN_LIFETIME_SECONDS or "
            "BETTER_AUTH_KEYS_TTL_SECONDS is out of range.",
            hint="Better Auth's tokens are valid for 900 seconds. A leeway of 10 allows for two clocks.",
            id="authn.E005",
        )
    ]


CHECKS = (check_url, check_keys, check_algorithms, check_times)
