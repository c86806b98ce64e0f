"""The filters of the admin's lists."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from authn.models import Session


class ChoiceFilter(admin.SimpleListFilter):
    options: list[tuple[str, str]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return self.options


class StateFilter(ChoiceFilter):
    title = parameter_name = "state"
    options = [("active", "Active"), ("expired", "Expired")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Session]) -> QuerySet[Session]:
        match self.value():
            case "active":
                return queryset.filter(expires_at__gt=timezone.now())
            case "expired":
                # Order by expiry. A list has only the newest rows, and the newest rows by sign-in may all be
                # active.
                return queryset.filter(expires_at__lte=timezone.now()).order_by("-expires_at", "-pk")
        return queryset


class ImpersonatedFilter(ChoiceFilter):
    title = parameter_name = "impersonated"
    options = [("yes", "Impersonated"), ("no", "Their own")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Session]) -> QuerySet[Session]:
        own = Q(impersonated_by=None) | Q(impersonated_by="")
        match self.value():
            case "yes":
                return queryset.exclude(own)
            case "no":
                return queryset.filter(own)
        return queryset


class BannedFilter(ChoiceFilter):
    title = parameter_name = "banned"
    options = [("yes", "Banned"), ("no", "Not banned")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        has_ended = Q(ban_expires__lte=timezone.now())  # as in User.is_banned
        match self.value():
            case "yes":
                return queryset.filter(banned=True).exclude(has_ended)
            case "no":
                return queryset.filter(Q(banned=None) | Q(banned=False) | has_ended)
        return queryset
