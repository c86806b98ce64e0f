"""The reads of nearly every request, each compiled once. All of them start from the owner."""

from typing import Any

from chatkit.store import NotFoundError
from django.db.models import BigIntegerField, QuerySet, Subquery

from authn.tables.compiled import Compiled
from support.models import PLACE, Item, Thread
from support.storage import cursors

MAX_PAGE = 100  # ChatKit's client asks for 20 to 50; the protocol sets no bound

# Of a row: its primary key, its id and its JSON, which holds all there is to answer.
THREAD = ("id", "thread_id", "data")
ITEM = ("id", "item_id", "data")


def thread(user_id: str, thread_id: str) -> Thread | None:
    rows = _thread(user_id=user_id, key=thread_id)
    return Thread.from_db("default", THREAD, rows[0]) if rows else None


def threads(user_id: str, limit: int, after: str | None, order: str) -> tuple[list[Thread], str | None]:
    """A page, and a cursor if more rows follow. ``after``: a cursor of an earlier page, or a row's id.

    Raises ``NotFoundError`` if ``after`` is neither. A cursor stays valid when its row is deleted.
    """
    rows, cursor = _page(_threads, _thread, limit, order, after, user_id=user_id)
    return [Thread.from_db("default", THREAD, row) for row in rows], cursor


def item(user_id: str, thread_id: str, item_id: str) -> Item | None:
    rows = _item(user_id=user_id, thread_id=thread_id, key=item_id)
    return Item.from_db("default", ITEM, rows[0]) if rows else None


def items(
    user_id: str, thread_id: str, limit: int, after: str | None, order: str
) -> tuple[list[Item], str | None]:
    """As ``threads``, of a thread's items; of none for a thread that is not there."""
    rows, cursor = _page(_items, _item, limit, order, after, user_id=user_id, thread_id=thread_id)
    return [Item.from_db("default", ITEM, row) for row in rows], cursor


def _page(
    rows: Compiled, row: Compiled, limit: int, order: str, after: str | None, **owner: str
) -> tuple[list[list[Any]], str | None]:
    limit = min(max(limit, 1), MAX_PAGE)
    key = None if after is None else cursors.read(after, *owner.values())
    start = None if after is None else "id" if key is None else "key"
    found = rows(limit + 1, order, start, after=after, key=key, **owner)
    if not found and start == "id" and not row(key=after, **owner):
        raise NotFoundError(after)
    page, has_more = found[:limit], len(found) > limit
    return page, cursors.make(page[-1][0], *owner.values()) if has_more else None


def _in_order(
    rows: QuerySet[Any],
    columns: tuple[str, ...],
    after: str,
    key: int,
    limit: int,
    order: str,
    start: str | None,
) -> Any:
    """``start``: "id" starts the page after the row with the id ``after``, "key" after the key ``key``."""
    page = rows.alias(place=PLACE).order_by("place" if order == "asc" else "-place")
    if start:
        place = key if start == "key" else Subquery(rows.filter(**{columns[1]: after}).values("id"))
        page = page.filter(**{"place__gt" if order == "asc" else "place__lt": place})
    return page.values_list(*columns)[:limit]


_TEXT, _KEY = Thread._meta.get_field("thread_id"), BigIntegerField()

_thread = Compiled(
    Thread,
    lambda user_id, key: Thread.objects.owned_by(user_id).filter(thread_id=key).values_list(*THREAD),
    user_id=_TEXT,
    key=_TEXT,
)
_threads = Compiled(
    Thread,
    lambda *shape, user_id, after, key: _in_order(
        Thread.objects.owned_by(user_id), THREAD, after, key, *shape
    ),
    user_id=_TEXT,
    after=_TEXT,
    key=_KEY,
)
_item = Compiled(
    Item,
    lambda user_id, thread_id, key: (
        Item.objects.of_thread(user_id, thread_id).filter(item_id=key).values_list(*ITEM)
    ),
    user_id=_TEXT,
    thread_id=_TEXT,
    key=_TEXT,
)
_items = Compiled(
    Item,
    lambda *shape, user_id, thread_id, after, key: _in_order(
        Item.objects.of_thread(user_id, thread_id), ITEM, after, key, *shape
    ),
    user_id=_TEXT,
    thread_id=_TEXT,
    after=_TEXT,
    key=_KEY,
)
