"""Better Auth's settings, typed."""

import re
from datetime import timedelta
from functools import cached_property
from typing import Any, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.core.signals import setting_changed

DEFAULT_PORTS = {"http": 80, "https": 443}
PUBLIC_KEY_ALGORITHMS = ["EdDSA", "ES256", "ES512", "PS256", "RS256"]  # those Better Auth documents
HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f.]*:[0-9a-f:.]+")  # a name (others than ASCII as xn--), or IPv6


class CachedSettings:
    """Keeps its ``cached_property``s until a setting changes, which only tests do."""

    def __init__(self) -> None:
        setting_changed.connect(self._forget)

    def _forget(self, **_: Any) -> None:
        vars(self).clear()


class Conf(CachedSettings):
    @cached_property
    def BETTER_AUTH_URL(self) -> str:
        """Better Auth's ``baseURL``, with or without a path."""
        return cast(str, _setting("BETTER_AUTH_URL", ""))

    @cached_property
    def BETTER_AUTH_ISSUER(self) -> str:
        """``iss``, compared to the letter. Better Auth's default is the origin of its baseURL."""
        return cast(str, _setting("BETTER_AUTH_ISSUER", "")) or origin(self.BETTER_AUTH_URL)

    @cached_property
    def BETTER_AUTH_AUDIENCE(self) -> list[str]:
        """``aud`` must name one of these. Better Auth's default is the origin of its baseURL."""
        audiences: list[str] = _setting("BETTER_AUTH_AUDIENCE", [])
        return audiences or [origin(self.BETTER_AUTH_URL)]

    @cached_property
    def BETTER_AUTH_CREDENTIALS(self) -> list[str]:
        """What a caller may show: ``jwt``, ``cookie``, ``bearer`` (``authn.authentication.CREDENTIALS``)."""
        return cast(list[str], _setting("BETTER_AUTH_CREDENTIALS", ["jwt"]))

    @cached_property
    def BETTER_AUTH_SECURE_COOKIES(self) -> bool:
        """Better Auth's ``advanced.useSecureCookies``. Its default is whether the baseURL is https."""
        is_https = origin(self.BETTER_AUTH_URL).startswith("https:")
        return bool(_setting("BETTER_AUTH_SECURE_COOKIES", is_https))

    @cached_property
    def BETTER_AUTH_COOKIE_NAME(self) -> str:
        """The session cookie's whole name, with ``__Secure-`` if it has that prefix."""
        name = cast(str, _setting("BETTER_AUTH_COOKIE_NAME", "better-auth.session_token"))
        if self.BETTER_AUTH_SECURE_COOKIES and not name.startswith("__Secure-"):
            return f"__Secure-{name}"
        return name

    @cached_property
    def BETTER_AUTH_COOKIE_ORIGINS(self) -> set[str]:
        """Whose pages may send it: those that CORS lets in, and Better Auth's own. Never ``null``, which
        anybody's sandboxed frame can send."""
        pages: list[str] = _setting("CORS_ALLOWED_ORIGINS", [])
        return {origin(page) for page in [self.BETTER_AUTH_URL, *pages]} - {""}

    @cached_property
    def BETTER_AUTH_BEARER_REQUIRE_SIGNATURE(self) -> bool:
        """Off: the bare ``session.token`` is let in as well, so whoever reads a row or a log line is."""
        return bool(_setting("BETTER_AUTH_BEARER_REQUIRE_SIGNATURE", True))

    @cached_property
    def BETTER_AUTH_SESSION_SOURCE(self) -> str:
        """Where sessions are: ``database``, or the address of the Redis that is the only one to have them."""
        return cast(str, _setting("BETTER_AUTH_SESSION_SOURCE", "database"))

    @cached_property
    def BETTER_AUTH_SESSION_PREFIX(self) -> str:
        """What Better Auth's keys in that Redis begin with."""
        return cast(str, _setting("BETTER_AUTH_SESSION_PREFIX", ""))

    @cached_property
    def BETTER_AUTH_KEYS(self) -> str:
        """What tokens are verified with: ``database`` (the jwks table), ``jwks`` (a URL) or ``secret``."""
        return cast(str, _setting("BETTER_AUTH_KEYS", "database"))

    @cached_property
    def BETTER_AUTH_SECRET(self) -> str:
        """Better Auth's own secret; read only where a setting makes something depend on it.

        Of several the first: Better Auth neither signs nor accepts a cookie by another, and an old
        secret is often old because somebody else has it.
        """
        newest, _, _ = self.BETTER_AUTH_SECRETS.partition(",")
        return newest.partition(":")[2].strip() or cast(str, _setting("BETTER_AUTH_SECRET", ""))

    @cached_property
    def BETTER_AUTH_SECRETS(self) -> str:
        """Better Auth's own variable of that name, where secrets are rotated: ``2:new,1:old``."""
        return cast(str, _setting("BETTER_AUTH_SECRETS", ""))

    @cached_property
    def BETTER_AUTH_JWKS_URL(self) -> str:
        """Where the key set is fetched; a path of the baseURL is where Better Auth has its routes."""
        given, base = cast(str, _setting("BETTER_AUTH_JWKS_URL", "")), origin(self.BETTER_AUTH_URL)
        if given or not base:
            return given
        path = urlsplit(self.BETTER_AUTH_URL).path.rstrip("/") or "/api/auth"
        return f"{base}{path}/jwks"

    @cached_property
    def BETTER_AUTH_JWKS_PRIVATE(self) -> bool:
        """The JWKS address is inside the team's own network: plain http and private peers are meant."""
        return bool(_setting("BETTER_AUTH_JWKS_PRIVATE", settings.DEBUG))

    @cached_property
    def BETTER_AUTH_KEYS_TTL(self) -> timedelta:
        """A key that is revoked at Better Auth is trusted no longer than this."""
        return timedelta(seconds=_setting("BETTER_AUTH_KEYS_TTL_SECONDS", 60.0))

    @cached_property
    def BETTER_AUTH_ALGORITHMS(self) -> list[str]:
        """Allow-list. The first RSA one is taken for an RSA key that does not name its own."""
        given: list[str] = _setting("BETTER_AUTH_ALGORITHMS", [])
        return given or (["HS256"] if self.BETTER_AUTH_KEYS == "secret" else PUBLIC_KEY_ALGORITHMS)

    @cached_property
    def BETTER_AUTH_LEEWAY(self) -> timedelta:
        """How far Better Auth's clock and ours may differ."""
        return timedelta(seconds=_setting("BETTER_AUTH_LEEWAY_SECONDS", 10.0))

    @cached_property
    def BETTER_AUTH_MAX_TOKEN_LIFETIME(self) -> timedelta:
        """Cap on ``exp - iat``: nothing at Better Auth keeps a team from tokens that live ten years."""
        return timedelta(seconds=_setting("BETTER_AUTH_MAX_TOKEN_LIFETIME_SECONDS", 3600.0))

    @cached_property
    def BETTER_AUTH_REQUIRE_SID(self) -> bool:
        return bool(_setting("BETTER_AUTH_REQUIRE_SID", False))

    @cached_property
    def BETTER_AUTH_DATABASE(self) -> str:
        """The alias of the database with Better Auth's tables."""
        return cast(str, _setting("BETTER_AUTH_DATABASE", "default"))

    @cached_property
    def DATABASE_FAULTS(self) -> dict[str, tuple[str, str]]:
        """For each variable with a bad address: what is wrong, and what to write."""
        return cast(dict[str, tuple[str, str]], _setting("DATABASE_FAULTS", {}))

    # The next four are read once, when the models are made.

    @cached_property
    def BETTER_AUTH_NAMING(self) -> str:
        """How columns are spelled: ``camel`` (Kysely, Prisma) or ``snake`` (Drizzle)."""
        return cast(str, _setting("BETTER_AUTH_NAMING", "camel"))

    @cached_property
    def BETTER_AUTH_TABLES(self) -> dict[str, str]:
        """Tables that are not called as their model: ``{"user": "users", "jwks": "auth.keys"}``."""
        return cast(dict[str, str], _setting("BETTER_AUTH_TABLES", {}))

    @cached_property
    def BETTER_AUTH_COLUMNS(self) -> dict[str, str]:
        """Columns with a name of their own: ``{"session.expiresAt": "valid_until"}``."""
        return cast(dict[str, str], _setting("BETTER_AUTH_COLUMNS", {}))

    @cached_property
    def BETTER_AUTH_PLUGINS(self) -> list[str]:
        """Better Auth's plugins whose columns we read, by their ids (``authn.models.PLUGINS``)."""
        return cast(list[str], _setting("BETTER_AUTH_PLUGINS", []))

    @cached_property
    def NUM_PROXIES(self) -> int:
        """How many proxies of ours stand in front, each of which says in X-Forwarded-For whom it sees."""
        return cast(int, _setting("NUM_PROXIES", 0))

    @cached_property
    def REFUSED_RATE_PER_ADDRESS(self) -> str:
        """Refused attempts a client address may make, and each genuine token, in DRF's notation."""
        return cast(str, _setting("REFUSED_RATE_PER_ADDRESS", "60/min"))

    @cached_property
    def JSON_ERRORS_UNDER(self) -> str:
        """The path below which every error is JSON, Django's own included; empty: nowhere."""
        return cast(str, _setting("JSON_ERRORS_UNDER", ""))


conf = Conf()


def origin(url: str) -> str:
    """Scheme and host as Better Auth normalises them: lower case, no default port, no path.

    Empty for anything that is not an http(s) URL. Source: better-auth packages/better-auth/src/utils/url.ts.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # a port that is no number, a bracket that does not close
        return ""
    host = parts.hostname or ""
    if parts.scheme not in DEFAULT_PORTS or not HOST.fullmatch(host):
        return ""
    host = f"[{host}]" if ":" in host else host
    if port in (None, DEFAULT_PORTS[parts.scheme]):
        return f"{parts.scheme}://{host}"
    return f"{parts.scheme}://{host}:{port}"


def _setting(name: str, default: Any) -> Any:
    return getattr(settings, name, default)
