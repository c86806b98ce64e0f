"""The admin of Better Auth's users and sessions. Django imports this package, which registers them."""

from authn.admin import users  # noqa: F401
