"""Conversations, for support staff to read."""

from django.contrib import admin

from authn.admin import ReadOnly
from support.models import Item, Thread


class ItemInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]  # generic in the stubs alone
    model = Item
    fields = ["type", "created_at", "data"]
    ordering = ["id"]
    extra = 0


@admin.register(Thread)
class ThreadAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs alone
    list_display = ["thread_id", "title", "user_id", "created_at"]
    search_fields = ["=thread_id", "=user_id"]
    ordering = ["-id"]
    show_full_result_count = False
    fields = ["thread_id", "user_id", "title", "created_at"]
    inlines = [ItemInline]
