"""List pages for tables with millions of rows. Each shows only rows that PostgreSQL finds fast.

Better Auth makes no index on ``createdAt``. So for one page of "newest first", PostgreSQL would read the
whole table. Django would also count all rows.
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

MAX_ROWS = 10_000  # of a list without a search, if the order has an index
MAX_HEAP_PAGES = 1_000  # 8 MB, if the order has no index; PostgreSQL sorts a smaller table
MAX_LIST_PAGES = 100  # to find something further down, one has to search

# The table's size in pages, whether our role may read row locations (ctid), and whether an index has the
# column first and can return the rows in its order.
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


def relative_time(moment: datetime) -> SafeString:
    """Such as "3 hours ago", with the exact time as a tooltip."""
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        moment.isoformat(),
        date_format(moment, "Y-m-d H:i:s"),
        naturaltime(moment),
    )


class ReadOnly:
    """Nobody may add, change or delete, not even a superuser."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class AtLeast(int):
    """The number of rows so far, if more follow."""

    def __str__(self) -> str:
        return f"{int(self)}+"


class UncountedChangeList(ChangeList):
    """Loads one page and one more row, to see whether another page follows. Counts nothing."""

    model_admin: "LargeTableAdmin"

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        queryset = super().get_queryset(request, exclude_parameters)
        if not self.model_admin.is_limited(self.query):
            return queryset
        queryset, description = limit_to_newest(queryset)
        self.search_help_text = f"{self.search_help_text or ''} {description}".strip()
        return queryset

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        """The admin's order or the filter's. A URL's order is ignored: it could be one without an index."""
        return queryset.query.order_by

    def get_results(self, request: HttpRequest) -> None:
        if not 1 <= self.page_num <= MAX_LIST_PAGES:
            raise IncorrectLookupParameters
        before = (self.page_num - 1) * self.list_per_page
        rows = list(self.queryset[before : before + self.list_per_page + 1])
        if before and not rows:
            raise IncorrectLookupParameters
        seen, is_last = before + len(rows), len(rows) <= self.list_per_page
        self.result_list: Any = rows[: self.list_per_page]
        self.result_count = seen if is_last else AtLeast(seen - 1)
        self.paginator = Paginator(
            range(seen if self.page_num < MAX_LIST_PAGES else before + 1), self.list_per_page
        )
        self.multi_page = self.paginator.num_pages > 1
        self.show_full_result_count = self.can_show_all = False
        self.full_result_count = None
        self.show_admin_actions = True
        self.model_admin.load_related(request, self.result_list)


class LargeTableAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic only in the stubs
    """Lists the newest rows first. There is no other order, no count, and no action on all rows."""

    ordering = ["-created_at", "-pk"]
    list_per_page = 50
    list_select_related = ()  # PostgreSQL would join all rows before it sorts them
    sortable_by = ()
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return UncountedChangeList

    def is_limited(self, search_term: str) -> bool:
        """Whether this list shows only the latest rows, because there may be too many to sort."""
        return False

    def load_related(self, request: HttpRequest, rows: list[Any]) -> None:
        """Load what a page shows beside its rows, with one query for all rows."""

    def get_paginator(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any) -> Any:
        """Django uses it for an object's history and for autocomplete. We have no autocomplete, and its view
        would count and sort the whole table."""
        if queryset.model is self.model:
            raise Http404
        return super().get_paginator(request, queryset, *args, **kwargs)

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponseBase | None:  # type: ignore[override]
        """Act on the ticked rows only, even if they are on another page by now. Never act on all rows."""
        chosen = self.get_queryset(request).filter(pk__in=request.POST.getlist(ACTION_CHECKBOX_NAME))
        return super().response_action(request, chosen)


class BetterAuthAdmin(ReadOnly, LargeTableAdmin):
    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Only our filters. Other lookups in a URL could compare an id to a wrong type, or use a column
        without an index."""
        return any(lookup == each.parameter_name for each in self.list_filter)  # type: ignore[union-attr]

    def is_limited(self, search_term: str) -> bool:
        return not search_term


def limit_to_newest(queryset: QuerySet[Any]) -> tuple[QuerySet[Any], str]:
    """The latest rows in the queryset's order, or the last rows of the table; and a text that says which."""
    model, field = queryset.model, str(queryset.query.order_by[0]).removeprefix("-")
    pages, may_read_ctid, is_indexed = _size_and_index(queryset, field)
    if is_indexed:
        past = model._default_manager.using(queryset.db).filter(**{f"{field}__lte": timezone.now()})
        oldest = past.order_by(f"-{field}").values_list(field)[MAX_ROWS - 1 : MAX_ROWS].first()
        # A value and not a subquery: with a subquery, PostgreSQL cannot estimate how few rows match, and does
        # not use the index.
        since = oldest[0] if oldest else datetime.min.replace(tzinfo=UTC)
        return queryset.filter(**{f"{field}__gte": since}), f"This list has the latest {MAX_ROWS:,}."
    if pages <= MAX_HEAP_PAGES or not may_read_ctid:
        return queryset, ""
    table = connections[queryset.db].ops.quote_name(model._meta.db_table)
    first = f"({pages - MAX_HEAP_PAGES},0)"
    is_stored_last = RawSQL(f"{table}.ctid >= %s::tid", [first], output_field=BooleanField())  # noqa: S611  # no text from outside
    return queryset.filter(is_stored_last), (
        "This list has the rows at the end of the table. The database puts most new rows there. "
        "To list all the latest, the table needs an index (docs/compatibility.md)."
    )


def exceeds_limit(queryset: QuerySet[Any]) -> bool:
    return queryset[MAX_ROWS : MAX_ROWS + 1].exists()


def has_prefix_index(queryset: QuerySet[Any], field: str) -> bool:
    """Whether ``field`` has an index with text_pattern_ops. PostgreSQL uses other indexes for a prefix only
    in the C locale."""
    return _size_and_index(queryset, field, "%pattern_ops")[2]


def _size_and_index(queryset: QuerySet[Any], field: str, kind: str = "%") -> tuple[int, bool, bool]:
    """See ``SIZE_AND_INDEX``. ``kind``: a pattern for the name of the index's operator class."""
    connection, options = connections[queryset.db], queryset.model._meta
    if connection.vendor != "postgresql":
        return 0, False, False  # SQLite is only for development
    table, column = connection.ops.quote_name(options.db_table), options.get_field(field).column
    with connection.cursor() as cursor:
        cursor.execute(SIZE_AND_INDEX, [column, kind, table])
        pages, may_read_ctid, is_indexed = cursor.fetchone()
    return pages, may_read_ctid, is_indexed
