"""System checks: a wrong setting stops the start, and the hint says what to write."""

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import jwt
from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.checks import CheckMessage, Error
from django.db import router

from authn import throttling
from authn.conf import conf, origin
from authn.models import PLUGINS, Session, SigningKey, User
from authn.tables import naming

MAX_LEEWAY = timedelta(minutes=5)  # between two clocks; more would keep expired tokens alive
YEAR = timedelta(days=365)
MOST_PROXIES = 10
KEY_SOURCES = ("database", "jwks", "secret")
SECRET_LENGTH = 32  # characters; RFC 7518 §3.2 asks for a key as long as the hash
ALGORITHMS = ("EdDSA", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512")


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    identity = (_url, _keys, _algorithms, _times, _plugins, _names, _database, _time_zone)
    limits = (_proxies, _refusals, _cache)
    return [message for check in identity + limits for message in check()]


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
    is_https = conf.BETTER_AUTH_JWKS_URL.startswith("https://")
    if conf.BETTER_AUTH_KEYS == "jwks" and not is_https and not conf.BETTER_AUTH_JWKS_PRIVATE:
        return [
            Error(
                "BETTER_AUTH_JWKS_URL is not https: whoever is on the way could put in keys of their own.",
                hint="Write https, or BETTER_AUTH_JWKS_PRIVATE=True for an address in your own network.",
                id="authn.E013",
            )
        ]
    if conf.BETTER_AUTH_KEYS == "secret" and not _is_secret(conf.BETTER_AUTH_SECRET):
        return [
            Error(
                "BETTER_AUTH_SECRET is too short to verify tokens with, or is a key that others may know.",
                hint=f"Write the secret that signs the tokens, {SECRET_LENGTH} characters or more.",
                id="authn.E007",
            )
        ]
    return []


def _is_secret(secret: str) -> bool:
    try:  # everybody may have a public key, and with one that is taken for a secret could sign tokens
        jwt.get_algorithm_by_name("HS256").prepare_key(secret)
    except jwt.InvalidKeyError:
        return False
    return len(secret) >= SECRET_LENGTH


def _algorithms() -> list[CheckMessage]:
    # HS256 alone or not at all: a public key must never work as a secret.
    allowed = ["HS256"] if conf.BETTER_AUTH_KEYS == "secret" else ALGORITHMS
    if set(conf.BETTER_AUTH_ALGORITHMS) <= set(allowed):
        return []
    return [
        Error(
            f"BETTER_AUTH_ALGORITHMS names what does not go with BETTER_AUTH_KEYS={conf.BETTER_AUTH_KEYS}.",
            hint=f"Choose from {', '.join(allowed)}, or leave it out.",
            id="authn.E004",
        )
    ]


def _times() -> list[CheckMessage]:
    zero = timedelta(0)
    try:
        others = (conf.BETTER_AUTH_MAX_TOKEN_LIFETIME, conf.BETTER_AUTH_KEYS_TTL)
        is_good = zero <= conf.BETTER_AUTH_LEEWAY <= MAX_LEEWAY and zero < min(others) <= max(others) <= YEAR
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


def _names() -> list[CheckMessage]:
    faults: list[CheckMessage] = []
    if conf.BETTER_AUTH_NAMING not in ("camel", "snake"):
        faults.append(
            Error(
                "BETTER_AUTH_NAMING is neither camel nor snake.",
                hint="Drizzle's columns are snake (expires_at), Kysely's and Prisma's camel (expiresAt).",
                id="authn.E008",
            )
        )
    known = {"BETTER_AUTH_TABLES": set(naming.MODELS), "BETTER_AUTH_COLUMNS": naming.fields}
    for setting, names in known.items():
        for name, given in getattr(conf, setting).items():
            if name in names and (given or name in naming.LATECOMERS) and '"' not in given:
                continue
            faults.append(
                Error(
                    f"{setting} does not say what {name} is called, or we read no such thing.",
                    hint=f"Write name=what it is called; the names are {', '.join(sorted(names))}.",
                    id="authn.E009",
                )
            )
    return faults


def _database() -> list[CheckMessage]:
    alias = settings.DATABASES[conf.BETTER_AUTH_DATABASE]
    engine = alias.get("ENGINE", "").rpartition(".")[2]
    if fault := conf.DATABASE_FAULTS.get("BETTER_AUTH_DATABASE_URL"):
        return [Error(fault[0], hint=fault[1], id="authn.E017")]
    # The project checks the default database. A second connection to it, which only has another time zone,
    # uses the same variable.
    is_own = conf.BETTER_AUTH_DATABASE != "default" and "DATABASE_URL" not in conf.DATABASE_FAULTS
    if is_own and (engine not in ("postgresql", "sqlite3") or not alias.get("NAME")):
        return [
            Error(
                "BETTER_AUTH_DATABASE_URL names no database of PostgreSQL or SQLite.",
                hint="Write an address such as postgresql://reader:password@localhost:5432/name "
                "or sqlite:////srv/auth.db.",
                id="authn.E011",
            )
        ]
    if any(router.db_for_read(model) != conf.BETTER_AUTH_DATABASE for model in (User, Session, SigningKey)):
        return [
            Error(
                "DATABASE_ROUTERS sends the reads of Better Auth's tables elsewhere.",
                hint="Put authn.tables.routers.BetterAuthRouter first: "
                "a replica would know a session too late.",
                id="authn.E012",
            )
        ]
    return []


def _time_zone() -> list[CheckMessage]:
    name = settings.DATABASES[conf.BETTER_AUTH_DATABASE].get("TIME_ZONE")
    try:
        ZoneInfo("UTC" if name is None else name)
    except (ValueError, OSError, KeyError):
        return [
            Error(
                f"BETTER_AUTH_TIME_ZONE={name} is no time zone.",
                hint="Write the zone of the Node process that fills columns without a zone: Asia/Kolkata.",
                id="authn.E010",
            )
        ]
    return []


def _proxies() -> list[CheckMessage]:
    if 0 <= conf.NUM_PROXIES <= MOST_PROXIES:
        return []
    return [
        Error(
            "NUM_PROXIES is no number of proxies.",
            hint="Write how many of your own stand in front, such as 1; 0 without any.",
            id="authn.E014",
        )
    ]


def _refusals() -> list[CheckMessage]:
    try:
        throttling.rate(conf.REFUSED_RATE_PER_ADDRESS)
    except ValueError:
        return [
            Error(
                "REFUSED_RATE_PER_ADDRESS is no rate.",
                hint="Write a number and a period: 60/min (s, min, hour, day).",
                id="authn.E015",
            )
        ]
    return []


def _cache() -> list[CheckMessage]:
    """Refuse a cache that inherits Django's default ``incr``. It reads a number and writes it back with the
    cache's default timeout. So two requests at once count as one, and each refused attempt restarts the
    period."""
    if type(caches["default"]).incr is not BaseCache.incr:
        return []
    return [
        Error(
            "CACHE_URL names a cache that cannot count refused attempts.",
            hint="Write the address of a Redis or Memcached, or locmemcache:// to count in each process.",
            id="authn.E016",
        )
    ]
