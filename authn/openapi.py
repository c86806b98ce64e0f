"""How callers say who they are, for drf-spectacular, which alone imports this."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

from authn.conf import conf


class BetterAuthScheme(OpenApiAuthenticationExtension):
    """One scheme for each of the ``BETTER_AUTH_CREDENTIALS``, of which a request shows exactly one."""

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
            "description": "The token that Better Auth's `jwt()` plugin gives out: `GET /api/auth/token`.",
        },
        "cookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": conf.BETTER_AUTH_COOKIE_NAME,
            "description": "Better Auth's session cookie, which the browser sends by itself "
            '(`credentials: "include"`), from a page whose origin is allowed.',
        },
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "signed session token",
            "description": "What Better Auth's `bearer()` plugin gives out as `set-auth-token`.",
        },
    }
    return {f"betterAuth_{name}": known[name] for name in conf.BETTER_AUTH_CREDENTIALS}
