"""Reads threads and items, one row or one page. Nearly every request makes one of these four queries.

Django compiles each query to SQL once (``CompiledQuery``). Each query filters by the owner.

``thread_id`` and ``item_id`` are ChatKit's ids, which the client knows. ``id`` is the primary key.
"""

from typing import Any, NamedTuple

from chatkit.store import NotFoundError
from django.db.models import BigIntegerField, QuerySet, Subquery

from authn.tables.compiled import CompiledQuery
from support.context import Owner
from support.models import INSERTION_ORDER, Item, Thread
from support.storage import cursors

MAX_PAGE = 100  # rows. ChatKit's client asks for 20 to 50, and the protocol sets no limit.

# The primary key, the ChatKit id and the JSON. The answer needs no other column.
THREAD_COLUMNS = ("id", "thread_id", "data")
ITEM_COLUMNS = ("id", "item_id", "data")


class Row(NamedTuple):
    """A thread or an item. An object of the model would take as long to make as its SQL takes to run."""

    pk: int
    chatkit_id: str
    data: Any


def thread(owner: Owner, thread_id: str) -> Row | None:
    """Return the thread, or ``None`` if this owner has no such thread."""
    rows = _thread(*owner.columns, **owner.columns, chatkit_id=thread_id)
    return Row(*rows[0]) if rows else None


def threads(owner: Owner, limit: int, after: str | None, order: str) -> tuple[list[Row], str | None]:
    """Return a page of the owner's threads, in the order of insertion, and a cursor for the next page.

    The cursor is ``None`` if no more threads follow.

    ``order``: "asc" or "desc". ``after``: the cursor of the previous page, or the ChatKit id of that page's
    last thread; ``None`` for the first page. A cursor stays valid even if the thread that it points to is
    deleted. If ``after`` is not a cursor of this list, it must be the ChatKit id of a thread of this owner.
    Otherwise this function raises ``NotFoundError``.
    """
    rows, cursor = _page(_threads, _thread, limit, order, after, owner)
    return [Row(*row) for row in rows], cursor


def item(owner: Owner, thread_id: str, item_id: str) -> Row | None:
    """Return the item, or ``None`` if this owner has no such item in this thread."""
    rows = _item(*owner.columns, **owner.columns, thread_id=thread_id, chatkit_id=item_id)
    return Row(*rows[0]) if rows else None


def items(
    owner: Owner, thread_id: str, limit: int, after: str | None, order: str
) -> tuple[list[Row], str | None]:
    """Return a page of the thread's items and a cursor, as ``threads`` does.

    The page is empty if the thread does not exist.
    """
    rows, cursor = _page(_items, _item, limit, order, after, owner, thread_id=thread_id)
    return [Row(*row) for row in rows], cursor


def _page(
    page_query: CompiledQuery,
    single_row_query: CompiledQuery,
    limit: int,
    order: str,
    after: str | None,
    owner: Owner,
    **thread: str,
) -> tuple[list[list[Any]], str | None]:
    """Return a page of rows, and the cursor that ``threads`` describes.

    ``thread``: for a page of items, ``thread_id``. A cursor is valid only for this owner and this thread.
    """
    limit = min(max(limit, 1), MAX_PAGE)
    scope = owner.columns | thread
    primary_key = None if after is None else cursors.decode(after, *scope.values())
    start_after: str | None
    if after is None:
        start_after = None
    elif primary_key is None:
        start_after = "chatkit_id"
    else:
        start_after = "primary_key"
    # One row more than the page has: it shows whether more rows follow.
    shape = (limit + 1, order, start_after)
    found = page_query(shape, *owner.columns, **scope, after=after, primary_key=primary_key)
    # No rows: ``after`` is the last row, or there is no such row.
    if (
        not found
        and start_after == "chatkit_id"
        and not single_row_query(*owner.columns, **scope, chatkit_id=after)
    ):
        raise NotFoundError(after)
    page, has_more = found[:limit], len(found) > limit
    return page, cursors.encode(page[-1][0], *scope.values()) if has_more else None


def _page_queryset(
    rows: QuerySet[Any],
    columns: tuple[str, ...],
    after: str,
    primary_key: int,
    shape: tuple[int, str, str | None],
    listed: QuerySet[Any] | None = None,
) -> Any:
    """Return a queryset with the rows of one page, in the order of insertion.

    ``listed``: the same rows as ``rows``, if PostgreSQL needs other conditions to find a page of them fast.
    ``shape``: (limit, order, start_after). ``start_after``: "chatkit_id" starts after the row with the
    ChatKit id ``after``. "primary_key" starts after the primary key ``primary_key``, whose row may be
    deleted. ``None`` starts at the first row.

    INSERTION_ORDER is the primary key plus 0, so a position can be compared to a primary key.
    """
    limit, order, start_after = shape
    page = (rows if listed is None else listed).alias(position=INSERTION_ORDER)
    page = page.order_by("position" if order == "asc" else "-position")
    if start_after == "primary_key":
        page = page.filter(**{_comparison(order): primary_key})
    elif start_after == "chatkit_id":
        id_column = columns[1]
        page = page.filter(**{_comparison(order): Subquery(rows.filter(**{id_column: after}).values("id"))})
    return page.values_list(*columns)[:limit]


def _comparison(order: str) -> str:
    return "position__gt" if order == "asc" else "position__lt"


def _owner(names: tuple[str, ...], columns: dict[str, str]) -> Owner:
    """``names``: those of the owner's columns. ``columns`` always has all columns."""
    return Owner(**{name: columns[name] for name in names})


# ``CompiledQuery`` needs only the type of an argument's field. The user's id and ChatKit's ids are text, so
# one text field is enough for them.
_TEXT, _PRIMARY_KEY = Thread._meta.get_field("thread_id"), BigIntegerField()
_OWNER = {"user_id": _TEXT, "organization_id": _TEXT}

# The four queries. ``names`` and ``page`` are their shape: see ``CompiledQuery``. ``names``: those of the
# owner's columns. ``page``: the ``shape`` of ``_page_queryset``.
_thread = CompiledQuery(
    Thread,
    lambda *names, chatkit_id, **owner: (
        Thread.objects.visible_to(_owner(names, owner))
        .filter(thread_id=chatkit_id)
        .values_list(*THREAD_COLUMNS)
    ),
    **_OWNER,
    chatkit_id=_TEXT,
)
_threads = CompiledQuery(
    Thread,
    lambda page, *names, after, primary_key, **owner: _page_queryset(
        Thread.objects.visible_to(_owner(names, owner)),
        THREAD_COLUMNS,
        after,
        primary_key,
        page,
        Thread.objects.listed_for(_owner(names, owner)),
    ),
    **_OWNER,
    after=_TEXT,
    primary_key=_PRIMARY_KEY,
)
_item = CompiledQuery(
    Item,
    lambda *names, thread_id, chatkit_id, **owner: (
        Item.objects.of_thread(_owner(names, owner), thread_id)
        .filter(item_id=chatkit_id)
        .values_list(*ITEM_COLUMNS)
    ),
    **_OWNER,
    thread_id=_TEXT,
    chatkit_id=_TEXT,
)
_items = CompiledQuery(
    Item,
    lambda page, *names, thread_id, after, primary_key, **owner: _page_queryset(
        Item.objects.of_thread(_owner(names, owner), thread_id), ITEM_COLUMNS, after, primary_key, page
    ),
    **_OWNER,
    thread_id=_TEXT,
    after=_TEXT,
    primary_key=_PRIMARY_KEY,
)
