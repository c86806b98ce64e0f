"""Conversations, for support staff to read, and to delete where they may."""

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

from authn.admin.lists import LongTable, ReadOnly, ago
from authn.admin.sessions import by_email
from authn.models import User
from support.admin import transcript
from support.files import signed_urls
from support.models import Attachment, Thread
from support.storage.deletion import delete_threads


class OwnerFilter(admin.SimpleListFilter):
    """Nobody could choose from all users: whose conversations are listed is chosen in the list itself."""

    title, parameter_name = "user", "user"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        chosen = self.value()
        return [(chosen, chosen)] if chosen else []

    def has_output(self) -> bool:
        return self.value() is not None

    def queryset(self, request: HttpRequest, queryset: QuerySet[Thread]) -> QuerySet[Thread]:
        chosen = self.value()
        if chosen is None:
            return queryset
        # PostgreSQL would refuse a NUL in any text.
        return queryset.none() if "\0" in chosen else queryset.filter(user_id=chosen)


@admin.register(Thread)
class ThreadAdmin(ReadOnly, LongTable):
    list_display = ["thread_id", "title", "of_user", "started"]
    list_filter = [OwnerFilter, "created_at"]
    search_fields = ["thread_id", "user_id"]
    search_help_text = "By a whole conversation id, user id or e-mail address."
    fields = ["thread_id", "title", "owner", "started"]
    readonly_fields = ["owner", "started"]

    # What ReadOnly forbids and conversations allow, to whoever has the right.
    has_delete_permission = admin.ModelAdmin.has_delete_permission

    def get_queryset(self, request: HttpRequest) -> QuerySet[Thread]:
        return super().get_queryset(request).defer("data")

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return lookup in (OwnerFilter.parameter_name, "created_at__gte", "created_at__lt")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Thread], search_term: str
    ) -> tuple[QuerySet[Thread], bool]:
        sought = search_term.strip()
        if not sought:
            return queryset, False
        users = list(User.objects.filter(by_email(sought)).values_list("id", flat=True))
        return queryset.filter(Q(thread_id=sought) | Q(user_id__in=[sought, *users])), False

    @admin.display(description="user")
    def of_user(self, thread: Thread) -> SafeString:
        address = urlencode({OwnerFilter.parameter_name: thread.user_id})
        return format_html('<a href="?{}">{}</a>', address, thread.user_id)

    @admin.display(description="user")
    def owner(self, thread: Thread) -> SafeString:
        address = reverse("admin:authn_user_change", args=[quote(thread.user_id)])
        return format_html('<a href="{}">{}</a>', address, thread.user_id)

    @admin.display(description="started")
    def started(self, thread: Thread) -> SafeString:
        return ago(thread.created_at)

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        places = {name: _number(request.GET.get(name, "")) for name in ("before", "after")}
        context["transcript"] = transcript.page(obj, **places)
        return super().render_change_form(request, context, add, change, form_url, obj)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.attachment_view)
        address = "<int:thread>/attachments/<str:attachment_id>/"
        return [path(address, view, name="support_thread_attachment"), *super().get_urls()]

    def attachment_view(self, request: HttpRequest, thread: int, attachment_id: str) -> HttpResponse:
        """To the file, by an address that is good for minutes: the page may be open for longer."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        in_thread = self.get_object(request, str(thread))
        if in_thread is None or "\0" in attachment_id:  # PostgreSQL would refuse a NUL
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
        if any(_number(each) is None for each in chosen):  # which Django would compare with numbers: a 500
            raise BadRequest
        return super().response_action(request, *args, **kwargs)

    def delete_model(self, request: HttpRequest, obj: Thread) -> None:
        self.delete_queryset(request, Thread.objects.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Thread]) -> None:
        """With all that belongs to them, files included."""
        for _ in delete_threads(Thread.objects.filter(pk__in=list(queryset.values_list("pk", flat=True)))):
            pass


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 19 else None
