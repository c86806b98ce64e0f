"""The contract of ChatKit's ``Store`` with a real PostgreSQL, and our own rules: owners and order."""

import asyncio
import re
import traceback
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from datetime import timedelta, timezone
from functools import partial
from inspect import signature
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import psycopg
import pytest
from asgiref.sync import async_to_sync
from chatkit.actions import ActionConfig
from chatkit.store import NotFoundError, StoreItemType, default_generate_id
from chatkit.store import Store as ChatKitStore
from chatkit.types import (
    ActiveStatus,
    Annotation,
    AssistantMessageContent,
    AssistantMessageItem,
    Attachment,
    ClientToolCallItem,
    ClosedStatus,
    CustomSummary,
    CustomTask,
    DurationSummary,
    EndOfTurnItem,
    EntitySource,
    FileAttachment,
    FileSource,
    FileTask,
    GeneratedImage,
    GeneratedImageItem,
    HiddenContextItem,
    ImageAttachment,
    ImageTask,
    InferenceOptions,
    LockedStatus,
    Page,
    SDKHiddenContextItem,
    SearchTask,
    StructuredInput,
    StructuredInputAnswer,
    StructuredInputFreeform,
    StructuredInputItem,
    StructuredInputMultipleChoice,
    StructuredInputMultipleChoiceOption,
    Task,
    TaskItem,
    ThoughtTask,
    Thread,
    ThreadItem,
    ToolChoice,
    URLSource,
    UserMessageItem,
    UserMessageTagContent,
    UserMessageTextContent,
    WidgetItem,
    Workflow,
    WorkflowItem,
    WorkflowSummary,
)
from chatkit.widgets import (
    BasicRoot,
    Button,
    Card,
    DynamicWidgetComponent,
    DynamicWidgetRoot,
    ListView,
    ListViewItem,
    Text,
    WidgetRoot,
)
from django.conf import settings as django_settings
from django.test import override_settings
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from runtime.database_calls import run_inline
from support import models
from support.storage import known_thread
from support.storage.feedback import save_feedback
from support.storage.reads import MAX_PAGE
from support.storage.serialization import UnreadableRow
from support.storage.store import Store
from tests.fixtures.concurrent_commits import commit_meanwhile
from tests.fixtures.owner import MOMENT, STORE, Owner, answer, message, thread_metadata

# The store runs in worker threads with their own connections, so a test cannot be one transaction.
pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "I lost my ring in room 217"


# --- Round trips ----------------------------------------------------------------------------------

ITEM = {"id": "item_1", "thread_id": "thr_1", "created_at": MOMENT}
WEB = URLSource(title="A page", url="https://example.com/a?b=c", attribution="example.com", group="web")
FILE = FileSource(title="A file", filename="a.pdf", description="Minutes", timestamp="2026-01-01")
ENTITY = EntitySource(id="e1", title="Order 7", icon="cube", interactive=True, data={"n": [1, 2.5, None]})
ITEMS: dict[str, ThreadItem] = {
    "user message": UserMessageItem(
        **ITEM,
        content=[
            UserMessageTextContent(text="Größe ✓ 👩‍🚀 🇫🇷 \u2028 \"quoted\" \\u0000 'as text'"),
            UserMessageTagContent(
                id="t1", text="order", data={"a": {"b": [1, None]}}, group="g", interactive=True
            ),
        ],
        attachments=[
            FileAttachment(id="atc_1", name="a.pdf", mime_type="application/pdf", metadata={"bytes": 7}),
            ImageAttachment(
                id="atc_2", name="b.png", mime_type="image/png", preview_url="https://x.example/b"
            ),
        ],
        quoted_text="what you said",
        inference_options=InferenceOptions(tool_choice=ToolChoice(id="search"), model="small"),
    ),
    "empty user message": UserMessageItem(
        **ITEM, content=[], quoted_text="", inference_options=InferenceOptions()
    ),
    "assistant message": AssistantMessageItem(
        **ITEM,
        content=[
            AssistantMessageContent(
                text="See **here**.",
                annotations=[
                    Annotation(source=WEB, index=3),
                    Annotation(source=FILE),
                    Annotation(source=ENTITY),
                ],
            ),
            AssistantMessageContent(text=""),
        ],
    ),
    "client tool call": ClientToolCallItem(
        **ITEM,
        status="completed",
        call_id="call_1",
        name="locate",
        arguments={"deep": [{"x": 1}], "big": 2**70, "small": 1e-9},
        output=[{"ok": True}, None, "text", 0.1],
    ),
    "pending client tool call": ClientToolCallItem(**ITEM, call_id="c", name="n", arguments={}),
    "card": WidgetItem(
        **ITEM,
        widget=Card(
            size="sm",
            children=[Text(value="Hi"), Button(label="Go", onClickAction=ActionConfig(type="go", payload=1))],
        ),
        copy_text="Hi",
    ),
    "list view": WidgetItem(**ITEM, widget=ListView(children=[ListViewItem(children=[Text(value="Hi")])])),
    "basic widget": WidgetItem(
        **ITEM, widget=BasicRoot(children=[DynamicWidgetComponent(type="Text", value="Hi")])
    ),
    "widget of a template": WidgetItem(
        **ITEM,
        widget=DynamicWidgetRoot.model_validate(
            {
                "type": "Card",
                "sparkle": {"level": 9},
                "children": [
                    {"type": "Text", "value": "Hi", "shimmer": True},
                    {"type": "Table", "rows": [["a", 1]], "children": {"type": "Row", "tilt": 3}},
                ],
            }
        ),
    ),
    "custom workflow": WorkflowItem(
        **ITEM,
        workflow=Workflow(
            type="custom",
            tasks=[
                CustomTask(title="Look", icon="cube", content="there", status_indicator="complete"),
                SearchTask(title="Search", title_query="q", queries=["a", "b"], sources=[WEB]),
                FileTask(title="Read", sources=[FILE]),
                ImageTask(title="Draw", status_indicator="loading"),
            ],
            summary=CustomSummary(title="Done", icon="cube"),
            expanded=True,
        ),
    ),
    "reasoning workflow": WorkflowItem(
        **ITEM,
        workflow=Workflow(
            type="reasoning", tasks=[ThoughtTask(content="Hm")], summary=DurationSummary(duration=3)
        ),
    ),
    "task": TaskItem(**ITEM, task=CustomTask(title="Look")),
    "generated image": GeneratedImageItem(**ITEM, image=GeneratedImage(id="ig_1", url="data:image/png;,")),
    "image to come": GeneratedImageItem(**ITEM),
    "structured input": StructuredInputItem(
        **ITEM,
        status="answered",
        inputs=[
            StructuredInputMultipleChoice(
                id="q1",
                question="How urgent?",
                options=[StructuredInputMultipleChoiceOption(value="Low")],
                multiple=True,
                answer=StructuredInputAnswer(values=["Low", "Other"]),
            ),
            StructuredInputFreeform(
                id="q2", question="Why?", description="…", answer=StructuredInputAnswer(skipped=True)
            ),
        ],
    ),
    "hidden context": HiddenContextItem(**ITEM, content={"any": ["thing", 1, None]}),
    "the SDK's hidden context": SDKHiddenContextItem(**ITEM, content="The user cancelled the stream."),
    "end of turn": EndOfTurnItem(**ITEM),
}


def test_the_items_above_cover_all_types_of_items_and_parts_of_the_sdk() -> None:
    seen = set(parts_of(list(ITEMS.values())))

    for union in (ThreadItem, Task, Attachment, WorkflowSummary, StructuredInput, WidgetRoot):
        assert classes_of(union) <= seen
    assert classes_of(get_type_hints(Annotation)["source"]) <= seen


def parts_of(value: Any) -> Iterator[type]:
    if isinstance(value, BaseModel):
        yield type(value)
        value = list(vars(value).values())
    if isinstance(value, list):
        for part in value:
            yield from parts_of(part)


def classes_of(union: Any) -> set[type]:
    if isinstance(union, type):
        return {union}
    parts = [get_args(union)[0]] if get_origin(union) is Annotated else get_args(union)
    return {each for part in parts for each in classes_of(part)}


@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS)
def test_an_item_comes_back_as_it_was_stored(ada: Owner, item: ThreadItem) -> None:
    ada.starts()

    ada.add_thread_item("thr_1", item)

    assert ada.load_item("thr_1", item.id) == item
    assert ada.page().data == [item]


def test_a_widget_from_a_template_keeps_properties_that_the_sdk_does_not_know(ada: Owner) -> None:
    ada.starts()
    ada.add_thread_item("thr_1", ITEMS["widget of a template"])

    sent = ada.load_item("thr_1", "item_1").model_dump(mode="json")["widget"]

    assert sent["sparkle"] == {"level": 9}
    assert sent["children"][0]["shimmer"] is True
    assert sent["children"][1]["rows"] == [["a", 1]]
    assert sent["children"][1]["children"]["tilt"] == 3


def test_a_basic_widget_from_a_template_is_sent_unchanged(ada: Owner) -> None:
    made = {"type": "Basic", "tilt": 3, "children": {"type": "Text", "value": "Hi"}}
    ada.starts()
    ada.add_thread_item("thr_1", WidgetItem(**ITEM, widget=DynamicWidgetRoot.model_validate(made)))

    sent = ada.load_item("thr_1", "item_1").model_dump(mode="json", exclude_none=True)["widget"]

    assert sent == made


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"title": "Ring, lost 💍", "metadata": {"tries": [1, {"a": None}]}, "allowed_image_domains": ["a.b"]},
        {"title": "", "allowed_image_domains": [], "status": ActiveStatus()},
        {"status": LockedStatus(reason="Under review")},
        {"status": ClosedStatus()},
    ],
    ids=["bare", "full", "empty", "locked", "closed"],
)
def test_a_thread_comes_back_as_it_was_stored(ada: Owner, fields: dict[str, Any]) -> None:
    thread = ada.starts(**fields)

    assert ada.load_thread("thr_1") == thread
    assert ada.load_threads(20, None, "desc").data == [thread]


def test_times_come_back_naive_with_their_microseconds(ada: Owner) -> None:
    two_hours_east = MOMENT.replace(tzinfo=timezone(timedelta(hours=2)))
    ada.starts(created_at=two_hours_east)
    ada.add_thread_item("thr_1", message().model_copy(update={"created_at": two_hours_east}))
    ada.add_thread_item("thr_1", message("msg_2"))

    assert ada.load_thread("thr_1").created_at == MOMENT - timedelta(hours=2)
    assert [item.created_at for item in ada.page().data] == [MOMENT - timedelta(hours=2), MOMENT]


@given(text=st.text(st.characters(exclude_categories=())))
@example("\0 and halves of a pair: \ud83d, \ude00")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_can_be_stored_and_loses_only_what_postgresql_refuses(ada: Owner, text: str) -> None:
    kept = re.sub("[\ud800-\udfff]", "?", text.replace("\0", ""))
    ada.starts(title=text, metadata={"said": text})

    ada.save_item("thr_1", HiddenContextItem(**ITEM, content=[{"said": text}, [text]]))

    assert ada.load_thread("thr_1") == thread_metadata(title=kept, metadata={"said": kept})
    assert ada.load_item("thr_1", "item_1").content == [{"said": kept}, [kept]]


def test_a_nul_in_a_models_answer_is_removed(ada: Owner) -> None:
    ada.starts(title="Ring\0s", metadata={"a\0": "b\0"})
    said = AssistantMessageItem(**ITEM, content=[AssistantMessageContent(text="\0Hello\0 \\u0000")])

    ada.add_thread_item("thr_1", said)

    assert ada.load_item("thr_1", "item_1").content[0].text == "Hello \\u0000"
    assert ada.load_thread("thr_1") == thread_metadata(title="Rings", metadata={"a": "b"})


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


def test_a_task_knows_its_own_thread_even_if_saving_it_was_cancelled(ada: Owner, bob: Owner) -> None:
    async def cancelled() -> tuple[str, str] | None:
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

    async def later() -> tuple[str, str] | None:
        return known_thread.of_current_task()

    assert async_to_sync(work)() == [("ada", "thr_1"), None, ("ada", "thr_1"), None, None]


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


# --- Pages and order ------------------------------------------------------------------------------


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
