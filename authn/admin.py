"""Users and sessions for the people who answer for them: to look at, not to change.

The tables are Better Auth's. Tokens and secrets are not on the models, so no page can show them.
"""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from authn.conf import conf
from authn.models import Session, User

# What Better Auth's own admin plugin adds, where it is declared.
HAS_ADMIN_PLUGIN = "admin" in conf.BETTER_AUTH_PLUGINS
OF_ADMIN_IN_USER = ["role", "banned"] if HAS_ADMIN_PLUGIN else []
OF_ADMIN_IN_SESSION = ["impersonated_by"] if HAS_ADMIN_PLUGIN else []


class ReadOnly:
    """Whoever may view may view; nobody may do anything else, a superuser included."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ActiveFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("active", "Active"), ("expired", "Expired")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Session]) -> QuerySet[Session]:
        match self.value():
            case "active":
                return queryset.filter(expires_at__gt=timezone.now())
            case "expired":
                return queryset.filter(expires_at__lte=timezone.now())
        return queryset


class SearchedNotFiltered:
    """An address made by hand could compare an id to anything, which PostgreSQL would not have."""

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return lookup == ActiveFilter.parameter_name


class OfSessions:
    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody's, where sessions are in Redis: there may be no table to show."""
        is_there = conf.BETTER_AUTH_SESSION_SOURCE == "database"
        return is_there and super().has_view_permission(request, obj)  # type: ignore[misc]

    @admin.display(boolean=True)
    def active(self, session: Session) -> bool:
        return session.is_active


class SessionInline(ReadOnly, OfSessions, admin.TabularInline):  # type: ignore[type-arg]  # generic in the stubs alone
    model = Session
    fields = ["id", "active", "created_at", "expires_at", "ip_address", "user_agent", *OF_ADMIN_IN_SESSION]
    readonly_fields = ["active"]
    ordering = ["-created_at"]
    extra = 0
    show_change_link = True


@admin.register(User)
class UserAdmin(ReadOnly, SearchedNotFiltered, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs alone
    list_display = ["email", "name", "id", "email_verified", "created_at", *OF_ADMIN_IN_USER]
    # "=email" would be iexact: no index answers it.
    search_fields = ["email__exact", "id__exact"]
    ordering = ["-created_at"]
    show_full_result_count = False
    inlines = [SessionInline]


@admin.register(Session)
class SessionAdmin(ReadOnly, SearchedNotFiltered, OfSessions, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs alone
    list_display = ["id", "user", "active", "created_at", "expires_at", "ip_address", *OF_ADMIN_IN_SESSION]
    list_filter = [ActiveFilter]
    list_select_related = ["user"]
    search_fields = ["id__exact", "user__email__exact", "user__id__exact"]
    ordering = ["-created_at"]
    show_full_result_count = False
