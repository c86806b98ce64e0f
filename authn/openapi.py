"""The security schemes of the OpenAPI document. Only drf-spectacular needs this module."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

from authn.conf import conf


class BetterAuthScheme(OpenApiAuthenticationExtension):
    """One scheme for each of the ``BETTER_AUTH_CREDENTIALS``. A request has exactly one credential."""

    target_class = "authn.authentication.BetterAuthAuthentication"

    @property
    def name(self) -> list[str]:  # type: ignore[override]
        return list(_schemes())

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[Any]]]:
        return [{name: []} for name in _schemes()]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[dict[str, Any]]:
        return list(_schemes().values())


def _schemes() -> dict[str, dict[str, Any]]:
    known = {
        "jwt": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "The token of Better Auth's `jwt()` plugin: `GET /api/auth/token`.",
        },
        "cookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": conf.BETTER_AUTH_COOKIE_NAME,
            "description": "Better Auth's session cookie. The browser sends it "
            '(`credentials: "include"`) from a page whose origin is allowed.',
        },
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "signed session token",
            "description": "The value of the `set-auth-token` header of Better Auth's `bearer()` plugin.",
        },
    }
    return {f"betterAuth_{name}": known[name] for name in conf.BETTER_AUTH_CREDENTIALS}
