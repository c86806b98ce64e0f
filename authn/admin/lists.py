"""List pages of tables that may have millions of rows: each shows a part that PostgreSQL finds at once.

Better Auth makes no index on ``createdAt``, so "newest first" would have PostgreSQL read the whole table for
one page of it. And Django would count, for a number that nobody needs.
"""

from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.contrib.humanize.templatetags.humanize import naturaltime
from django.core.paginator import Paginator
from django.db import connections
from django.db.models import BooleanField, QuerySet
from django.db.models.expressions import RawSQL
from django.http import Http404, HttpRequest, HttpResponseBase
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString

NEWEST = 10_000  # rows that a list without a search goes through, where an index has them in order
LAST_STORED = 1_000  # pages of the table, 8 MB, where there is none; a shorter table is sorted whole
DEEPEST = 100  # pages of a list: whoever is looking for something further down is better off searching

# Whether any row of a column can be found, or the rows be had in its order, without reading the table.
SIZE_AND_INDEX = """
SELECT pg_relation_size(c.oid) / current_setting('block_size')::int,
       has_column_privilege(c.oid, 'ctid', 'SELECT'),
       EXISTS (SELECT FROM pg_index i
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
               JOIN pg_opclass o ON o.oid = i.indclass[0]
               WHERE i.indrelid = c.oid AND a.attname = %s AND o.opcname LIKE %s
               AND i.indisvalid AND i.indpred IS NULL
               AND pg_index_column_has_property(i.indexrelid, 1, 'orderable'))
FROM pg_class c WHERE c.oid = %s::regclass
"""


def ago(moment: datetime) -> SafeString:
    """In words, with the exact time for whoever points at it."""
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        moment.isoformat(),
        date_format(moment, "Y-m-d H:i:s"),
        naturaltime(moment),
    )


class ReadOnly:
    """Whoever may view may view; nobody may do anything else, a superuser included."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class AtLeast(int):
    """How many there are as far as one has looked: more follow."""

    def __str__(self) -> str:
        return f"{int(self)}+"


class UncountedList(ChangeList):
    """One page, and whether another follows."""

    model_admin: "LongTable"

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        queryset = super().get_queryset(request, exclude_parameters)
        if not self.model_admin.is_long(self.query):
            return queryset
        queryset, which = latest(queryset)
        self.search_help_text = f"{self.search_help_text or ''} {which}".strip()
        return queryset

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        """The table's own or a filter's, whatever an address made by hand says: no index would have that."""
        return queryset.query.order_by

    def get_results(self, request: HttpRequest) -> None:
        if not 1 <= self.page_num <= DEEPEST:
            raise IncorrectLookupParameters
        before = (self.page_num - 1) * self.list_per_page
        rows = list(self.queryset[before : before + self.list_per_page + 1])
        if before and not rows:
            raise IncorrectLookupParameters
        seen, is_last = before + len(rows), len(rows) <= self.list_per_page
        self.result_list: Any = rows[: self.list_per_page]
        self.result_count = seen if is_last else AtLeast(seen - 1)
        self.paginator = Paginator(range(seen if self.page_num < DEEPEST else before + 1), self.list_per_page)
        self.multi_page = self.paginator.num_pages > 1
        self.show_full_result_count = self.can_show_all = False
        self.full_result_count = None
        self.show_admin_actions = True
        self.model_admin.look_up_more(request, self.result_list)


class LongTable(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs alone
    """Newest first, in no other order, and never as a whole: neither counted nor acted upon."""

    ordering = ["-created_at", "-pk"]
    list_per_page = 50
    list_select_related = ()  # a join would be sorted with the rows that the page does not show
    sortable_by = ()
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return UncountedList

    def is_long(self, sought: str) -> bool:
        """Whether the list would be of more rows than can be had in order."""
        return False

    def look_up_more(self, request: HttpRequest, rows: list[Any]) -> None:
        """What a page shows beside its rows, asked for all of them at once."""

    def get_paginator(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any) -> Any:
        """Of a history. Of the table it would be for Django's autocomplete, which nothing of ours uses, and
        which counts and sorts all of it for whoever may view one row."""
        if queryset.model is self.model:
            raise Http404
        return super().get_paginator(request, queryset, *args, **kwargs)

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponseBase | None:  # type: ignore[override]
        """On what was ticked alone, wherever the list has moved to since; never on "all", however posted."""
        chosen = self.get_queryset(request).filter(pk__in=request.POST.getlist(ACTION_CHECKBOX_NAME))
        return super().response_action(request, chosen)


def latest(queryset: QuerySet[Any]) -> tuple[QuerySet[Any], str]:
    """Those of the rows that are the latest in their order, or were stored last; and words for which."""
    model, field = queryset.model, str(queryset.query.order_by[0]).removeprefix("-")
    pages, may_see_places, is_in_order = _size_and_index(queryset, field)
    if is_in_order:
        past = model._default_manager.using(queryset.db).filter(**{f"{field}__lte": timezone.now()})
        oldest = past.order_by(f"-{field}").values_list(field)[NEWEST - 1 : NEWEST].first()
        # A value, and no subquery: PostgreSQL could not tell how few rows are behind it, and would not
        # use the index.
        since = oldest[0] if oldest else datetime.min.replace(tzinfo=UTC)
        return queryset.filter(**{f"{field}__gte": since}), f"This list is of the latest {NEWEST:,}."
    if pages <= LAST_STORED or not may_see_places:
        return queryset, ""
    table = connections[queryset.db].ops.quote_name(model._meta.db_table)
    first = f"({pages - LAST_STORED},0)"
    is_stored_last = RawSQL(f"{table}.ctid >= %s::tid", [first], output_field=BooleanField())  # noqa: S611  # our words
    return queryset.filter(is_stored_last), (
        "This list is of those at the end of the table, where the database puts new ones unless there is "
        "room elsewhere: for the latest of all it needs an index (docs/compatibility.md)."
    )


def are_many(queryset: QuerySet[Any]) -> bool:
    return queryset[NEWEST : NEWEST + 1].exists()


def has_index_of_beginnings(queryset: QuerySet[Any], field: str) -> bool:
    """Of text_pattern_ops: any other, PostgreSQL can only use for a beginning where the locale is C."""
    return _size_and_index(queryset, field, "%pattern_ops")[2]


def _size_and_index(queryset: QuerySet[Any], field: str, kind: str = "%") -> tuple[int, bool, bool]:
    """How many pages the table has, whether we may see where a row is, and whether ``field`` has an index."""
    connection, options = connections[queryset.db], queryset.model._meta
    if connection.vendor != "postgresql":
        return 0, False, False  # SQLite, on somebody's laptop
    table, column = connection.ops.quote_name(options.db_table), options.get_field(field).column
    with connection.cursor() as cursor:
        cursor.execute(SIZE_AND_INDEX, [column, kind, table])
        pages, may_see_places, is_indexed = cursor.fetchone()
    return pages, may_see_places, is_indexed
