"""Threads and items are loaded as they were stored."""

import re
from collections.abc import Iterator
from datetime import timedelta, timezone
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from chatkit.types import (
    ActiveStatus,
    Annotation,
    AssistantMessageContent,
    AssistantMessageItem,
    Attachment,
    ClosedStatus,
    HiddenContextItem,
    LockedStatus,
    StructuredInput,
    Task,
    ThreadItem,
    WidgetItem,
    WorkflowSummary,
)
from chatkit.widgets import (
    DynamicWidgetRoot,
    WidgetRoot,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from tests.fixtures.chatkit.sample_items import ITEM, ITEMS
from tests.fixtures.owner import MOMENT, Owner, message, thread_metadata

# The store runs in worker threads with their own connections, so a test cannot be one transaction.
pytestmark = pytest.mark.django_db(transaction=True)


def test_the_sample_items_cover_all_types_of_items_and_parts_of_the_sdk() -> None:
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
