"""Checks that BETTER_AUTH_PLUGINS lists the plugins that the views' permission classes need."""

from collections.abc import Iterable, Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.urls import get_resolver

from authn.permissions import IdentityPermission


def check_permission_classes(**kwargs: Any) -> list[CheckMessage]:
    """Looks at all DRF views of the URLconf. It is not in ``CHECKS``: it loads the whole project."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    missing = {each.missing_plugin(): each.plugin for each in _used(get_resolver().url_patterns)}
    return [
        Error(
            message,
            hint=f"Add {plugin} to BETTER_AUTH_PLUGINS, if your Better Auth has this plugin.",
            id="authn.E031",
        )
        for message, plugin in missing.items()
        if message
    ]


def _used(patterns: Iterable[Any]) -> Iterator[IdentityPermission | type[IdentityPermission]]:
    """Yields the permission classes of all DRF views of the URLconf."""
    for pattern in patterns:
        if hasattr(pattern, "url_patterns"):
            yield from _used(pattern.url_patterns)
        else:
            for permission in getattr(getattr(pattern.callback, "cls", None), "permission_classes", ()):
                yield from _flattened(permission)


def _flattened(permission: Any) -> Iterator[IdentityPermission | type[IdentityPermission]]:
    """Yields the parts of ``IsEmailVerified & IsMember``, or the permission class itself."""
    for name in ("op1_class", "op2_class"):
        if hasattr(permission, name):
            yield from _flattened(getattr(permission, name))
    is_class = isinstance(permission, type) and issubclass(permission, IdentityPermission)
    if is_class or isinstance(permission, IdentityPermission):
        yield permission
