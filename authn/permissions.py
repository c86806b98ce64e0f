"""DRF permission classes for Better Auth's users: a verified email address, a role, a membership.

They read only rows of the database, and never the claims of a JWT, because claims may be out of date. They
refuse a request that another authentication class has accepted: it has no Better Auth user.
"""

from collections.abc import Iterable
from typing import Any, Self

from django.core.exceptions import ImproperlyConfigured
from rest_framework.permissions import BasePermission, OperationHolderMixin
from rest_framework.request import Request
from rest_framework.views import APIView

from authn import models
from authn.conf import conf
from authn.errors import unavailable_on_outage
from authn.jwt.signed import ID
from authn.sessions import Identity


class IdentityPermission(OperationHolderMixin, BasePermission):
    """Base class. ``permission_classes`` may contain the class or an instance, such as ``HasRole("admin")``.

    ``plugin``: the Better Auth plugin whose columns the class reads. BETTER_AUTH_PLUGINS must list it.
    """

    plugin = ""

    def __init__(self) -> None:
        if missing := self.missing_plugin():
            raise ImproperlyConfigured(missing)

    @classmethod
    def missing_plugin(cls) -> str:
        """Return a sentence if BETTER_AUTH_PLUGINS does not list the plugin, or ""."""
        if not cls.plugin or cls.plugin in conf.BETTER_AUTH_PLUGINS:
            return ""
        return f"{cls.__name__} needs the {cls.plugin} plugin, which BETTER_AUTH_PLUGINS does not list."

    def __call__(self) -> Self:
        return self  # DRF calls each entry of permission_classes, to create an instance

    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.auth, Identity) and self.allows(request.auth, request, view)

    def allows(self, identity: Identity, request: Request, view: APIView) -> bool:
        raise NotImplementedError


class IsEmailVerified(IdentityPermission):
    """The user's email address is verified. Needs no SQL statement."""

    message = "The email address is not verified"

    def allows(self, identity: Identity, request: Request, view: APIView) -> bool:
        return bool(identity.user.email_verified)


class HasRole(IdentityPermission):
    """The user has one of these roles of Better Auth's admin() plugin. Needs no SQL statement.

    Better Auth's option ``adminUserIds`` makes administrators without a role. This class refuses them.
    """

    plugin = "admin"

    def __init__(self, *roles: str) -> None:
        super().__init__()
        if not roles:
            raise ImproperlyConfigured('HasRole needs a role, such as HasRole("admin").')
        self.roles = frozenset(roles)

    def allows(self, identity: Identity, request: Request, view: APIView) -> bool:
        return not self.roles.isdisjoint(identity.user.roles)


class IsMember(IdentityPermission):
    """The user is a member of the request's organization. Sets ``request.membership`` to the row.

    ``role``: one or more roles of the organization() plugin. The member must have one of them. Without
    ``role``, every member may pass. The organization's id comes from exactly one source:

    - ``kwarg``: an argument of the URL. The default is ``organization_id``.
    - ``header``: a header of the request.
    - ``active``: the session's active organization. The user may have left it, so we look up the row too.

    The look-up is one SQL statement. The response is the same if the organization does not exist, if the user
    is not a member, and if the member does not have the role.
    """

    plugin = "organization"

    def __init__(
        self,
        role: str | Iterable[str] | None = None,
        *,
        kwarg: str = "",
        header: str = "",
        active: bool = False,
    ) -> None:
        super().__init__()
        if sum(map(bool, (kwarg, header, active))) > 1:
            raise ImproperlyConfigured(
                "IsMember takes the organization from one source: kwarg, header or active."
            )
        roles = [role] if isinstance(role, str) else role
        self.roles = None if roles is None else frozenset(roles)
        if self.roles is not None and not any(self.roles):
            # A list from a setting may be empty. It must not mean every member.
            raise ImproperlyConfigured("IsMember has an empty role. Leave role out to accept every member.")
        self.kwarg, self.header, self.active = kwarg or "organization_id", header, active

    def allows(self, identity: Identity, request: Request, view: APIView) -> bool:
        membership = _membership(identity, self._organization_id(identity, request, view))
        if membership is None:
            return False
        if self.roles is not None and self.roles.isdisjoint(membership.roles):
            return False
        # Set it on Django's request, like user_id. DRF's request reads missing attributes from Django's.
        setattr(request._request, "membership", membership)  # noqa: B010
        return True

    def _organization_id(self, identity: Identity, request: Request, view: APIView) -> Any:
        if self.active:
            return identity.session and identity.session.active_organization_id
        if self.header:
            return request.headers.get(self.header)
        if self.kwarg not in view.kwargs:
            raise ImproperlyConfigured(
                f"IsMember: the URL has no argument {self.kwarg}. Name another one with kwarg, or use header "
                "or active."
            )
        return view.kwargs[self.kwarg]


def _membership(identity: Identity, organization_id: Any) -> "models.Member | None":
    wanted = str(organization_id or "")
    if not ID.fullmatch(wanted):
        return None
    members: Any = models.Member  # exists only if BETTER_AUTH_PLUGINS lists the plugin
    with unavailable_on_outage():
        found: models.Member | None = members.objects.filter(
            user=identity.user, organization_id=wanted
        ).first()
    return found
