"""The queries that nearly every request makes. Each is compiled to SQL once. Each filters by the owner."""

from typing import Any

from chatkit.store import NotFoundError
from django.db.models import BigIntegerField, QuerySet, Subquery

from authn.tables.compiled import CompiledQuery
from support.models import INSERTION_ORDER, Item, Thread
from support.storage import cursors

MAX_PAGE = 100  # rows. ChatKit's client asks for 20 to 50, and the protocol sets no limit.

# The primary key, the id and the JSON: the answer needs no other column.
THREAD_COLUMNS = ("id", "thread_id", "data")
ITEM_COLUMNS = ("id", "item_id", "data")


def thread(user_id: str, thread_id: str) -> Thread | None:
    rows = _thread(user_id=user_id, row_id=thread_id)
    return Thread.from_db("default", THREAD_COLUMNS, rows[0]) if rows else None


def threads(user_id: str, limit: int, after: str | None, order: str) -> tuple[list[Thread], str | None]:
    """A page of threads, and a cursor if more threads follow.

    ``after``: the cursor of an earlier page, or the id of a thread. A cursor stays valid when its thread is
    deleted. Raises ``NotFoundError`` if ``after`` is neither a cursor nor an id. ``order``: "asc" or "desc".
    """
    rows, cursor = _page(_threads, _thread, limit, order, after, user_id=user_id)
    return [Thread.from_db("default", THREAD_COLUMNS, row) for row in rows], cursor


def item(user_id: str, thread_id: str, item_id: str) -> Item | None:
    rows = _item(user_id=user_id, thread_id=thread_id, row_id=item_id)
    return Item.from_db("default", ITEM_COLUMNS, rows[0]) if rows else None


def items(
    user_id: str, thread_id: str, limit: int, after: str | None, order: str
) -> tuple[list[Item], str | None]:
    """A page of the thread's items, and a cursor, as in ``threads``. Empty if the thread does not exist."""
    rows, cursor = _page(_items, _item, limit, order, after, user_id=user_id, thread_id=thread_id)
    return [Item.from_db("default", ITEM_COLUMNS, row) for row in rows], cursor


def _page(
    rows_query: CompiledQuery,
    row_query: CompiledQuery,
    limit: int,
    order: str,
    after: str | None,
    **owner: str,
) -> tuple[list[list[Any]], str | None]:
    limit = min(max(limit, 1), MAX_PAGE)
    key = None if after is None else cursors.decode(after, *owner.values())
    start_after = None if after is None else "id" if key is None else "key"
    found = rows_query(limit + 1, order, start_after, after=after, key=key, **owner)
    if not found and start_after == "id" and not row_query(row_id=after, **owner):
        raise NotFoundError(after)
    page, has_more = found[:limit], len(found) > limit
    return page, cursors.encode(page[-1][0], *owner.values()) if has_more else None


def _page_queryset(
    rows: QuerySet[Any],
    columns: tuple[str, ...],
    after: str,
    key: int,
    limit: int,
    order: str,
    start_after: str | None,
) -> Any:
    """``start_after``: "id" starts after the row with the id ``after``, and "key" after the primary key."""
    page = rows.alias(place=INSERTION_ORDER).order_by("place" if order == "asc" else "-place")
    if start_after:
        place = key if start_after == "key" else Subquery(rows.filter(**{columns[1]: after}).values("id"))
        page = page.filter(**{"place__gt" if order == "asc" else "place__lt": place})
    return page.values_list(*columns)[:limit]


_ID, _KEY = Thread._meta.get_field("thread_id"), BigIntegerField()

_thread = CompiledQuery(
    Thread,
    lambda user_id, row_id: (
        Thread.objects.owned_by(user_id).filter(thread_id=row_id).values_list(*THREAD_COLUMNS)
    ),
    user_id=_ID,
    row_id=_ID,
)
_threads = CompiledQuery(
    Thread,
    lambda *shape, user_id, after, key: _page_queryset(
        Thread.objects.owned_by(user_id), THREAD_COLUMNS, after, key, *shape
    ),
    user_id=_ID,
    after=_ID,
    key=_KEY,
)
_item = CompiledQuery(
    Item,
    lambda user_id, thread_id, row_id: (
        Item.objects.of_thread(user_id, thread_id).filter(item_id=row_id).values_list(*ITEM_COLUMNS)
    ),
    user_id=_ID,
    thread_id=_ID,
    row_id=_ID,
)
_items = CompiledQuery(
    Item,
    lambda *shape, user_id, thread_id, after, key: _page_queryset(
        Item.objects.of_thread(user_id, thread_id), ITEM_COLUMNS, after, key, *shape
    ),
    user_id=_ID,
    thread_id=_ID,
    after=_ID,
    key=_KEY,
)
