"""Pages of threads and items: their order, their limits and their cursors."""

from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from chatkit.store import NotFoundError
from chatkit.types import Page
from django.conf import settings as django_settings
from django.test import override_settings

from support import models
from support.storage.reads import MAX_PAGE
from tests.fixtures.owner import MOMENT, STORE, Owner, message, thread_metadata

# The store runs in worker threads with their own connections, so a test cannot be one transaction.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(("total", "sizes"), [(0, [0]), (3, [3]), (4, [3, 1]), (6, [3, 3]), (7, [3, 3, 1])])
def test_pages_of_items_follow_one_another_to_the_last(
    ada: Owner, total: int, sizes: list[int], order: str
) -> None:
    ada.starts()
    ids = [f"msg_{number}" for number in range(total)]
    for item_id in ids:
        ada.add_thread_item("thr_1", message(item_id))

    pages = list(all_pages(partial(ada.page, limit=3, order=order)))

    assert [len(page.data) for page in pages] == sizes
    assert [item.id for page in pages for item in page.data] == (ids if order == "asc" else ids[::-1])


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_of_threads_follow_one_another_to_the_last(ada: Owner, bob: Owner, order: str) -> None:
    ids = [f"thr_{number}" for number in range(7)]
    for thread_id in ids:
        ada.starts(thread_id)
        bob.starts(thread_id)

    pages = list(all_pages(lambda after=None: ada.load_threads(3, after, order)))

    assert [len(page.data) for page in pages] == [3, 3, 1]
    assert [thread.id for page in pages for thread in page.data] == (ids if order == "asc" else ids[::-1])


def all_pages(load: Callable[..., Page[Any]]) -> Iterator[Page[Any]]:
    page = load()
    yield page
    while page.has_more:
        by_id = load(after=page.data[-1].id)
        page = load(after=page.after)
        assert page == by_id
        yield page
    assert page.after is None


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_cursor_stays_valid_when_its_row_is_deleted(ada: Owner, order: str) -> None:
    ids = [f"{number}" for number in range(5)]
    for each in ids:
        ada.starts(f"thr_{each}")
        ada.add_thread_item("thr_0", message(f"msg_{each}"))
    threads, items = ada.load_threads(2, None, order), ada.page("thr_0", limit=2, order=order)

    models.Thread.objects.filter(thread_id__in=[f"thr_{1 if order == 'asc' else 3}"]).delete()
    for item in items.data:
        ada.delete_thread_item("thr_0", item.id)

    rest = ids[2:] if order == "asc" else ids[2::-1]
    assert [each.id for each in ada.load_threads(20, threads.after, order).data] == [f"thr_{n}" for n in rest]
    assert ada.item_ids("thr_0", after=items.after, order=order) == [f"msg_{n}" for n in rest]


def test_a_cursor_is_valid_only_for_its_owner_and_its_list(ada: Owner, bob: Owner) -> None:
    for owner in (ada, bob):
        for thread_id in ("thr_1", "thr_2", "thr_3"):
            owner.starts(thread_id)
            for number in range(3):
                owner.add_thread_item(thread_id, message(f"msg_{number}", thread_id=thread_id))
    threads, items = ada.load_threads(1, None, "asc").after, ada.page("thr_1", limit=1).after

    for cursor in (threads, items, f"{threads[:-2]}A=", "cur_", "cur_ü", "cur_A", "cur_" + "A" * 44):
        with pytest.raises(NotFoundError):
            bob.load_threads(1, cursor, "asc")
        with pytest.raises(NotFoundError):
            bob.page("thr_1", after=cursor)
        with pytest.raises(NotFoundError):
            ada.page("thr_2", after=cursor)


def test_a_cursor_stays_valid_while_its_secret_key_is_a_fallback(
    ada: Owner,
) -> None:
    ada.starts("thr_1")
    ada.starts("thr_2")
    cursor = ada.load_threads(1, None, "asc").after

    with override_settings(SECRET_KEY="another", SECRET_KEY_FALLBACKS=[django_settings.SECRET_KEY]):
        assert [thread.id for thread in ada.load_threads(1, cursor, "asc").data] == ["thr_2"]
    with override_settings(SECRET_KEY="another"), pytest.raises(NotFoundError):
        ada.load_threads(1, cursor, "asc")


def test_a_cursor_does_not_reveal_how_many_rows_there_are(ada: Owner) -> None:
    ada.starts("thr_1")
    ada.starts("thr_2")
    row = models.Thread.objects.get(thread_id="thr_1")

    sealed = urlsafe_b64decode(ada.load_threads(1, None, "asc").after.removeprefix("cur_"))

    assert row.pk.to_bytes(8) not in sealed


def test_the_page_after_the_last_row_is_empty(ada: Owner) -> None:
    ada.starts()
    ada.add_thread_item("thr_1", message())

    threads, items = ada.load_threads(3, "thr_1", "desc"), ada.page(after="msg_1")

    assert threads == items == Page(data=[], has_more=False, after=None)


@pytest.mark.parametrize(("limit", "length"), [(-5, 1), (0, 1), (1, 1), (2, 2), (100_000_000, MAX_PAGE)])
def test_the_limit_of_a_page_is_at_least_1_and_at_most_the_maximum(
    ada: Owner, limit: int, length: int
) -> None:
    ada.starts()
    add_many(MAX_PAGE + 1)
    for number in range(2, MAX_PAGE + 2):
        models.Thread.objects.create(
            user_id="ada",
            thread_id=f"thr_{number}",
            created_at="2026-01-01T00:00Z",
            data=thread_metadata(f"thr_{number}").model_dump(mode="json"),
        )

    items = ada.page(limit=limit)
    threads = ada.load_threads(limit, None, "desc")

    assert (len(items.data), items.has_more) == (length, True)
    assert (len(threads.data), threads.has_more) == (length, True)


def add_many(number: int) -> None:
    thread = models.Thread.objects.get(user_id="ada", thread_id="thr_1")
    models.Item.objects.bulk_create(
        models.Item(
            thread=thread,
            item_id=f"msg_{count}",
            type="user_message",
            created_at="2026-01-01T00:00Z",
            data=message(f"msg_{count}").model_dump(mode="json"),
        )
        for count in range(number)
    )


def test_items_with_the_same_time_are_in_the_order_of_insertion(ada: Owner) -> None:
    ada.starts()
    ids = [f"msg_{9 - number}" for number in range(10)]

    async def add_all() -> None:
        for item_id in ids:
            await STORE.add_thread_item("thr_1", message(item_id), ada)

    async_to_sync(add_all)()

    assert ada.item_ids(order="desc") == ids[::-1]


def test_the_order_is_the_order_of_insertion_and_not_of_the_clock(ada: Owner) -> None:
    ada.starts("thr_1", created_at=MOMENT)
    ada.starts("thr_2", created_at=MOMENT - timedelta(days=1))
    for number in range(3):
        earlier = MOMENT - timedelta(hours=number)
        ada.add_thread_item("thr_1", message(f"msg_{number}").model_copy(update={"created_at": earlier}))

    assert ada.item_ids() == ["msg_0", "msg_1", "msg_2"]
    assert [thread.id for thread in ada.load_threads(20, None, "desc").data] == ["thr_2", "thr_1"]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_an_unknown_cursor_is_not_found(ada: Owner, bob: Owner, order: str) -> None:
    ada.starts()
    ada.add_thread_item("thr_1", message())
    bob.starts("thr_of_bob")
    bob.add_thread_item("thr_of_bob", message("msg_of_bob", thread_id="thr_of_bob"))

    for unknown in ("msg_9", "msg_of_bob"):
        with pytest.raises(NotFoundError):
            ada.page(after=unknown, order=order)
    for unknown in ("thr_9", "thr_of_bob"):
        with pytest.raises(NotFoundError):
            ada.load_threads(20, unknown, order)
