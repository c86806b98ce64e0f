"""The admin of users, with each user's newest sessions and a page to revoke all of them."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from authn.admin import display, revoking, sessions
from authn.admin.display import admin_url, url_name
from authn.admin.filters import BannedFilter
from authn.admin.large_tables import BetterAuthAdmin
from authn.admin.search import by_email
from authn.admin.sessions import HAS_ADMIN_PLUGIN, may_revoke, may_see_sessions
from authn.models import Session, User

MAX_SHOWN_SESSIONS = 25  # on a user's page, because a user may have thousands of sessions

# Other fields show the values of these columns in a better form.
SHOWN_OTHERWISE = {"id", "email_verified", "created_at", "updated_at", "banned"}

# Returns a link on a user's page, (URL, text), or None if this member of staff may not follow it.
Link = Callable[[HttpRequest, User], tuple[str, str] | None]


@admin.register(User)
class UserAdmin(BetterAuthAdmin):
    list_display = [
        "person",
        "state",
        *(["role"] if HAS_ADMIN_PLUGIN else []),
        "signed_up",
        "active_sessions",
        "short_id",
    ]
    list_filter = [BannedFilter] if HAS_ADMIN_PLUGIN else []
    search_fields = ["email", "id"]
    search_help_text = "By a complete email address or user id."
    fields = [
        *(field.name for field in User._meta.concrete_fields if field.name not in SHOWN_OTHERWISE),
        "state",
        "signed_up_at",
        "changed_at",
        "active_sessions",
        "id",
    ]
    readonly_fields = ["state", "signed_up_at", "changed_at", "active_sessions"]
    change_form_template = "authn/admin/user.html"

    links: list[Link] = []  # other apps append theirs

    def get_list_display(self, request: HttpRequest) -> Any:
        hidden = [] if may_see_sessions(request) else ["active_sessions"]
        return [name for name in self.list_display if name not in hidden]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        hidden = [] if may_see_sessions(request) else ["active_sessions"]
        return [name for name in self.fields or () if name not in hidden]

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

    @admin.display(description="person")
    def person(self, user: User) -> SafeString:
        return display.person(user)

    @admin.display(description="state")
    def state(self, user: User) -> SafeString:
        return display.user_state(user)

    @admin.display(description="signed up")
    def signed_up(self, user: User) -> SafeString:
        return display.short_time(user.created_at)

    @admin.display(description="signed up")
    def signed_up_at(self, user: User) -> SafeString:
        return display.long_time(user.created_at)

    @admin.display(description="changed")
    def changed_at(self, user: User) -> SafeString:
        return display.long_time(user.updated_at)

    @admin.display(description="id")
    def short_id(self, user: User) -> SafeString:
        return display.short_id(user.id)

    @admin.display(description="active sessions")
    def active_sessions(self, user: User) -> SafeString:
        number = getattr(user, "number_of_active_sessions", None)
        if number is None:
            number = Session.objects.filter(user=user, expires_at__gt=timezone.now()).count()
        return format_html('<a href="{}">{}</a>', admin_url(Session, "changelist", q=user.id), number)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.revoke_view)
        return [path("<path:object_id>/revoke/", view, name=url_name(User, "revoke")), *super().get_urls()]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        user: User = context["original"]
        context["crumb"] = user.email
        context["tools"] = [link for each in self.links if (link := each(request, user))]
        if may_revoke(request, self.permission_to_revoke):
            context["tools"].append((admin_url(User, "revoke", user.id), "Revoke all sessions"))
        if may_see_sessions(request):
            newest = Session.objects.filter(user=user).order_by("-created_at", "-pk")[:MAX_SHOWN_SESSIONS]
            context["max_sessions"], context["columns"] = MAX_SHOWN_SESSIONS, list(display.SESSION_COLUMNS)
            context["sessions"] = [
                [column(session) for column in display.SESSION_COLUMNS.values()] for session in newest
            ]
        return super().render_change_form(request, context, *args, **kwargs)

    @property
    def permission_to_revoke(self) -> str:
        return f"{self.opts.app_label}.revoke_all_sessions"

    def revoke_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """``GET`` shows the page that confirms the revocation. ``POST`` revokes all sessions of the user."""
        is_allowed = self.has_view_permission(request) and may_revoke(request, self.permission_to_revoke)
        if not is_allowed:
            raise PermissionDenied
        user = self.get_object(request, unquote(object_id))
        if user is None:
            raise Http404
        page = admin_url(User, "change", user.id)
        if request.method == "POST":
            sessions.report_revoked(request, revoking.revoke_all_of(request, user.id))
            return HttpResponseRedirect(page)
        newest = Session.objects.filter(user=user).order_by("-created_at", "-pk")[:MAX_SHOWN_SESSIONS]
        context = {"title": f"Revoke all sessions of {user}", "user_of_all": user, "cancel_url": page}
        return sessions.confirmation_page(self, request, list(newest), context)
