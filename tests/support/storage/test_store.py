"""The contract of ChatKit's ``Store`` with a real PostgreSQL, and our own rules: owners and order."""

import asyncio
import re
import traceback
from functools import partial
from inspect import signature
from types import SimpleNamespace
from typing import Any, get_args

import psycopg
import pytest
from asgiref.sync import async_to_sync
from chatkit.store import NotFoundError, StoreItemType, default_generate_id
from chatkit.store import Store as ChatKitStore
from chatkit.types import (
    FileAttachment,
    LockedStatus,
    Page,
    Thread,
)

from authn.sessions import Organization
from runtime.database_calls import run_inline
from support import models
from support.context import Owner as StoredOwner
from support.storage import known_thread
from support.storage.feedback import save_feedback
from support.storage.serialization import UnreadableRow
from support.storage.store import Store
from tests.fixtures.chatkit.sample_items import ITEMS
from tests.fixtures.database.concurrent_commits import commit_meanwhile
from tests.fixtures.owner import MOMENT, STORE, Owner, answer, message, thread_metadata

# The store runs in worker threads with their own connections, so a test cannot be one transaction.
pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "I lost my ring in room 217"


# --- The SDK's interface --------------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(ChatKitStore.__abstractmethods__))
def test_the_methods_have_the_parameters_of_the_sdks_store(method: str) -> None:
    contract, ours = (list(signature(getattr(each, method)).parameters) for each in (ChatKitStore, Store))

    assert ours == contract


def test_one_task_can_save_change_delete_and_save_a_thread_again(ada: Owner) -> None:
    async def work() -> None:
        for title in ("first", "again"):
            thread = thread_metadata(title=title, metadata={"test": title})
            await STORE.save_thread(thread, ada)
            thread.title = None
            await STORE.save_thread(thread=thread, context=ada)
            for item in (message(), answer("msg_2")):
                await STORE.add_thread_item(thread.id, item, ada)

            assert await STORE.load_thread(thread.id, ada) == thread
            page = await STORE.load_thread_items(thread.id, after=None, limit=1, order="desc", context=ada)
            assert (page.data, page.has_more) == ([answer("msg_2")], True)
            threads = await STORE.load_threads(limit=2, after=None, order="asc", context=ada)
            assert (threads.data, threads.has_more, threads.after) == ([thread], False, None)
            await STORE.delete_thread(thread.id, ada)
            with pytest.raises(NotFoundError):
                await STORE.load_thread(thread.id, ada)

    async_to_sync(work)()


# --- Saving again ---------------------------------------------------------------------------------


def test_saving_a_thread_again_changes_it_and_keeps_its_position(ada: Owner) -> None:
    ada.starts("thr_1")
    ada.starts("thr_2")

    changed = ada.starts(
        "thr_1",
        title="Ring",
        status=LockedStatus(reason="x"),
        allowed_image_domains=["a.example"],
        metadata={"a": 1},
    )

    assert ada.load_thread("thr_1") == changed
    assert [thread.id for thread in ada.load_threads(20, None, "asc").data] == ["thr_1", "thr_2"]
    assert models.Thread.objects.get(thread_id="thr_1").title == "Ring"


def test_saving_a_thread_with_items_stores_only_its_metadata(ada: Owner) -> None:
    whole = Thread(id="thr_1", created_at=MOMENT, title="Ring", items=Page(data=[message()]))

    ada.save_thread(whole)

    assert ada.load_thread("thr_1") == thread_metadata(title="Ring")
    assert "items" not in models.Thread.objects.get().data
    assert ada.page().data == []


@pytest.mark.parametrize("save", ["save_item", "add_thread_item"])
def test_saving_an_item_again_changes_it_and_its_type_and_keeps_its_position(ada: Owner, save: str) -> None:
    ada.starts()
    for item_id in ("item_1", "msg_2"):
        getattr(ada, save)("thr_1", message(item_id))

    getattr(ada, save)("thr_1", ITEMS["task"])

    assert ada.page().data == [ITEMS["task"], message("msg_2")]
    assert [row.type for row in models.Item.objects.order_by("id")] == ["task", "user_message"]


def test_add_missing_items_does_not_change_stored_items(ada: Owner) -> None:
    ada.starts()
    ada.add_thread_item("thr_1", message("msg_1", "whole"))

    ada.add_missing_items("thr_1", [message("msg_2"), message("msg_1", "part"), message("msg_3")])

    assert ada.page().data == [message("msg_1", "whole"), message("msg_2"), message("msg_3")]


def test_the_last_of_two_concurrent_changes_of_a_thread_wins(ada: Owner) -> None:
    ada.starts(title="Ring", metadata={"tries": 1})
    mine, theirs = ada.load_thread("thr_1"), ada.load_thread("thr_1")

    mine.title = "Found"
    ada.save_thread(mine)
    theirs.metadata = {"tries": 2}
    ada.save_thread(theirs)

    assert ada.load_thread("thr_1") == thread_metadata(title="Ring", metadata={"tries": 2})


@pytest.mark.parametrize("came_by", ["load_thread", "save_thread"])
def test_a_task_that_knows_a_thread_does_not_create_it_again_after_its_deletion(
    ada: Owner, came_by: str
) -> None:
    ada.starts()

    async def answer_with_a_title() -> None:
        thread = thread_metadata()
        await (
            STORE.load_thread("thr_1", ada) if came_by == "load_thread" else STORE.save_thread(thread, ada)
        )
        await asyncio.create_task(STORE.delete_thread("thr_1", ada))  # as another request does
        thread.title = "Ring"
        await STORE.save_thread(thread, ada)

    with pytest.raises(NotFoundError):
        async_to_sync(answer_with_a_title)()
    assert models.Thread.objects.count() == 0


def test_a_new_title_is_stored_in_the_data_and_in_the_title_column(ada: Owner) -> None:
    ada.starts()

    async def answer_with_a_title() -> None:
        thread = await STORE.load_thread("thr_1", ada)
        thread.title = "Ring"
        await STORE.save_thread(thread, ada)

    async_to_sync(answer_with_a_title)()

    assert ada.load_thread("thr_1") == thread_metadata(title="Ring")
    assert models.Thread.objects.get().title == "Ring"


def test_an_id_of_another_organization_of_the_user_changes_nothing(ada: Owner, settings: Any) -> None:
    settings.SUPPORT_CONVERSATIONS = "user_and_organization"
    in_acme = Owner("ada", Organization("acme", "member"))
    in_acme.starts(title="Ours")
    picture = FileAttachment(id="atc_1", name="a.txt", mime_type="text/plain")
    in_acme.save_attachment(picture)

    with pytest.raises(NotFoundError):
        ada.starts(title="Mine")
    with pytest.raises(NotFoundError):
        ada.save_attachment(picture.model_copy(update={"name": "b.txt"}))

    with pytest.raises(AttributeError):  # a context without an organization sees nothing
        async_to_sync(STORE.load_thread)("thr_1", SimpleNamespace(user_id="ada"))

    assert in_acme.load_thread("thr_1").title == "Ours"
    assert in_acme.load_attachment("atc_1").name == "a.txt"


def test_a_task_knows_its_own_thread_even_if_saving_it_was_cancelled(ada: Owner, bob: Owner) -> None:
    async def cancelled() -> tuple[StoredOwner, str] | None:
        task = asyncio.current_task()
        assert task
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await STORE.save_thread(thread_metadata(), ada)
        return known_thread.of_current_task()

    async def work() -> list[Any]:
        mine = await asyncio.create_task(cancelled())
        nobodys = known_thread.of_current_task()
        await STORE.load_thread("thr_1", ada)
        loaded = known_thread.of_current_task()
        elsewhere = await asyncio.create_task(later())
        await STORE.delete_thread("thr_1", ada)
        return [mine, nobodys, loaded, elsewhere, known_thread.of_current_task()]

    async def later() -> tuple[StoredOwner, str] | None:
        return known_thread.of_current_task()

    adas = (StoredOwner("ada"), "thr_1")
    assert async_to_sync(work)() == [adas, None, adas, None, None]


def test_a_task_that_knows_a_thread_can_save_another_one(ada: Owner) -> None:
    ada.starts()

    async def go_on_elsewhere() -> None:
        await STORE.load_thread("thr_1", ada)
        await STORE.save_thread(thread_metadata("thr_2"), ada)

    async_to_sync(go_on_elsewhere)()

    assert ada.load_thread("thr_2") == thread_metadata("thr_2")


def test_a_thread_can_be_loaded_without_an_event_loop(ada: Owner) -> None:
    ada.starts()

    assert run_inline(STORE.load_thread("thr_1", ada)) == thread_metadata()


def test_another_request_does_not_know_the_thread(ada: Owner) -> None:
    thread = ada.starts()
    models.Thread.objects.all().delete()

    ada.save_thread(thread)

    assert ada.load_thread("thr_1") == thread


# --- Owners ---------------------------------------------------------------------------------------


def test_another_owners_thread_is_not_found(ada: Owner, bob: Owner) -> None:
    ada.starts("thr_1")
    ada.add_thread_item("thr_1", message())
    before = (ada.load_thread("thr_1"), ada.page().data)

    for absent in ("thr_1", "thr_of_nobody"):
        for call in (
            partial(bob.load_thread, absent),
            partial(bob.add_thread_item, absent, message("msg_2")),
            partial(bob.save_item, absent, message("msg_1", "Mine now")),
            partial(bob.load_item, absent, "msg_1"),
        ):
            with pytest.raises(NotFoundError):
                call()
        assert bob.page(absent) == Page(data=[], has_more=False, after=None)
        bob.add_missing_items(absent, [message("msg_2"), message("msg_3")])
        bob.delete_thread_item(absent, "msg_1")
        bob.delete_thread(absent)
    assert bob.load_threads(20, None, "desc").data == []
    assert (ada.load_thread("thr_1"), ada.page().data) == before
    assert models.Item.objects.count() == 1


def test_an_item_is_only_found_in_its_own_thread(ada: Owner) -> None:
    ada.starts("thr_1")
    ada.starts("thr_2")
    ada.add_thread_item("thr_1", message())

    with pytest.raises(NotFoundError):
        ada.load_item("thr_2", "msg_1")
    ada.delete_thread_item("thr_2", "msg_1")

    assert ada.item_ids("thr_1") == ["msg_1"]


def test_two_owners_with_the_same_ids_have_separate_rows(ada: Owner, bob: Owner) -> None:
    for owner in (ada, bob):
        owner.starts("thr_1", title=f"of {owner.user_id}")
        owner.add_thread_item("thr_1", message("msg_1", f"by {owner.user_id}"))

    bob.save_item("thr_1", message("msg_1", "changed by bob"))
    assert ada.load_thread("thr_1").title == "of ada"
    assert ada.load_item("thr_1", "msg_1") == message("msg_1", "by ada")

    bob.delete_thread("thr_1")
    assert ada.page().data == [message("msg_1", "by ada")]
    assert bob.page().data == []


def test_two_threads_can_have_items_with_the_same_id(ada: Owner) -> None:
    for thread_id in ("thr_1", "thr_2"):
        ada.starts(thread_id)
        ada.add_thread_item(thread_id, message("msg_1", f"in {thread_id}", thread_id))

    assert ada.load_item("thr_1", "msg_1").content[0].text == "in thr_1"
    assert ada.load_item("thr_2", "msg_1").content[0].text == "in thr_2"


# --- Deleting -------------------------------------------------------------------------------------


def test_deleting_an_item_twice_is_no_error(ada: Owner) -> None:
    ada.starts()
    for item_id in ("msg_1", "msg_2"):
        ada.add_thread_item("thr_1", message(item_id))

    for _ in range(2):
        ada.delete_thread_item("thr_1", "msg_1")

    assert ada.item_ids() == ["msg_2"]


def test_deleting_a_thread_deletes_its_items_and_deleting_it_twice_is_no_error(ada: Owner) -> None:
    for thread_id in ("thr_1", "thr_2"):
        ada.starts(thread_id)
        ada.add_thread_item(thread_id, message("msg_1", thread_id=thread_id))

    for _ in range(2):
        ada.delete_thread("thr_1")

    with pytest.raises(NotFoundError):
        ada.load_thread("thr_1")
    assert [item.thread.thread_id for item in models.Item.objects.select_related("thread")] == ["thr_2"]


def test_an_item_cannot_be_stored_in_a_thread_that_is_deleted_meanwhile(
    ada: Owner, postgres_url: str
) -> None:
    ada.starts()

    with psycopg.connect(postgres_url) as elsewhere:
        elsewhere.execute("DELETE FROM support_thread WHERE user_id = 'ada'")
        with pytest.raises(NotFoundError):
            commit_meanwhile(elsewhere, partial(ada.add_thread_item, "thr_1", message()))

    assert models.Item.objects.count() == 0


def test_deleting_a_thread_deletes_an_item_that_is_stored_meanwhile(ada: Owner, postgres_url: str) -> None:
    ada.starts()
    row = models.Thread.objects.get()

    with psycopg.connect(postgres_url) as elsewhere:
        elsewhere.execute("SET CONSTRAINTS ALL IMMEDIATE")
        elsewhere.execute(
            "INSERT INTO support_item (thread_id, item_id, type, created_at, data)"
            " VALUES (%s, 'msg_1', 'user_message', now(), '{}')",
            [row.pk],
        )
        commit_meanwhile(elsewhere, partial(ada.delete_thread, "thr_1"))

    assert models.Thread.objects.count() == models.Item.objects.count() == 0


def test_feedback_on_an_item_that_is_deleted_meanwhile_is_not_found(ada: Owner, postgres_url: str) -> None:
    ada.starts()
    ada.add_thread_item("thr_1", answer())

    with psycopg.connect(postgres_url) as elsewhere:
        elsewhere.execute("DELETE FROM support_item")
        rate = partial(async_to_sync(save_feedback), "ada", "thr_1", [answer().id], "positive")
        with pytest.raises(NotFoundError):
            commit_meanwhile(elsewhere, rate)


# --- Ids ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("item_type", get_args(StoreItemType))
def test_ids_have_a_prefix_and_128_random_bits(item_type: StoreItemType, ada: Owner) -> None:
    def make() -> str:
        if item_type == "thread":
            return STORE.generate_thread_id(ada)
        return STORE.generate_item_id(item_type, thread_metadata(), ada)

    ids = {make() for _ in range(10_000)}

    prefix, _, _ = default_generate_id(item_type).partition("_")
    assert len(ids) == 10_000
    assert all(re.fullmatch(f"{prefix}_[0-9a-f]{{32}}", each) for each in ids)


# --- Errors quote no content ----------------------------------------------------------------------

UNREADABLE = [
    pytest.param({"type": "poem", "id": "msg_1", "text": SECRET}, id="unknown type"),
    pytest.param({"type": "user_message", "content": SECRET}, id="known type, other fields"),
    pytest.param({"type": "widget", "widget": {"type": SECRET}}, id="unknown widget"),
    pytest.param([SECRET], id="no object"),
]


@pytest.mark.parametrize("data", UNREADABLE)
def test_the_error_for_an_unreadable_row_names_the_row_and_does_not_quote_it(ada: Owner, data: Any) -> None:
    ada.starts()
    ada.add_thread_item("thr_1", message())
    row = models.Item.objects.get()
    models.Item.objects.update(data=data)
    models.Thread.objects.update(data=data)

    for name, load in {
        f"item {row.pk}": partial(ada.load_item, "thr_1", "msg_1"),
        f"item {row.pk} ": ada.page,
        f"thread {row.thread_id}": partial(ada.load_thread, "thr_1"),
        f"thread {row.thread_id} ": partial(ada.load_threads, 20, None, "desc"),
    }.items():
        with pytest.raises(UnreadableRow) as caught:
            load()
        assert str(caught.value) == name.strip()
        assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_the_error_for_an_item_without_a_thread_does_not_quote_the_item(ada: Owner) -> None:
    with pytest.raises(NotFoundError) as caught:
        ada.add_thread_item("thr_1", message(text=SECRET))

    assert "Failing row contains" not in "".join(traceback.format_exception(caught.value))
