"""Reads threads and items, one row or one page. Nearly every request makes one of these four queries.

Django compiles each query to SQL once (``CompiledQuery``). Each query filters by the owner.

``thread_id`` and ``item_id`` are ChatKit's ids, which the client knows. ``id`` is the primary key.
"""

from typing import Any

from chatkit.store import NotFoundError
from django.db.models import BigIntegerField, QuerySet, Subquery

from authn.tables.compiled import CompiledQuery
from support.models import INSERTION_ORDER, Item, Thread
from support.storage import cursors

MAX_PAGE = 100  # rows. ChatKit's client asks for 20 to 50, and the protocol sets no limit.

# The primary key, the ChatKit id and the JSON. The answer needs no other column.
THREAD_COLUMNS = ("id", "thread_id", "data")
ITEM_COLUMNS = ("id", "item_id", "data")


def thread(user_id: str, thread_id: str) -> Thread | None:
    """Return the thread, or ``None`` if this user has no such thread."""
    rows = _thread(user_id=user_id, chatkit_id=thread_id)
    return Thread.from_db("default", THREAD_COLUMNS, rows[0]) if rows else None


def threads(user_id: str, limit: int, after: str | None, order: str) -> tuple[list[Thread], str | None]:
    """Return a page of the user's threads, in the order of insertion, and a cursor for the next page.

    The cursor is ``None`` if no more threads follow.

    ``order``: "asc" or "desc". ``after``: the cursor of the previous page, or the ChatKit id of that page's
    last thread; ``None`` for the first page. A cursor stays valid even if the thread that it points to is
    deleted. If ``after`` is not a cursor of this list, it must be the ChatKit id of a thread of this user.
    Otherwise this function raises ``NotFoundError``.
    """
    rows, cursor = _page(_threads, _thread, limit, order, after, user_id=user_id)
    return [Thread.from_db("default", THREAD_COLUMNS, row) for row in rows], cursor


def item(user_id: str, thread_id: str, item_id: str) -> Item | None:
    """Return the item, or ``None`` if this user has no such item in this thread."""
    rows = _item(user_id=user_id, thread_id=thread_id, chatkit_id=item_id)
    return Item.from_db("default", ITEM_COLUMNS, rows[0]) if rows else None


def items(
    user_id: str, thread_id: str, limit: int, after: str | None, order: str
) -> tuple[list[Item], str | None]:
    """Return a page of the thread's items and a cursor, as ``threads`` does.

    The page is empty if the thread does not exist.
    """
    rows, cursor = _page(_items, _item, limit, order, after, user_id=user_id, thread_id=thread_id)
    return [Item.from_db("default", ITEM_COLUMNS, row) for row in rows], cursor


def _page(
    page_query: CompiledQuery,
    single_row_query: CompiledQuery,
    limit: int,
    order: str,
    after: str | None,
    **owner: str,
) -> tuple[list[list[Any]], str | None]:
    """Return a page of rows, and the cursor that ``threads`` describes.

    ``owner``: ``user_id``, and for a page of items also ``thread_id``. A cursor is valid only for this owner.
    """
    limit = min(max(limit, 1), MAX_PAGE)
    primary_key = None if after is None else cursors.decode(after, *owner.values())
    start_after: str | None
    if after is None:
        start_after = None
    elif primary_key is None:
        start_after = "chatkit_id"
    else:
        start_after = "primary_key"
    # One row more than the page has: it shows whether more rows follow.
    found = page_query(limit + 1, order, start_after, after=after, primary_key=primary_key, **owner)
    # No rows: ``after`` is the last row, or there is no such row.
    if not found and start_after == "chatkit_id" and not single_row_query(chatkit_id=after, **owner):
        raise NotFoundError(after)
    page, has_more = found[:limit], len(found) > limit
    return page, cursors.encode(page[-1][0], *owner.values()) if has_more else None


def _page_queryset(
    rows: QuerySet[Any],
    columns: tuple[str, ...],
    after: str,
    primary_key: int,
    limit: int,
    order: str,
    start_after: str | None,
) -> Any:
    """Return a queryset with the rows of one page, in the order of insertion.

    ``start_after``: "chatkit_id" starts after the row with the ChatKit id ``after``. "primary_key" starts
    after the primary key ``primary_key``, whose row may be deleted. ``None`` starts at the first row.

    INSERTION_ORDER is the primary key plus 0, so a position can be compared to a primary key.
    """
    page = rows.alias(position=INSERTION_ORDER).order_by("position" if order == "asc" else "-position")
    if start_after == "primary_key":
        page = page.filter(**{_comparison(order): primary_key})
    elif start_after == "chatkit_id":
        id_column = columns[1]
        page = page.filter(**{_comparison(order): Subquery(rows.filter(**{id_column: after}).values("id"))})
    return page.values_list(*columns)[:limit]


def _comparison(order: str) -> str:
    return "position__gt" if order == "asc" else "position__lt"


# ``CompiledQuery`` needs only the type of an argument's field. The user's id and ChatKit's ids are text, so
# one text field is enough for them.
_TEXT, _PRIMARY_KEY = Thread._meta.get_field("thread_id"), BigIntegerField()

# The four queries. ``shape`` is (limit, order, start_after): see ``CompiledQuery``.
_thread = CompiledQuery(
    Thread,
    lambda user_id, chatkit_id: (
        Thread.objects.owned_by(user_id).filter(thread_id=chatkit_id).values_list(*THREAD_COLUMNS)
    ),
    user_id=_TEXT,
    chatkit_id=_TEXT,
)
_threads = CompiledQuery(
    Thread,
    lambda *shape, user_id, after, primary_key: _page_queryset(
        Thread.objects.owned_by(user_id), THREAD_COLUMNS, after, primary_key, *shape
    ),
    user_id=_TEXT,
    after=_TEXT,
    primary_key=_PRIMARY_KEY,
)
_item = CompiledQuery(
    Item,
    lambda user_id, thread_id, chatkit_id: (
        Item.objects.of_thread(user_id, thread_id).filter(item_id=chatkit_id).values_list(*ITEM_COLUMNS)
    ),
    user_id=_TEXT,
    thread_id=_TEXT,
    chatkit_id=_TEXT,
)
_items = CompiledQuery(
    Item,
    lambda *shape, user_id, thread_id, after, primary_key: _page_queryset(
        Item.objects.of_thread(user_id, thread_id), ITEM_COLUMNS, after, primary_key, *shape
    ),
    user_id=_TEXT,
    thread_id=_TEXT,
    after=_TEXT,
    primary_key=_PRIMARY_KEY,
)
