"""The admin of sessions: the permissions, the list, and the pages that confirm a revocation."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.html import format_html
from django.utils.safestring import SafeString

from authn.admin import display, large_tables, revoking
from authn.admin.display import admin_url, permission, url_name
from authn.admin.filters import ImpersonatedFilter, StateFilter
from authn.admin.large_tables import BetterAuthAdmin
from authn.admin.search import by_email, by_ip_address, is_ip_address
from authn.conf import conf
from authn.models import Session, User

HAS_ADMIN_PLUGIN = "admin" in conf.BETTER_AUTH_PLUGINS


def may_see_sessions(request: HttpRequest) -> bool:
    """Whether the sessions are in the database, and the user has the permission to view them.

    We cannot list sessions that are in Redis, and then there may be no session table.
    """
    is_stored = conf.BETTER_AUTH_SESSION_SOURCE == "database"
    return is_stored and request.user.has_perm(permission(Session, "view"))


def may_revoke(request: HttpRequest, needed: str) -> bool:
    """``needed``: a permission, such as "authn.revoke_session"."""
    if not (may_see_sessions(request) and request.user.has_perm(needed)):
        return False
    # Django calls this several times in a request. Query the database only once.
    if not hasattr(request, "can_delete_sessions"):
        setattr(request, "can_delete_sessions", revoking.is_possible())  # noqa: B010 - not an HttpRequest attribute
    return bool(getattr(request, "can_delete_sessions"))  # noqa: B009


@admin.register(Session)
class SessionAdmin(BetterAuthAdmin):
    list_display = ["person", "state", "device", "address", "last_seen", "expires", "short_id"]
    list_filter = [StateFilter, *([ImpersonatedFilter] if HAS_ADMIN_PLUGIN else [])]
    fields = [
        "user_link",
        "state",
        "device",
        "address",
        "signed_in_at",
        "seen_at",
        "expires_on",
        *(["impersonated_by"] if HAS_ADMIN_PLUGIN else []),
        "user_agent",
        "id",
    ]
    readonly_fields = ["user_link", "state", "device", "address", "signed_in_at", "seen_at", "expires_on"]
    search_fields = ["id", "user__email", "user__id", "ip_address"]
    nothing_found = (
        "Only whole email addresses and ids are searched, and IP addresses or their beginnings, "
        "which must end with a dot or a colon."
    )
    search_help_text = (
        "By a complete email address, user id or session id. Or by an IP address or its beginning, such as "
        "203.0.113. with the dot: if that column has no index, only the sessions of this list are searched."
    )
    actions = ["revoke"]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_see_sessions(request)

    # --- Columns and fields ---

    @admin.display(description="person")
    def person(self, session: Session) -> SafeString:
        return display.person(session.user)

    @admin.display(description="user")
    def user_link(self, session: Session) -> SafeString:
        url = admin_url(User, "change", session.user_id)
        return format_html('<a href="{}" class="person">{}</a>', url, display.person(session.user))

    @admin.display(description="state")
    def state(self, session: Session) -> SafeString:
        return display.session_state(session)

    @admin.display(description="device")
    def device(self, session: Session) -> str:
        return display.session_device(session)

    @admin.display(description="address", empty_value="-")
    def address(self, session: Session) -> str | None:
        return session.ip_address

    @admin.display(description="last seen")
    def last_seen(self, session: Session) -> SafeString:
        return display.short_time(session.updated_at)

    @admin.display(description="expires")
    def expires(self, session: Session) -> SafeString:
        return display.short_time(session.expires_at, past="shown")

    @admin.display(description="id")
    def short_id(self, session: Session) -> SafeString:
        return display.short_id(session.id)

    @admin.display(description="signed in")
    def signed_in_at(self, session: Session) -> SafeString:
        return display.long_time(session.created_at)

    @admin.display(description="last seen")
    def seen_at(self, session: Session) -> SafeString:
        note = "Better Auth writes this time when it extends the session: once a day by default."
        return format_html('{}<p class="help">{}</p>', display.long_time(session.updated_at), note)

    @admin.display(description="expires")
    def expires_on(self, session: Session) -> SafeString:
        return display.long_time(session.expires_at)

    # --- The list ---

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

    # --- Revoking ---

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return may_revoke(request, permission(Session, "revoke"))

    @admin.action(description="Revoke the chosen sessions", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Session]) -> HttpResponse | None:
        chosen = list(queryset)
        if "confirmed" in request.POST:
            report_revoked(request, revoking.revoke(request, [session.id for session in chosen]))
            return None
        self.load_related(request, chosen)
        posted = [(ACTION_CHECKBOX_NAME, session.id) for session in chosen]
        context = {"title": "Revoke sessions", "posted": [("action", "revoke"), *posted]}
        return confirmation_page(
            self, request, chosen, context | {"cancel_url": admin_url(Session, "changelist")}
        )

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.revoke_view)
        return [path("<path:object_id>/revoke/", view, name=url_name(Session, "revoke")), *super().get_urls()]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        session: Session = context["original"]
        user = User.objects.filter(id__stored=[session.user_id]).first()
        # Do not show the id here: it is one of the fields of the page.
        context["subtitle"] = context["crumb"] = user.email if user else "Unknown user"
        if self.has_revoke_permission(request):
            context["tools"] = [(admin_url(Session, "revoke", session.id), "Revoke")]
        return super().render_change_form(request, context, *args, **kwargs)

    def revoke_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """``GET`` shows the page that confirms the revocation. ``POST`` revokes this session."""
        if not self.has_revoke_permission(request):
            raise PermissionDenied
        session = self.get_object(request, unquote(object_id))
        if session is None:
            raise Http404
        if request.method == "POST":
            report_revoked(request, revoking.revoke(request, [session.id]))
            return HttpResponseRedirect(admin_url(Session, "changelist", q=session.user_id))
        context = {"title": "Revoke this session", "cancel_url": admin_url(Session, "change", session.id)}
        return confirmation_page(self, request, [session], context)


def confirmation_page(
    model_admin: BetterAuthAdmin, request: HttpRequest, chosen: list[Session], context: dict[str, Any]
) -> HttpResponse:
    """``context``: ``title``, ``cancel_url``, ``posted`` (hidden fields of the form), and ``user_of_all``:
    the user, if all sessions of this user are revoked."""
    own = {"opts": model_admin.opts, "media": model_admin.media, "sessions": chosen}
    whole = {**model_admin.admin_site.each_context(request), **own, **context}
    return TemplateResponse(request, "authn/admin/revoke.html", whole)


def report_revoked(request: HttpRequest, revoked: list[revoking.Revoked]) -> None:
    number = len(revoked)
    text = (
        f"{number} session{'' if number == 1 else 's'} revoked." if number else "There was nothing to revoke."
    )
    messages.add_message(request, messages.SUCCESS if number else messages.WARNING, text)
