"""Users and sessions for the people who answer for them: to look at, and sessions to revoke.

The tables are Better Auth's. Tokens and secrets are not on the models, so no page can show them.
"""

import re
from ipaddress import ip_address
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.forms import BaseInlineFormSet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from authn.admin import lists, revoking
from authn.admin.devices import device
from authn.admin.filters import BannedFilter, ImpersonatedFilter, StateFilter
from authn.admin.lists import LongTable, ReadOnly, ago
from authn.conf import conf
from authn.models import Session, User

# What Better Auth's own admin plugin adds, where it is declared.
HAS_ADMIN_PLUGIN = "admin" in conf.BETTER_AUTH_PLUGINS
OF_ADMIN_IN_USER = ["role", "is_banned"] if HAS_ADMIN_PLUGIN else []
OF_ADMIN_IN_SESSION = ["impersonated_by"] if HAS_ADMIN_PLUGIN else []

BESIDE_A_USER = 25  # sessions: somebody may have thousands
BEGINNING_OF_ADDRESS = re.compile(r"[0-9a-f.:]+[.:]", re.IGNORECASE)


class OfBetterAuth(ReadOnly, LongTable):
    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Searched and not filtered: an address made by hand could compare an id to anything, which
        PostgreSQL would not have, or a column without an index."""
        return any(lookup == each.parameter_name for each in self.list_filter)  # type: ignore[union-attr]

    def is_long(self, sought: str) -> bool:
        return not sought


class OfSessions:
    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_see_sessions(request)

    @admin.display(boolean=True)
    def active(self, session: Session) -> bool:
        return session.is_active

    @admin.display(description="signed in")
    def signed_in(self, session: Session) -> SafeString:
        return ago(session.created_at)

    @admin.display(description="expires")
    def expires(self, session: Session) -> SafeString:
        return ago(session.expires_at)

    @admin.display(description="device", empty_value="-")
    def device(self, session: Session) -> str:
        return device(session.user_agent)


def may_see_sessions(request: HttpRequest) -> bool:
    """Nobody, where sessions are in Redis, by their tokens alone: there may be no table to show."""
    return conf.BETTER_AUTH_SESSION_SOURCE == "database" and request.user.has_perm("authn.view_session")


def may_revoke(request: HttpRequest, permission: str) -> bool:
    """Asked several times a request; what the database's role may do is asked once."""
    if not (may_see_sessions(request) and request.user.has_perm(permission)):
        return False
    if not hasattr(request, "sessions_can_be_revoked"):
        setattr(request, "sessions_can_be_revoked", revoking.is_possible())  # noqa: B010  # as in authn.audit
    return bool(getattr(request, "sessions_can_be_revoked"))  # noqa: B009


class LatestSessions(BaseInlineFormSet):  # type: ignore[type-arg]  # generic in the stubs alone
    def get_queryset(self) -> QuerySet[Session]:
        if not hasattr(self, "latest"):
            self.latest = super().get_queryset()[:BESIDE_A_USER]
        return self.latest


class SessionInline(ReadOnly, OfSessions, admin.TabularInline):  # type: ignore[type-arg]  # generic in the stubs alone
    model = Session
    formset = LatestSessions
    fields = ["id", "active", "signed_in", "expires", "ip_address", "device", *OF_ADMIN_IN_SESSION]
    readonly_fields = ["active", "signed_in", "expires", "device"]
    ordering = ["-created_at", "-pk"]
    verbose_name_plural = f"Latest sessions, {BESIDE_A_USER} at most"
    extra = 0
    show_change_link = True


@admin.register(User)
class UserAdmin(OfBetterAuth):
    list_display = [
        "email",
        "name",
        "id",
        "email_verified",
        "signed_up",
        *OF_ADMIN_IN_USER,
        "active_sessions",
    ]
    list_filter = [BannedFilter] if HAS_ADMIN_PLUGIN else []
    search_fields = ["email", "id"]
    search_help_text = "By a whole e-mail address or user id."
    readonly_fields = ["signed_up", "active_sessions"]
    inlines = [SessionInline]

    def get_list_display(self, request: HttpRequest) -> Any:
        hidden = [] if may_see_sessions(request) else ["active_sessions"]
        return [name for name in self.list_display if name not in hidden]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        hidden = [] if may_see_sessions(request) else ["active_sessions"]
        return [name for name in super().get_fields(request, obj) if name not in hidden]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[User], search_term: str
    ) -> tuple[QuerySet[User], bool]:
        sought = search_term.strip()
        return queryset.filter(by_email(sought) | Q(id=sought)) if sought else queryset, False

    def look_up_more(self, request: HttpRequest, rows: list[Any]) -> None:
        if may_see_sessions(request):
            active = Session.objects.filter(user__in=rows, expires_at__gt=timezone.now())
            counted = dict(active.values_list("user_id").annotate(Count("pk")))
            for user in rows:
                user.number_of_active_sessions = counted.get(user.id, 0)

    @admin.display(description="signed up")
    def signed_up(self, user: User) -> SafeString:
        return ago(user.created_at)

    @admin.display(description="banned", boolean=True)
    def is_banned(self, user: User) -> bool:
        return user.is_banned

    @admin.display(description="active sessions")
    def active_sessions(self, user: User) -> SafeString:
        number = getattr(user, "number_of_active_sessions", None)
        if number is None:
            number = Session.objects.filter(user=user, expires_at__gt=timezone.now()).count()
        address = f"{reverse('admin:authn_session_changelist')}?{urlencode({'q': user.id})}"
        return format_html('<a href="{}">{}</a>', address, number)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.revoke_view)
        return [path("<path:object_id>/revoke/", view, name="authn_user_revoke"), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        extra = {"may_revoke_all": may_revoke(request, "authn.revoke_all_sessions")}
        return super().change_view(request, object_id, form_url, extra | (extra_context or {}))

    def revoke_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """``GET`` asks whether it is meant, ``POST`` does it."""
        is_allowed = self.has_view_permission(request) and may_revoke(request, "authn.revoke_all_sessions")
        if not is_allowed:
            raise PermissionDenied
        user = self.get_object(request, unquote(object_id))
        if user is None:
            raise Http404
        if request.method == "POST":
            say_how_many(request, revoking.revoke_all_of(request, user.id))
            return HttpResponseRedirect(reverse("admin:authn_user_change", args=[quote(user.id)]))
        sessions = Session.objects.filter(user=user).order_by("-created_at", "-pk")
        context = {
            "title": f"Revoke all sessions of {user}",
            "sessions": sessions[:BESIDE_A_USER],
            "user_of_all": user,
        }
        return confirmation(self, request, context)


@admin.register(Session)
class SessionAdmin(OfSessions, OfBetterAuth):
    list_display = [
        "id",
        "user",
        "active",
        "signed_in",
        "expires",
        "ip_address",
        "device",
        *OF_ADMIN_IN_SESSION,
    ]
    list_filter = [StateFilter, *([ImpersonatedFilter] if HAS_ADMIN_PLUGIN else [])]
    readonly_fields = ["active", "signed_in", "expires", "device"]
    search_fields = ["id", "user__email", "user__id", "ip_address"]
    search_help_text = (
        "By a whole e-mail address, user id or session id. Or by an IP address or the beginning of one, such "
        "as 203.0.113. with its dot: that is sought in the list below alone, unless its column has an index."
    )
    actions = ["revoke"]

    def is_long(self, sought: str) -> bool:
        if not _is_address(sought.strip()):
            return not sought
        found = Session.objects.filter(by_address(sought.strip()))
        return not lists.has_index_of_beginnings(found, "ip_address") or lists.are_many(found)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Session], search_term: str
    ) -> tuple[QuerySet[Session], bool]:
        sought = search_term.strip()
        if not sought:
            return queryset, False
        if _is_address(sought):
            return queryset.filter(by_address(sought)), False
        # Two statements: in one, a join, PostgreSQL would find no index for "this or that".
        users = list(User.objects.filter(by_email(sought)))
        return queryset.filter(Q(id=sought) | Q(user__id=sought) | Q(user__in=users)), False

    def look_up_more(self, request: HttpRequest, rows: list[Session]) -> None:
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
            say_how_many(request, revoking.revoke(request, [session.id for session in chosen]))
            return None
        self.look_up_more(request, chosen)
        return confirmation(self, request, {"title": "Revoke sessions", "sessions": chosen})


def by_email(sought: str) -> Q:
    """As it was typed, and as Better Auth stores it; "iexact" no index would answer."""
    return Q(email__in={sought, sought.lower()})


def by_address(sought: str) -> Q:
    return Q(ip_address__startswith=sought) if sought.endswith((".", ":")) else Q(ip_address=sought)


def _is_address(sought: str) -> bool:
    try:
        ip_address(sought)
    except ValueError:
        return BEGINNING_OF_ADDRESS.fullmatch(sought) is not None
    return True


def confirmation(model_admin: OfBetterAuth, request: HttpRequest, context: Any) -> HttpResponse:
    own = {"opts": model_admin.opts, "action_checkbox_name": ACTION_CHECKBOX_NAME}
    context = {**model_admin.admin_site.each_context(request), **own, **context}
    return TemplateResponse(request, "admin/authn/revoke.html", context)


def say_how_many(request: HttpRequest, revoked: list[revoking.Revoked]) -> None:
    number = len(revoked)
    text = (
        f"{number} session{'' if number == 1 else 's'} revoked." if number else "There was nothing to revoke."
    )
    messages.add_message(request, messages.SUCCESS if number else messages.WARNING, text)
