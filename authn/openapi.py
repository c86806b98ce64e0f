"""Describes the accepted credentials in the OpenAPI document.

Needs the package drf-spectacular. Nothing imports this module in a project without that app.
"""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

from authn.conf import conf


class BetterAuthScheme(OpenApiAuthenticationExtension):
    """One scheme for each of ``BETTER_AUTH_CREDENTIALS``. A request uses exactly one of them."""

    target_class = "authn.authentication.BetterAuthAuthentication"

    @property
    def name(self) -> list[str]:  # type: ignore[override]
        return list(_schemes())

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[Any]]]:
        return [{name: []} for name in _schemes()]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[dict[str, Any]]:
        return list(_schemes().values())


class CredentialScheme(OpenApiAuthenticationExtension):
    """The scheme of an authentication class for one kind of credential."""

    target_class = "authn.authentication.Credential"
    match_subclasses = True

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"betterAuth_{self.target.name}"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return _scheme(self.target.name)


def _schemes() -> dict[str, dict[str, Any]]:
    return {f"betterAuth_{name}": _scheme(name) for name in conf.BETTER_AUTH_CREDENTIALS}


def _scheme(credential: str) -> dict[str, Any]:
    known: dict[str, dict[str, Any]] = {
        "jwt": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "A token of Better Auth's `jwt()` plugin. To get one, send "
            "`GET /api/auth/token` to Better Auth.",
        },
        "cookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": conf.BETTER_AUTH_COOKIE_NAME,
            "description": "Better Auth's session cookie. The browser sends it if the page's `fetch` has "
            '`credentials: "include"`. The server accepts it only from the origin of an allowed page.',
        },
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "signed session token",
            "description": "A signed session token of Better Auth's `bearer()` plugin. Better Auth sends it "
            "in the response header `set-auth-token`.",
        },
        "oauth": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "OAuth access token",
            "description": "An access token of Better Auth's `mcp()` or `oauthProvider()` plugin for this "
            "endpoint. The 401 names the metadata document (RFC 9728).",
        },
    }
    return known[credential]
