"""The admin of sessions: the permissions, the list, and the page that confirms a revocation."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString

from authn.admin import large_tables, revoking
from authn.admin.devices import device
from authn.admin.filters import ImpersonatedFilter, StateFilter
from authn.admin.large_tables import BetterAuthAdmin, relative_time
from authn.admin.search import by_email, by_ip_address, is_ip_address
from authn.conf import conf
from authn.models import Session, User

HAS_ADMIN_PLUGIN = "admin" in conf.BETTER_AUTH_PLUGINS
ADMIN_PLUGIN_FIELDS = ["impersonated_by"] if HAS_ADMIN_PLUGIN else []


def may_see_sessions(request: HttpRequest) -> bool:
    """Whether the sessions are in the database, and the user has the permission to view them.

    Sessions in a Redis cannot be listed, and there may be no session table.
    """
    return conf.BETTER_AUTH_SESSION_SOURCE == "database" and request.user.has_perm("authn.view_session")


def may_revoke(request: HttpRequest, permission: str) -> bool:
    if not (may_see_sessions(request) and request.user.has_perm(permission)):
        return False
    # Django calls this several times in a request. Query the database only once.
    if not hasattr(request, "can_delete_sessions"):
        setattr(request, "can_delete_sessions", revoking.is_possible())  # noqa: B010 - not an HttpRequest attribute
    return bool(getattr(request, "can_delete_sessions"))  # noqa: B009


class SessionColumns:
    """The columns that the list of sessions and a user's page share."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_see_sessions(request)

    @admin.display(boolean=True)
    def active(self, session: Session) -> bool:
        return session.is_active

    @admin.display(description="signed in")
    def signed_in(self, session: Session) -> SafeString:
        return relative_time(session.created_at)

    @admin.display(description="expires")
    def expires(self, session: Session) -> SafeString:
        return relative_time(session.expires_at)

    @admin.display(description="device", empty_value="-")
    def device(self, session: Session) -> str:
        return device(session.user_agent)


@admin.register(Session)
class SessionAdmin(SessionColumns, BetterAuthAdmin):
    list_display = [
        "id",
        "user",
        "active",
        "signed_in",
        "expires",
        "ip_address",
        "device",
        *ADMIN_PLUGIN_FIELDS,
    ]
    list_filter = [StateFilter, *([ImpersonatedFilter] if HAS_ADMIN_PLUGIN else [])]
    readonly_fields = ["active", "signed_in", "expires", "device"]
    search_fields = ["id", "user__email", "user__id", "ip_address"]
    search_help_text = (
        "By a complete email address, user id or session id. Or by an IP address or its beginning, such as "
        "203.0.113. with the dot: if that column has no index, only the sessions of this list are searched."
    )
    actions = ["revoke"]

    def is_limited(self, search_term: str) -> bool:
        typed = search_term.strip()
        if not is_ip_address(typed):
            return not search_term
        matches = Session.objects.filter(by_ip_address(typed))
        return not large_tables.has_prefix_index(matches, "ip_address") or large_tables.exceeds_limit(matches)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Session], search_term: str
    ) -> tuple[QuerySet[Session], bool]:
        typed = search_term.strip()
        if not typed:
            return queryset, False
        if is_ip_address(typed):
            return queryset.filter(by_ip_address(typed)), False
        # Use two SQL statements. With a join, PostgreSQL uses no index for conditions on two tables joined by
        # OR.
        users = list(User.objects.filter(by_email(typed)))
        return queryset.filter(Q(id=typed) | Q(user__id=typed) | Q(user__in=users)), False

    def load_related(self, request: HttpRequest, rows: list[Session]) -> None:
        users = {user.id: user for user in User.objects.filter(id__stored=[row.user_id for row in rows])}
        for session in rows:
            if session.user_id in users:
                session.user = users[session.user_id]

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return may_revoke(request, "authn.revoke_session")

    @admin.action(description="Revoke the chosen sessions", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Session]) -> HttpResponse | None:
        chosen = list(queryset)
        if "confirmed" in request.POST:
            report_revoked(request, revoking.revoke(request, [session.id for session in chosen]))
            return None
        self.load_related(request, chosen)
        return confirmation_page(self, request, {"title": "Revoke sessions", "sessions": chosen})


def confirmation_page(model_admin: BetterAuthAdmin, request: HttpRequest, context: Any) -> HttpResponse:
    own = {"opts": model_admin.opts, "action_checkbox_name": ACTION_CHECKBOX_NAME}
    context = {**model_admin.admin_site.each_context(request), **own, **context}
    return TemplateResponse(request, "admin/authn/revoke.html", context)


def report_revoked(request: HttpRequest, revoked: list[revoking.Revoked]) -> None:
    number = len(revoked)
    text = (
        f"{number} session{'' if number == 1 else 's'} revoked." if number else "There was nothing to revoke."
    )
    messages.add_message(request, messages.SUCCESS if number else messages.WARNING, text)
