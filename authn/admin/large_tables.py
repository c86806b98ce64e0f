"""Base classes for the admin of large tables. A list shows only rows that PostgreSQL finds fast.

Better Auth creates no index on ``createdAt``. So PostgreSQL would read the whole table to find the newest 50
rows. Django's own list page would also count all rows of the table.
"""

from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import SEARCH_VAR, ChangeList
from django.core.paginator import Paginator
from django.db import connections
from django.db.models import BooleanField, QuerySet
from django.db.models.expressions import RawSQL
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone

# The limits of a list without a search. If the list's order has an index, the list has MAX_ROWS rows. Without
# an index, it has the rows in the last MAX_HEAP_PAGES pages of the table's file (8 MB).
MAX_ROWS = 10_000
MAX_HEAP_PAGES = 1_000
MAX_LIST_PAGES = 100  # pages that staff can open; to find later rows, they have to search

# Selects three values: the table's size in pages of its file, whether our role may read the rows' positions
# in the file (ctid), and whether an index can return the rows in the order of the column.
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


class ReadOnly:
    """Lets nobody add, change or delete objects, not even a superuser."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class AtLeast(int):
    """A number of rows that have been counted, while there are more. Shown as "50+"."""

    def __str__(self) -> str:
        return f"{int(self)}+"


class UncountedChangeList(ChangeList):
    """Loads one page of rows, and one more row to see whether another page follows. Never counts rows."""

    model_admin: "LargeTableAdmin"
    search_var = SEARCH_VAR  # for the template of the search box

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        queryset = super().get_queryset(request, exclude_parameters)
        if not self.model_admin.is_limited(self.query):
            return queryset
        queryset, description = limit_to_newest(queryset)
        self.search_help_text = f"{self.search_help_text or ''} {description}".strip()
        return queryset

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        """Returns the order of the admin or the filter. Ignores the URL's order: it may have no index."""
        return queryset.query.order_by

    def get_results(self, request: HttpRequest) -> None:
        if not 1 <= self.page_num <= MAX_LIST_PAGES:
            raise IncorrectLookupParameters
        before = (self.page_num - 1) * self.list_per_page
        rows = list(self.queryset[before : before + self.list_per_page + 1])
        if before and not rows:
            raise IncorrectLookupParameters
        known, is_last = before + len(rows), len(rows) <= self.list_per_page
        self.result_list: Any = rows[: self.list_per_page]
        self.result_count = known if is_last else AtLeast(known - 1)
        # Django shows a link to each page of this paginator: to all pages up to this one, and to the next
        # page if there is one.
        self.paginator = Paginator(
            range(known if self.page_num < MAX_LIST_PAGES else before + 1), self.list_per_page
        )
        self.multi_page = self.paginator.num_pages > 1
        self.show_full_result_count = self.can_show_all = False
        self.full_result_count = None
        self.show_admin_actions = True
        self.model_admin.load_related(request, self.result_list)


class LargeTableAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic only in the stubs
    """Lists the newest rows first. Has no other order, no count of all rows, and no action on all rows."""

    ordering = ["-created_at", "-pk"]
    list_per_page = 50
    list_select_related = ()  # PostgreSQL would join all rows before it sorts them
    sortable_by = ()
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    # Name the templates. Django would look for them in a folder with the app's label, and a project may
    # choose another label.
    change_list_template = "authn/admin/change_list.html"
    change_form_template = "authn/admin/change_form.html"
    # The list says this if a search finds nothing.
    nothing_found = "Only whole email addresses and ids are searched, and no names or parts of them."

    class Media:
        css = {"all": ["authn/admin.css"]}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return UncountedChangeList

    def is_limited(self, search_term: str) -> bool:
        """Whether the list shows only the newest rows, because there may be too many rows to sort.

        ``search_term``: the text in the search box, or "".
        """
        return False

    def load_related(self, request: HttpRequest, rows: list[Any]) -> None:
        """Load related objects that the page shows, with one query for all rows. Does nothing by default."""

    def get_paginator(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any) -> Any:
        """Allows pages of an object's history, and refuses pages of the model itself with a 404.

        Django calls this for the history and for its autocomplete view. We use no autocomplete, and its view
        would count and sort the whole table.
        """
        if queryset.model is self.model:
            raise Http404
        return super().get_paginator(request, queryset, *args, **kwargs)

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any
    ) -> HttpResponse | None:
        """Run the action on the ticked rows, even if they have moved to another page. Never on all rows."""
        chosen = self.get_queryset(request).filter(pk__in=request.POST.getlist(ACTION_CHECKBOX_NAME))
        return super().response_action(request, chosen, *args, **kwargs)


class BetterAuthAdmin(ReadOnly, LargeTableAdmin):
    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Allow only the lookups of our filters.

        Other lookups in a URL could compare a primary key to a wrong type, or use a column without an index.
        """
        return any(lookup == each.parameter_name for each in self.list_filter)  # type: ignore[union-attr]

    def is_limited(self, search_term: str) -> bool:
        return not search_term


def limit_to_newest(queryset: QuerySet[Any]) -> tuple[QuerySet[Any], str]:
    """Limit the queryset to the newest rows. Returns it with a sentence that tells staff which rows it has.

    - If the queryset's order has an index: the newest MAX_ROWS rows.
    - If the table is small: all rows, and an empty sentence.
    - Otherwise: the rows at the end of the table's file. PostgreSQL puts most new rows there.
    """
    model, field = queryset.model, str(queryset.query.order_by[0]).removeprefix("-")
    pages, may_read_ctid, is_indexed = _size_and_index(queryset, field)
    if is_indexed:
        past = model._default_manager.using(queryset.db).filter(**{f"{field}__lte": timezone.now()})
        oldest = past.order_by(f"-{field}").values_list(field)[MAX_ROWS - 1 : MAX_ROWS].first()
        # Filter by a value and not by a subquery. With a subquery, PostgreSQL cannot estimate how few rows
        # match, and does not use the index.
        since = oldest[0] if oldest else datetime.min.replace(tzinfo=UTC)
        return queryset.filter(**{f"{field}__gte": since}), f"This list has the newest {MAX_ROWS:,}."
    if pages <= MAX_HEAP_PAGES or not may_read_ctid:
        return queryset, ""
    table = connections[queryset.db].ops.quote_name(model._meta.db_table)
    first = f"({pages - MAX_HEAP_PAGES},0)"
    is_stored_last = RawSQL(f"{table}.ctid >= %s::tid", [first], output_field=BooleanField())  # noqa: S611  # no text from outside
    return queryset.filter(is_stored_last), (
        "This list has the rows at the end of the table. The database puts most new rows there. "
        "To list all the newest rows, the table needs an index (docs/compatibility.md)."
    )


def is_large(queryset: QuerySet[Any]) -> bool:
    """Whether PostgreSQL should not read the whole table of the queryset for a page."""
    return _size_and_index(queryset, queryset.model._meta.pk.name)[0] > MAX_HEAP_PAGES


def exceeds_limit(queryset: QuerySet[Any]) -> bool:
    """Whether the queryset has more than MAX_ROWS rows."""
    return queryset[MAX_ROWS : MAX_ROWS + 1].exists()


def has_prefix_index(queryset: QuerySet[Any], field: str) -> bool:
    """Whether the field has an index that finds a prefix: an index with text_pattern_ops.

    PostgreSQL can use any other index for a prefix only in the C locale.
    """
    return _size_and_index(queryset, field, "%pattern_ops")[2]


def _size_and_index(queryset: QuerySet[Any], field: str, kind: str = "%") -> tuple[int, bool, bool]:
    """Returns the three values of ``SIZE_AND_INDEX``. ``kind``: a LIKE pattern for the operator class."""
    connection, options = connections[queryset.db], queryset.model._meta
    if connection.vendor != "postgresql":
        return 0, False, False  # SQLite is only for development
    table, column = connection.ops.quote_name(options.db_table), options.get_field(field).column
    with connection.cursor() as cursor:
        cursor.execute(SIZE_AND_INDEX, [column, kind, table])
        pages, may_read_ctid, is_indexed = cursor.fetchone()
    return pages, may_read_ctid, is_indexed
