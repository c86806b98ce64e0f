"""The admin of conversations. Staff with permission can read and delete conversations."""

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import BadRequest, PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from authn.admin import display
from authn.admin.display import admin_url, permission, url_name
from authn.admin.large_tables import LargeTableAdmin, ReadOnly
from authn.admin.search import by_email
from authn.admin.users import UserAdmin
from authn.models import User
from support.admin import activity, transcript
from support.conf import PER_ORGANIZATION, conf
from support.files import signed_urls
from support.models import Attachment, Thread
from support.storage.deletion import delete_threads

UNTITLED = "Untitled"


class LinkedFilter(admin.SimpleListFilter):
    """Lists the conversations of one user or organization.

    The filter offers no list of them, because there may be millions. Links in the list's columns set it.
    """

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        value = self.value()
        return [(value, value)] if value else []

    def has_output(self) -> bool:
        return self.value() is not None

    def queryset(self, request: HttpRequest, queryset: QuerySet[Thread]) -> QuerySet[Thread]:
        value = self.value()
        if value is None:
            return queryset
        # PostgreSQL raises an error for a NUL character in text.
        return queryset.none() if "\0" in value else self.of(value, queryset)

    def of(self, value: str, queryset: QuerySet[Thread]) -> QuerySet[Thread]:
        raise NotImplementedError


class OwnerFilter(LinkedFilter):
    title, parameter_name = "user", "user"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        user_id = self.value()
        if not user_id:
            return []
        user = _users(request, [user_id]).get(user_id)
        return [(user_id, user.email if user else user_id)]

    def of(self, value: str, queryset: QuerySet[Thread]) -> QuerySet[Thread]:
        return queryset.filter(user_id=value)


class OrganizationFilter(LinkedFilter):
    title, parameter_name = "organization", "organization"

    def of(self, value: str, queryset: QuerySet[Thread]) -> QuerySet[Thread]:
        # The second condition lets PostgreSQL use the partial index.
        return queryset.filter(organization_id=value).exclude(organization_id="")


class StartedFilter(admin.DateFieldListFilter):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = "start"


@admin.register(Thread)
class ThreadAdmin(ReadOnly, LargeTableAdmin):
    list_display = ["titled", "person", "messages", "feedback", "last_activity", "short_id"]
    list_filter = [OwnerFilter, OrganizationFilter, ("created_at", StartedFilter)]
    search_fields = ["thread_id", "user_id"]
    search_help_text = "By a complete conversation id, user id or email address."
    nothing_found = "Only whole email addresses and ids are searched, and no names, titles or messages."
    fields = ["user_link", "started", "last_activity_at", "thread_id"]
    readonly_fields = ["user_link", "started", "last_activity_at", "organization"]
    change_form_template = "support/admin/thread.html"

    class Media:
        css = {"all": ["support/admin.css"]}

    # ReadOnly forbids deletion. Conversations may be deleted with Django's own permission.
    has_delete_permission = admin.ModelAdmin.has_delete_permission

    def get_queryset(self, request: HttpRequest) -> QuerySet[Thread]:
        return super().get_queryset(request).defer("data")

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        linked = (OwnerFilter.parameter_name, OrganizationFilter.parameter_name)
        return lookup in (*linked, "created_at__gte", "created_at__lt")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Thread], search_term: str
    ) -> tuple[QuerySet[Thread], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        user_ids = list(User.objects.filter(by_email(term)).values_list("id", flat=True))
        return queryset.filter(Q(thread_id=term) | Q(user_id__in=[term, *user_ids])), False

    def load_related(self, request: HttpRequest, rows: list[Any]) -> None:
        users = _users(request, [thread.user_id for thread in rows])
        activities = activity.of_threads(rows)
        for thread in rows:
            thread.owner = users.get(thread.user_id)
            thread.activity = activities.get(thread.pk)  # None if it was deleted meanwhile

    # --- Columns and fields ---

    def get_list_display(self, request: HttpRequest) -> Any:
        return self._with_organization(self.list_display, after="person")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self._with_organization(self.fields, after="user_link")

    def _with_organization(self, names: Any, after: str) -> list[str]:
        if conf.SUPPORT_CONVERSATIONS != PER_ORGANIZATION:
            return list(names)
        position = names.index(after) + 1
        return [*names[:position], "organization", *names[position:]]

    @admin.display(description="organization")
    def organization(self, thread: Thread) -> SafeString | str:
        if not thread.organization_id:
            return "-"
        url = admin_url(Thread, "changelist", **{OrganizationFilter.parameter_name: thread.organization_id})
        return format_html('<a href="{}">{}</a>', url, display.short_id(thread.organization_id))

    @admin.display(description="title")
    def titled(self, thread: Thread) -> str:
        return (thread.title or "").strip() or UNTITLED

    @admin.display(description="person")
    def person(self, thread: Any) -> SafeString:
        query = urlencode({OwnerFilter.parameter_name: thread.user_id})
        return format_html('<a href="?{}" class="person">{}</a>', query, self._person(thread))

    @admin.display(description="user")
    def user_link(self, thread: Any) -> SafeString:
        url = admin_url(User, "change", thread.user_id)
        return format_html('<a href="{}" class="person">{}</a>', url, self._person(thread))

    def _person(self, thread: Any) -> SafeString:
        return display.person(thread.owner) if thread.owner else format_html("{}", thread.user_id)

    @admin.display(description="messages")
    def messages(self, thread: Any) -> str:
        return str(thread.activity.messages) if thread.activity else "-"

    @admin.display(description="feedback")
    def feedback(self, thread: Any) -> str:
        up, down = (thread.activity.positive, thread.activity.negative) if thread.activity else (0, 0)
        badges = [display.badge("good", f"{up} positive")] if up else []
        badges += [display.badge("bad", f"{down} negative")] if down else []
        return format_html_join(" ", "{}", ([each] for each in badges)) or "-"

    @admin.display(description="last activity")
    def last_activity(self, thread: Any) -> SafeString:
        return display.short_time(self._last_at(thread))

    @admin.display(description="last activity")
    def last_activity_at(self, thread: Any) -> SafeString:
        return display.long_time(self._last_at(thread))

    def _last_at(self, thread: Any) -> datetime:
        last_at: datetime | None = thread.activity and thread.activity.last_at
        return last_at or thread.created_at

    @admin.display(description="started")
    def started(self, thread: Thread) -> SafeString:
        return display.long_time(thread.created_at)

    @admin.display(description="id")
    def short_id(self, thread: Thread) -> SafeString:
        return display.short_id(thread.thread_id)

    # --- The page of a conversation ---

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        thread: Any = context["original"]
        self.load_related(request, [thread])
        context["subtitle"] = context["crumb"] = self.titled(thread)
        context["tools"] = [link for link in [link_to_conversations(request, thread.user_id)] if link]
        position = {name: _key(request.GET.get(name, "")) for name in ("before", "after")}
        context["transcript"] = transcript.page(thread, **position)
        context["attachment_page"] = f"admin:{url_name(Thread, 'attachment')}"
        return super().render_change_form(request, context, *args, **kwargs)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.attachment_view)
        route = "<int:thread>/attachments/<str:attachment_id>/"
        return [path(route, view, name=url_name(Thread, "attachment")), *super().get_urls()]

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


def _users(request: HttpRequest, user_ids: list[str]) -> dict[str, User]:
    """Return these users by id. Empty if this member of staff may not view users."""
    if not request.user.has_perm(permission(User, "view")):
        return {}
    return {user.id: user for user in User.objects.filter(id__in=set(user_ids))}


def link_to_conversations(request: HttpRequest, user_id: str) -> tuple[str, str] | None:
    if not request.user.has_perm(permission(Thread, "view")):
        return None
    return admin_url(Thread, "changelist", **{OwnerFilter.parameter_name: user_id}), "Conversations"


UserAdmin.links.append(lambda request, user: link_to_conversations(request, user.id))


def _key(text: str) -> int | None:
    """Return the text as a primary key, or ``None`` if it is not a number that fits a bigint."""
    return int(text) if text.isdecimal() and len(text) < 19 else None
