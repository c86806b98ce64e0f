"""The admin of conversations. Staff with permission can read and delete conversations."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import quote
from django.core.exceptions import BadRequest, PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from authn.admin.large_tables import LargeTableAdmin, ReadOnly, relative_time
from authn.admin.search import by_email
from authn.models import User
from support.admin import transcript
from support.files import signed_urls
from support.models import Attachment, Thread
from support.storage.deletion import delete_threads


class OwnerFilter(admin.SimpleListFilter):
    """Lists one user's conversations.

    The filter offers no list of users, because there may be millions. The links in the column "user" set the
    filter.
    """

    title, parameter_name = "user", "user"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        user_id = self.value()
        return [(user_id, user_id)] if user_id else []

    def has_output(self) -> bool:
        return self.value() is not None

    def queryset(self, request: HttpRequest, queryset: QuerySet[Thread]) -> QuerySet[Thread]:
        user_id = self.value()
        if user_id is None:
            return queryset
        # PostgreSQL raises an error for a NUL character in text.
        return queryset.none() if "\0" in user_id else queryset.filter(user_id=user_id)


@admin.register(Thread)
class ThreadAdmin(ReadOnly, LargeTableAdmin):
    list_display = ["thread_id", "title", "user_filter_link", "started"]
    list_filter = [OwnerFilter, "created_at"]
    search_fields = ["thread_id", "user_id"]
    search_help_text = "Search for a complete conversation id, user id or email address."
    fields = ["thread_id", "title", "user_link", "started"]
    readonly_fields = ["user_link", "started"]

    # ReadOnly forbids deletion. For conversations, Django's permission decides.
    has_delete_permission = admin.ModelAdmin.has_delete_permission

    def get_queryset(self, request: HttpRequest) -> QuerySet[Thread]:
        return super().get_queryset(request).defer("data")

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return lookup in (OwnerFilter.parameter_name, "created_at__gte", "created_at__lt")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Thread], search_term: str
    ) -> tuple[QuerySet[Thread], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        user_ids = list(User.objects.filter(by_email(term)).values_list("id", flat=True))
        return queryset.filter(Q(thread_id=term) | Q(user_id__in=[term, *user_ids])), False

    @admin.display(description="user")
    def user_filter_link(self, thread: Thread) -> SafeString:
        query = urlencode({OwnerFilter.parameter_name: thread.user_id})
        return format_html('<a href="?{}">{}</a>', query, thread.user_id)

    @admin.display(description="user")
    def user_link(self, thread: Thread) -> SafeString:
        url = reverse("admin:authn_user_change", args=[quote(thread.user_id)])
        return format_html('<a href="{}">{}</a>', url, thread.user_id)

    @admin.display(description="started")
    def started(self, thread: Thread) -> SafeString:
        return relative_time(thread.created_at)

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        position = {name: _key(request.GET.get(name, "")) for name in ("before", "after")}
        context["transcript"] = transcript.page(obj, **position)
        return super().render_change_form(request, context, add, change, form_url, obj)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.attachment_view)
        route = "<int:thread>/attachments/<str:attachment_id>/"
        return [path(route, view, name="support_thread_attachment"), *super().get_urls()]

    def attachment_view(self, request: HttpRequest, thread: int, attachment_id: str) -> HttpResponse:
        """Redirect to the signed URL of the file.

        The page of the conversation has no signed URLs, because staff may keep the page open for longer than
        a signed URL is valid.
        """
        if not self.has_view_permission(request):
            raise PermissionDenied
        in_thread = self.get_object(request, str(thread))
        if in_thread is None or "\0" in attachment_id:  # PostgreSQL raises an error for NUL
            raise Http404
        uploaded = Attachment.objects.owned_by(in_thread.user_id).exclude(file="")
        attachment = uploaded.filter(attachment_id=attachment_id).first()
        carrying = in_thread.items.filter(data__attachments__contains=[{"id": attachment_id}])
        if attachment is None or not carrying.exists():
            raise Http404
        with signed_urls.use_host_of(request):
            return HttpResponseRedirect(str(signed_urls.content_url(attachment.user_id, attachment_id)))

    def response_action(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        chosen = request.POST.getlist(ACTION_CHECKBOX_NAME)
        if any(_key(each) is None for each in chosen):  # Django would answer 500
            raise BadRequest
        return super().response_action(request, *args, **kwargs)

    def delete_model(self, request: HttpRequest, obj: Thread) -> None:
        self.delete_queryset(request, Thread.objects.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Thread]) -> None:
        """Delete the conversations with their items, feedback, attachments and files."""
        for _ in delete_threads(Thread.objects.filter(pk__in=list(queryset.values_list("pk", flat=True)))):
            pass


def _key(text: str) -> int | None:
    """Return the text as a primary key, or ``None`` if it is not a number that fits a bigint."""
    return int(text) if text.isdecimal() and len(text) < 19 else None
