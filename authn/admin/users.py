"""The admin of users, with each user's newest sessions and a page to revoke all of them."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.forms import BaseInlineFormSet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from authn.admin import revoking, sessions
from authn.admin.filters import BannedFilter
from authn.admin.large_tables import BetterAuthAdmin, ReadOnly, relative_time
from authn.admin.search import by_email
from authn.admin.sessions import HAS_ADMIN_PLUGIN, SessionColumns, may_revoke, may_see_sessions
from authn.models import Session, User

ADMIN_PLUGIN_FIELDS = ["role", "is_banned"] if HAS_ADMIN_PLUGIN else []
MAX_SHOWN_SESSIONS = 25  # on a user's page, because a user may have thousands of sessions


class NewestSessions(BaseInlineFormSet):  # type: ignore[type-arg]  # generic only in the stubs
    def get_queryset(self) -> QuerySet[Session]:
        if not hasattr(self, "newest"):
            self.newest = super().get_queryset()[:MAX_SHOWN_SESSIONS]
        return self.newest


class SessionInline(ReadOnly, SessionColumns, admin.TabularInline):  # type: ignore[type-arg]  # generic only in the stubs
    model = Session
    formset = NewestSessions
    fields = [
        "id",
        "active",
        "signed_in",
        "expires",
        "ip_address",
        "device",
        *sessions.ADMIN_PLUGIN_FIELDS,
    ]
    readonly_fields = ["active", "signed_in", "expires", "device"]
    ordering = ["-created_at", "-pk"]
    verbose_name_plural = f"Newest sessions, {MAX_SHOWN_SESSIONS} at most"
    extra = 0
    show_change_link = True


@admin.register(User)
class UserAdmin(BetterAuthAdmin):
    list_display = [
        "email",
        "name",
        "id",
        "email_verified",
        "signed_up",
        *ADMIN_PLUGIN_FIELDS,
        "active_sessions",
    ]
    list_filter = [BannedFilter] if HAS_ADMIN_PLUGIN else []
    search_fields = ["email", "id"]
    search_help_text = "By a complete email address or user id."
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
        typed = search_term.strip()
        return queryset.filter(by_email(typed) | Q(id=typed)) if typed else queryset, False

    def load_related(self, request: HttpRequest, rows: list[Any]) -> None:
        if may_see_sessions(request):
            active = Session.objects.filter(user__in=rows, expires_at__gt=timezone.now())
            counts = dict(active.values_list("user_id").annotate(Count("pk")))
            for user in rows:
                user.number_of_active_sessions = counts.get(user.id, 0)

    @admin.display(description="signed up")
    def signed_up(self, user: User) -> SafeString:
        return relative_time(user.created_at)

    @admin.display(description="banned", boolean=True)
    def is_banned(self, user: User) -> bool:
        return user.is_banned

    @admin.display(description="active sessions")
    def active_sessions(self, user: User) -> SafeString:
        number = getattr(user, "number_of_active_sessions", None)
        if number is None:
            number = Session.objects.filter(user=user, expires_at__gt=timezone.now()).count()
        url = f"{reverse('admin:authn_session_changelist')}?{urlencode({'q': user.id})}"
        return format_html('<a href="{}">{}</a>', url, number)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.revoke_view)
        return [path("<path:object_id>/revoke/", view, name="authn_user_revoke"), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        extra = {"may_revoke_all": may_revoke(request, "authn.revoke_all_sessions")}
        return super().change_view(request, object_id, form_url, extra | (extra_context or {}))

    def revoke_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """``GET`` shows the page that confirms the revocation. ``POST`` revokes all sessions of the user."""
        is_allowed = self.has_view_permission(request) and may_revoke(request, "authn.revoke_all_sessions")
        if not is_allowed:
            raise PermissionDenied
        user = self.get_object(request, unquote(object_id))
        if user is None:
            raise Http404
        if request.method == "POST":
            sessions.report_revoked(request, revoking.revoke_all_of(request, user.id))
            return HttpResponseRedirect(reverse("admin:authn_user_change", args=[quote(user.id)]))
        newest = Session.objects.filter(user=user).order_by("-created_at", "-pk")[:MAX_SHOWN_SESSIONS]
        context = {"title": f"Revoke all sessions of {user}", "sessions": newest, "user_of_all": user}
        return sessions.confirmation_page(self, request, context)
