"""The settings for Better Auth, as typed properties."""

import re
from datetime import timedelta
from functools import cached_property
from typing import Any, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.core.signals import setting_changed
from rest_framework.settings import api_settings

DEFAULT_PORTS = {"http": 80, "https": 443}
PUBLIC_KEY_ALGORITHMS = ["EdDSA", "ES256", "ES512", "PS256", "RS256"]  # those Better Auth documents
HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f.]*:[0-9a-f:.]+")  # a name (non-ASCII ones as xn--), or IPv6


class CachedSettings:
    """Base class for settings. Its ``cached_property``s are kept until a test changes a setting."""

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
        """The expected ``iss`` of a JWT. The default is the origin of Better Auth's baseURL."""
        return cast(str, _setting("BETTER_AUTH_ISSUER", "")) or origin(self.BETTER_AUTH_URL)

    @cached_property
    def BETTER_AUTH_AUDIENCE(self) -> list[str]:
        """A JWT's ``aud`` must contain one of these. The default is the origin of Better Auth's baseURL."""
        given: list[str] | str = _setting("BETTER_AUTH_AUDIENCE", [])
        audiences = [given] if isinstance(given, str) and given else list(given)
        return audiences or [origin(self.BETTER_AUTH_URL)]

    @cached_property
    def BETTER_AUTH_CREDENTIALS(self) -> list[str]:
        """The accepted kinds of credentials: ``jwt``, ``cookie``, ``bearer``. See
        ``authn.authentication.CREDENTIALS``."""
        return cast(list[str], _setting("BETTER_AUTH_CREDENTIALS", ["jwt"]))

    @cached_property
    def BETTER_AUTH_REALM(self) -> str:
        """The realm in the header WWW-Authenticate of a 401."""
        return cast(str, _setting("BETTER_AUTH_REALM", "chatbackend"))

    @cached_property
    def BETTER_AUTH_SECURE_COOKIES(self) -> bool:
        """Better Auth's ``advanced.useSecureCookies``. On by default if the baseURL is https."""
        is_https = origin(self.BETTER_AUTH_URL).startswith("https:")
        return bool(_setting("BETTER_AUTH_SECURE_COOKIES", is_https))

    @cached_property
    def BETTER_AUTH_COOKIE_NAME(self) -> str:
        """The session cookie's full name, with the prefix ``__Secure-`` if cookies are secure."""
        name = cast(str, _setting("BETTER_AUTH_COOKIE_NAME", "better-auth.session_token"))
        if self.BETTER_AUTH_SECURE_COOKIES and not name.startswith("__Secure-"):
            return f"__Secure-{name}"
        return name

    @cached_property
    def BETTER_AUTH_COOKIE_ORIGINS(self) -> set[str]:
        """The origins of pages that may send the cookie: those that CORS allows, and Better Auth's own.

        Never the origin ``null``: every site can send it from a sandboxed frame.
        """
        pages: list[str] = _setting("CORS_ALLOWED_ORIGINS", [])
        return {origin(page) for page in [self.BETTER_AUTH_URL, *pages]} - {""}

    @cached_property
    def BETTER_AUTH_BEARER_REQUIRE_SIGNATURE(self) -> bool:
        """Whether a session token must have a signature.

        If this is off, everybody who can read the session table can log in as any user.
        """
        return bool(_setting("BETTER_AUTH_BEARER_REQUIRE_SIGNATURE", True))

    @cached_property
    def BETTER_AUTH_SESSION_SOURCE(self) -> str:
        """Where the sessions are: ``database``, or the URL of the Redis that is Better Auth's
        secondaryStorage."""
        return cast(str, _setting("BETTER_AUTH_SESSION_SOURCE", "database"))

    @cached_property
    def BETTER_AUTH_SESSION_PREFIX(self) -> str:
        """The prefix of Better Auth's keys in that Redis."""
        return cast(str, _setting("BETTER_AUTH_SESSION_PREFIX", ""))

    @cached_property
    def BETTER_AUTH_KEYS(self) -> str:
        """The source of the keys that verify JWTs: ``database`` (jwks table), ``jwks`` (a URL) or
        ``secret``."""
        return cast(str, _setting("BETTER_AUTH_KEYS", "database"))

    @cached_property
    def BETTER_AUTH_SECRET(self) -> str:
        """Better Auth's own secret. Needed for the credentials cookie and bearer, and for
        BETTER_AUTH_KEYS=secret.

        If BETTER_AUTH_SECRETS is set, its first secret. Better Auth signs and accepts cookies only with the
        first secret. Do not accept the others: a secret is often replaced because it has leaked.
        """
        newest, _, _ = self.BETTER_AUTH_SECRETS.partition(",")
        return newest.partition(":")[2].strip() or cast(str, _setting("BETTER_AUTH_SECRET", ""))

    @cached_property
    def BETTER_AUTH_SECRETS(self) -> str:
        """Better Auth's own variable for rotated secrets: ``2:new,1:old``."""
        return cast(str, _setting("BETTER_AUTH_SECRETS", ""))

    @cached_property
    def BETTER_AUTH_JWKS_URL(self) -> str:
        """The URL of the key set. By default, ``/jwks`` under Better Auth's baseURL and its base path."""
        given, base = cast(str, _setting("BETTER_AUTH_JWKS_URL", "")), with_base_path(self.BETTER_AUTH_URL)
        return given or (base and f"{base}/jwks")

    @cached_property
    def BETTER_AUTH_JWKS_PRIVATE(self) -> bool:
        """Whether the JWKS URL may be http and may lead to a private IP address: for a server in the team's
        own network."""
        return bool(_setting("BETTER_AUTH_JWKS_PRIVATE", settings.DEBUG))

    @cached_property
    def BETTER_AUTH_KEYS_TTL(self) -> timedelta:
        """How long the key set is cached. A key revoked in Better Auth is trusted no longer than this."""
        return timedelta(seconds=_setting("BETTER_AUTH_KEYS_TTL_SECONDS", 60.0))

    @cached_property
    def BETTER_AUTH_ALGORITHMS(self) -> list[str]:
        """The allow-list. The first RSA algorithm is used for an RSA key without an ``alg``."""
        given: list[str] = _setting("BETTER_AUTH_ALGORITHMS", [])
        return given or (["HS256"] if self.BETTER_AUTH_KEYS == "secret" else PUBLIC_KEY_ALGORITHMS)

    @cached_property
    def BETTER_AUTH_LEEWAY(self) -> timedelta:
        """The allowed difference between Better Auth's clock and ours."""
        return timedelta(seconds=_setting("BETTER_AUTH_LEEWAY_SECONDS", 10.0))

    @cached_property
    def BETTER_AUTH_MAX_TOKEN_LIFETIME(self) -> timedelta:
        """The maximum of ``exp - iat``. Better Auth itself has no limit."""
        return timedelta(seconds=_setting("BETTER_AUTH_MAX_TOKEN_LIFETIME_SECONDS", 3600.0))

    @cached_property
    def BETTER_AUTH_REQUIRE_SID(self) -> bool:
        """Refuse tokens that name no session (``sid``)."""
        return bool(_setting("BETTER_AUTH_REQUIRE_SID", False))

    @cached_property
    def BETTER_AUTH_OAUTH_ISSUER(self) -> str:
        """The expected ``iss`` of an OAuth access token, and the URL of the authorization server.

        By default, as in Better Auth: the jwt() plugin's ``issuer``, or else its baseURL with its base path.
        """
        given = _setting("BETTER_AUTH_OAUTH_ISSUER", "") or _setting("BETTER_AUTH_ISSUER", "")
        return cast(str, given) or with_base_path(self.BETTER_AUTH_URL)

    @cached_property
    def oauth_userinfo_url(self) -> str:
        """The other audience that an access token may have. Not a setting: Better Auth cannot change it."""
        return f"{with_base_path(self.BETTER_AUTH_URL)}/oauth2/userinfo"

    @cached_property
    def BETTER_AUTH_OAUTH_OFFLINE_ACCESS(self) -> bool:
        """Whether a client with the scope ``offline_access`` may act for a user who has signed out."""
        return bool(_setting("BETTER_AUTH_OAUTH_OFFLINE_ACCESS", False))

    @cached_property
    def BETTER_AUTH_OAUTH_REQUIRE_RESOURCE(self) -> bool:
        """Refuse opaque access tokens that are issued for no resource: every API would accept them."""
        return bool(_setting("BETTER_AUTH_OAUTH_REQUIRE_RESOURCE", True))

    @cached_property
    def BETTER_AUTH_OAUTH_TOKEN_PREFIX(self) -> str:
        """The oauth-provider plugin's ``prefix.opaqueAccessToken``."""
        return cast(str, _setting("BETTER_AUTH_OAUTH_TOKEN_PREFIX", ""))

    @cached_property
    def BETTER_AUTH_DATABASE(self) -> str:
        """The database alias of Better Auth's tables."""
        return cast(str, _setting("BETTER_AUTH_DATABASE", "default"))

    @cached_property
    def DATABASE_FAULTS(self) -> dict[str, tuple[str, str]]:
        """For each variable with a bad URL: what is wrong, and what to write."""
        return cast(dict[str, tuple[str, str]], _setting("DATABASE_FAULTS", {}))

    # The next four are read only once, when the models are defined.

    @cached_property
    def BETTER_AUTH_NAMING(self) -> str:
        """The naming of columns: ``camel`` (Kysely, Prisma) or ``snake`` (Drizzle)."""
        return cast(str, _setting("BETTER_AUTH_NAMING", "camel"))

    @cached_property
    def BETTER_AUTH_TABLES(self) -> dict[str, str]:
        """Tables with another name than their model: ``{"user": "users", "jwks": "auth.keys"}``."""
        return cast(dict[str, str], _setting("BETTER_AUTH_TABLES", {}))

    @cached_property
    def BETTER_AUTH_COLUMNS(self) -> dict[str, str]:
        """Columns with another name than their field: ``{"session.expiresAt": "valid_until"}``."""
        return cast(dict[str, str], _setting("BETTER_AUTH_COLUMNS", {}))

    @cached_property
    def BETTER_AUTH_PLUGINS(self) -> list[str]:
        """The ids of Better Auth's plugins whose columns we read (``authn.models.PLUGINS``)."""
        return cast(list[str], _setting("BETTER_AUTH_PLUGINS", []))

    @cached_property
    def NUM_PROXIES(self) -> int:
        """The number of our own proxies in front of the server. Each proxy appends to X-Forwarded-For.

        The default is DRF's own setting of that name, and 0 without it.
        """
        return cast(int, _setting("NUM_PROXIES", api_settings.NUM_PROXIES or 0))

    @cached_property
    def REFUSED_RATE_PER_ADDRESS(self) -> str:
        """The limit of refused attempts for each client IP address and each verified credential, such as
        ``60/min``."""
        return cast(str, _setting("REFUSED_RATE_PER_ADDRESS", "60/min"))

    @cached_property
    def BETTER_AUTH_CACHE(self) -> str:
        """The alias of the cache that counts refused attempts."""
        return cast(str, _setting("BETTER_AUTH_CACHE", "default"))

    @cached_property
    def JSON_ERRORS_UNDER(self) -> str:
        """Errors under this path are JSON, even Django's own error pages. "" for no JSON errors."""
        return cast(str, _setting("JSON_ERRORS_UNDER", ""))


conf = Conf()


def origin(url: str) -> str:
    """Scheme and host as Better Auth normalises them: lower case, no default port, no path.

    Empty if ``url`` is not an http(s) URL. Source: better-auth packages/better-auth/src/utils/url.ts.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # a port that is not a number, or a bracket that does not close
        return ""
    host = parts.hostname or ""
    if parts.scheme not in DEFAULT_PORTS or not HOST.fullmatch(host):
        return ""
    host = f"[{host}]" if ":" in host else host
    if port in (None, DEFAULT_PORTS[parts.scheme]):
        return f"{parts.scheme}://{host}"
    return f"{parts.scheme}://{host}:{port}"


def with_base_path(url: str) -> str:
    """Better Auth's baseURL with its base path, ``/api/auth`` by default. "" if it is not an http(s) URL."""
    base = origin(url)
    return base and base + (urlsplit(url).path.rstrip("/") or "/api/auth")


def _setting(name: str, default: Any) -> Any:
    return getattr(settings, name, default)
