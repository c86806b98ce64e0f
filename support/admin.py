"""Conversations, for support staff to read."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from authn.admin import ReadOnly
from support.models import Item, Thread


class ItemInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]  # generic in the stubs alone
    model = Item
    fields = ["type", "created_at", "rated", "data"]
    readonly_fields = ["rated"]
    ordering = ["id"]
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[Item]:
        return super().get_queryset(request).select_related("feedback")

    @admin.display(description="feedback")
    def rated(self, item: Item) -> str:
        return item.feedback.get_kind_display() if hasattr(item, "feedback") else ""


@admin.register(Thread)
class ThreadAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs alone
    list_display = ["thread_id", "title", "user_id", "created_at"]
    search_fields = ["=thread_id", "=user_id"]
    ordering = ["-id"]
    show_full_result_count = False
    fields = ["thread_id", "user_id", "title", "created_at"]
    inlines = [ItemInline]
