"""Every operation of ChatKit's protocol, sent to a real server as ChatKit's client sends it."""

from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import ANY

import pytest

from chatbackend.dev.processes import free_port
from support.models import Feedback, Item
from tests.fixtures.accounts.people import Person
from tests.fixtures.servers.api import Api, create, http, message, operation

pytestmark = pytest.mark.django_db

METRICS_PORT = free_port()
TEXT = {"type": "input_text", "text": "Hi"}
THREAD = {
    "id": ANY,
    "created_at": ANY,
    "status": {"type": "active"},
    "metadata": {},
    "items": {"data": [], "has_more": False},
}
NOT_FOUND = {"error": "Not found", "status": 404, "message": "Not found"}


@pytest.fixture(scope="module")
def shop(auth: Any, start_api: Callable[..., Any]) -> Iterator[Api]:
    """A team's server with widgets, actions, client tools and structured input."""
    with start_api(
        CHATKIT_SERVER="tests.fixtures.chatkit.servers.ShopServer", SUPPORT_RATE_PER_USER="100000/min"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def drafts(auth: Any, start_api: Callable[..., Any]) -> Iterator[Api]:
    """A team's server that adds operations to the protocol."""
    with start_api(
        CHATKIT_SERVER="tests.fixtures.chatkit.servers.DraftServer", METRICS_PORT=str(METRICS_PORT)
    ) as running:
        yield running


class Chat:
    """A conversation of a user, with the requests that the browser sends."""

    def __init__(self, api: Api, person: Person, text: str = "Hi") -> None:
        self.api, self.person, self.token = api, person, person.token()
        self.begun = api.events(create(text), self.token)
        self.id: str = self.begun[0]["thread"]["id"]

    def stream(self, kind: str, /, **params: Any) -> list[dict[str, Any]]:
        return self.api.events(operation(kind, thread_id=self.id, **params), self.token)

    def ask(self, kind: str, /, **params: Any) -> Any:
        response = self.api.post(operation(kind, thread_id=self.id, **params), self.token)
        assert response.headers["Content-Type"] == "application/json"
        return response.json()

    def items(self) -> list[dict[str, Any]]:
        return list(self.ask("items.list", order="asc")["data"])


@pytest.fixture
def chat(api: Api, person: Person) -> Chat:
    return Chat(api, person)


def expected_item(thread_id: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"id": ANY, "thread_id": thread_id, "created_at": ANY, "type": kind} | fields


def assistant_message(thread_id: str, text: str) -> dict[str, Any]:
    return expected_item(thread_id, "assistant_message", content=[text_part(text)])


def text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def user_message(thread_id: str, text: str = "Hi", **more: Any) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    empty = {"attachments": [], "inference_options": {}}
    return expected_item(thread_id, "user_message", content=content, **empty) | more


def item_done(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "thread.item.done", "item": item}


OPTIONS = {"type": "stream_options", "stream_options": {"allow_cancel": True}}


# --- Operations that stream -----------------------------------------------------------------------


def test_threads_create(shop: Api, person: Person) -> None:
    tag = {"type": "input_tag", "id": "t1", "text": "order", "data": {"n": 1}, "interactive": True}
    given = {
        "content": [TEXT, tag],
        "attachments": [],
        "quoted_text": "",
        "inference_options": {"tool_choice": {"id": "search"}, "model": "small"},
    }

    events = shop.events(operation("threads.create", input=given), person.token())

    thread_id = events[0]["thread"]["id"]
    assert events == [
        {"type": "thread.created", "thread": THREAD},
        item_done(expected_item(thread_id, "user_message", **given)),
        OPTIONS,
        item_done(assistant_message(thread_id, "Hi!")),
    ]


def test_threads_create_streams_the_changes_of_the_thread(shop: Api, person: Person) -> None:
    chat = Chat(shop, person, "name")

    assert [event["type"] for event in chat.begun[2:]] == [
        "stream_options",
        "progress_update",
        "thread.updated",
    ]
    assert chat.begun[-1]["thread"] == THREAD | {"id": chat.id, "title": "Ring"}


def test_threads_add_user_message(shop: Api, person: Person) -> None:
    chat = Chat(shop, person)

    events = chat.stream("threads.add_user_message", input=message("More"))

    assert events == [
        item_done(user_message(chat.id, "More")),
        OPTIONS,
        item_done(assistant_message(chat.id, "More!")),
    ]
    assert [item["type"] for item in chat.items()] == ["user_message", "assistant_message"] * 2


def test_threads_add_client_tool_output(shop: Api, person: Person) -> None:
    chat = Chat(shop, person, "locate")
    call = expected_item(chat.id, "client_tool_call", call_id="c", name="locate", arguments={"n": 1})
    assert chat.begun[-1] == item_done(call | {"status": "pending"})

    events = chat.stream("threads.add_client_tool_output", result={"ok": True})

    assert events == [OPTIONS, item_done(assistant_message(chat.id, "client_tool_call!"))]
    assert chat.items()[1] == call | {"status": "completed", "output": {"ok": True}}


def test_threads_add_structured_input(shop: Api, person: Person) -> None:
    chat = Chat(shop, person, "ask")
    item_id = chat.begun[-1]["item"]["id"]
    question = {"type": "freeform", "id": "q1", "question": "How urgent?"}
    pending = expected_item(chat.id, "structured_input", status="pending", inputs=[question])
    assert chat.begun[-1] == item_done(pending)

    answers = {"status": "answered", "answers": {"q1": {"values": ["Low"]}}}
    events = chat.stream("threads.add_structured_input", item_id=item_id, input=answers)

    answered = pending | {"id": item_id, "status": "answered"}
    answered["inputs"] = [question | {"answer": {"values": ["Low"], "skipped": False}}]
    replaced = {"type": "thread.item.replaced", "item": answered}
    assert events == [OPTIONS, replaced, item_done(assistant_message(chat.id, "structured_input!"))]
    assert chat.items()[1] == answered


def test_threads_retry_after_item(shop: Api, person: Person) -> None:
    chat = Chat(shop, person)
    question, first = chat.items()
    chat.stream("threads.add_user_message", input=message("More"))

    events = chat.stream("threads.retry_after_item", item_id=question["id"])

    assert events == [OPTIONS, item_done(assistant_message(chat.id, "Hi!"))]
    assert events[-1]["item"]["id"] != first["id"]
    assert chat.items() == [question, events[-1]["item"]]


def test_threads_custom_action(shop: Api, person: Person) -> None:
    chat = Chat(shop, person, "show")
    shown = expected_item(chat.id, "widget", widget=seat("14A"))
    assert chat.begun[-1] == item_done(shown)

    action = {"type": "choose", "payload": {"seat": "2C"}}
    item_id = chat.begun[-1]["item"]["id"]
    events = chat.stream("threads.custom_action", item_id=item_id, action=action)

    chosen = shown | {"id": item_id, "widget": seat("2C")}
    assert events == [
        OPTIONS,
        {"type": "thread.item.replaced", "item": chosen},
        {"type": "client_effect", "name": "seat", "data": {"seat": "2C"}},
    ]
    assert chat.items()[1:] == [chosen]  # hidden items are not listed
    assert Item.objects.filter(thread__thread_id=chat.id, type="hidden_context_item").count() == 1


def seat(chosen: str) -> dict[str, Any]:
    return {"type": "Card", "aisle": True, "children": [{"type": "Text", "value": chosen}]}


def test_threads_custom_action_of_an_item_that_is_not_a_widget(shop: Api, person: Person) -> None:
    chat = Chat(shop, person)

    events = chat.stream("threads.custom_action", item_id=chat.items()[0]["id"], action={"type": "choose"})

    assert events == [{"type": "error", "code": "stream.error", "allow_retry": False}]


# --- Operations that respond with JSON ------------------------------------------------------------


def test_threads_get_by_id(chat: Chat) -> None:
    thread = chat.ask("threads.get_by_id")

    assert thread == THREAD | {"id": chat.id, "items": {"data": chat.items(), "has_more": False}}
    assert [item["type"] for item in thread["items"]["data"]] == ["user_message", "assistant_message"]


def test_threads_get_by_id_has_the_first_twenty_items(shop: Api, person: Person) -> None:
    chat = Chat(shop, person)
    for _ in range(10):
        chat.stream("threads.add_user_message", input=message("More"))

    page = chat.ask("threads.get_by_id")["items"]

    rest = chat.ask("items.list", order="asc", after=page["after"])
    assert (len(page["data"]), page["has_more"]) == (20, True)
    assert page["data"] + rest["data"] == chat.ask("items.list", order="asc", limit=100)["data"]


def test_threads_list(shop: Api, person: Person) -> None:
    token = person.token()
    ids = [Chat(shop, person).id for _ in range(3)]

    newest = shop.post(operation("threads.list"), token).json()
    page = shop.post(operation("threads.list", limit=2, order="asc"), token).json()
    rest = shop.post(operation("threads.list", limit=2, order="asc", after=page["after"]), token).json()

    assert newest == {"data": [THREAD | {"id": each} for each in reversed(ids)], "has_more": False}
    assert page == {"data": [THREAD | {"id": each} for each in ids[:2]], "has_more": True, "after": ANY}
    assert rest == {"data": [THREAD | {"id": ids[2]}], "has_more": False}


def test_items_list(chat: Chat) -> None:
    question, answer = chat.items()

    newest = chat.ask("items.list")
    page = chat.ask("items.list", limit=1, order="desc")
    rest = chat.ask("items.list", limit=1, order="desc", after=page["after"])

    assert newest == {"data": [answer, question], "has_more": False}
    assert page == {"data": [answer], "has_more": True, "after": ANY}
    assert rest == {"data": [question], "has_more": False}
    assert question == user_message(chat.id, "Hi")


def test_the_next_page_is_found_when_the_last_row_of_the_previous_page_was_deleted(chat: Chat) -> None:
    older = [Chat(chat.api, chat.person).id for _ in range(3)]
    page = chat.ask("threads.list", limit=2)

    for thread in page["data"]:
        chat.api.post(operation("threads.delete", thread_id=thread["id"]), chat.token)
    rest = chat.ask("threads.list", after=page["after"])

    assert [thread["id"] for thread in rest["data"]] == [older[0], chat.id]


def test_the_next_page_of_items_is_found_when_the_last_answer_was_replaced(chat: Chat) -> None:
    question, answer = chat.items()
    page = chat.ask("items.list", limit=1)
    assert page["data"] == [answer]

    chat.stream("threads.retry_after_item", item_id=question["id"])

    assert chat.ask("items.list", after=page["after"])["data"] == [question]


def test_threads_update(chat: Chat) -> None:
    for title in ("New", ""):
        updated = chat.ask("threads.update", title=title)

        assert updated == THREAD | {"id": chat.id, "title": title}
        assert chat.ask("threads.get_by_id")["title"] == title


def test_threads_delete(chat: Chat) -> None:
    rated = [chat.items()[1]["id"]]
    chat.ask("items.feedback", item_ids=rated, kind="positive")

    assert chat.ask("threads.delete") == {}

    assert chat.ask("threads.get_by_id") == NOT_FOUND
    assert chat.ask("items.list") == {"data": [], "has_more": False}
    assert chat.api.post(operation("threads.list"), chat.token).json()["data"] == []
    assert not Item.objects.filter(item_id__in=rated).exists()


def test_threads_sync_custom_action(shop: Api, person: Person) -> None:
    chat = Chat(shop, person, "show")
    item_id = chat.begun[-1]["item"]["id"]

    action = {"type": "choose", "payload": {"seat": "2C"}}
    answer = chat.ask("threads.sync_custom_action", item_id=item_id, action=action)

    assert answer == {"updated_item": expected_item(chat.id, "widget", widget=seat("2C"))}
    assert chat.items()[1] == answer["updated_item"]


# --- Feedback -------------------------------------------------------------------------------------


def feedback(chat: Chat) -> dict[str, str]:
    rows = Feedback.objects.filter(item__thread__thread_id=chat.id)
    return dict(rows.values_list("item__item_id", "kind"))


def test_items_feedback_is_stored_for_each_item_and_can_be_changed(chat: Chat) -> None:
    chat.stream("threads.add_user_message", input=message("More"))
    _, first, _, second = (item["id"] for item in chat.items())

    assert chat.ask("items.feedback", item_ids=[first, second, first], kind="positive") == {}
    assert feedback(chat) == {first: "positive", second: "positive"}
    given = Feedback.objects.get(item__item_id=second)

    assert chat.ask("items.feedback", item_ids=[second], kind="negative") == {}
    assert feedback(chat) == {first: "positive", second: "negative"}
    changed = Feedback.objects.get(item__item_id=second)
    assert (changed.created_at, changed.updated_at > given.updated_at) == (given.created_at, True)


def test_items_feedback_is_deleted_with_its_item(chat: Chat) -> None:
    question, answer = (item["id"] for item in chat.items())
    chat.ask("items.feedback", item_ids=[answer], kind="positive")

    chat.stream("threads.retry_after_item", item_id=question)

    assert feedback(chat) == {}


def test_items_feedback_on_no_items_stores_nothing(chat: Chat) -> None:
    assert chat.ask("items.feedback", item_ids=[], kind="positive") == {}

    assert feedback(chat) == {}


@pytest.mark.parametrize("beside", ["one's own message", "a missing item", "an item of another thread"])
def test_items_feedback_is_stored_for_all_items_or_for_none(
    chat: Chat, api: Api, person: Person, beside: str
) -> None:
    question, answer = (item["id"] for item in chat.items())
    others = {
        "one's own message": question,
        "a missing item": "msg_never_was",
        "an item of another thread": Chat(api, person).items()[1]["id"],
    }

    response = chat.ask("items.feedback", item_ids=[answer, others[beside]], kind="positive")

    assert response == NOT_FOUND
    assert feedback(chat) == {}


def test_items_feedback_on_items_that_cannot_be_rated_is_not_found(shop: Api, person: Person) -> None:
    chat = Chat(shop, person, "show")
    action = {"type": "choose", "payload": {"seat": "2C"}}
    chat.stream("threads.custom_action", item_id=chat.begun[-1]["item"]["id"], action=action)
    hidden = Item.objects.get(thread__thread_id=chat.id, type="hidden_context_item")

    assert chat.ask("items.feedback", item_ids=[hidden.item_id], kind="positive") == NOT_FOUND


def test_items_feedback_on_too_many_items_is_refused(chat: Chat) -> None:
    response = chat.ask("items.feedback", item_ids=[f"msg_{n}" for n in range(101)], kind="positive")

    assert response["status"] == 400


# --- Missing objects and other users' objects -----------------------------------------------------

ACTION = {"type": "choose", "payload": {"seat": "2C"}}
OF_A_THREAD: dict[str, dict[str, Any]] = {
    "threads.add_user_message": {"input": message("Hi")},
    "threads.add_client_tool_output": {"result": {"ok": True}},
    "threads.custom_action": {"action": ACTION},
    "threads.get_by_id": {},
    "threads.update": {"title": "Mine now"},
    "threads.sync_custom_action": {"action": ACTION},
}
OF_AN_ITEM: dict[str, dict[str, Any]] = {
    "threads.add_structured_input": {"input": {"status": "skipped", "answers": {}}},
    "threads.retry_after_item": {},
    "threads.custom_action": {"action": ACTION},
    "threads.sync_custom_action": {"action": ACTION},
    "items.feedback": {"kind": "negative"},
}


@pytest.fixture
def theirs(shop: Api, other_person: Person) -> Iterator[Chat]:
    """A conversation of another user. It must not change."""
    chat = Chat(shop, other_person, "show")
    before = (chat.ask("threads.get_by_id"), feedback(chat))
    yield chat
    assert (chat.ask("threads.get_by_id"), feedback(chat)) == before


@pytest.fixture
def mine(shop: Api, person: Person) -> Chat:
    return Chat(shop, person, "show")


def answers(chat: Chat, bodies: list[dict[str, Any]]) -> set[tuple[int, str, bytes]]:
    responses = [chat.api.post(body, chat.token, Accept="text/event-stream") for body in bodies]
    return {(each.status_code, each.headers["Content-Type"], each.content) for each in responses}


ONE_ANSWER = {
    (404, "application/json", b'{"error":"Not found","status":404,"message":"Not found"}'),
}


@pytest.mark.parametrize("kind", OF_A_THREAD)
def test_another_users_thread_gets_the_response_of_a_missing_one(mine: Chat, theirs: Chat, kind: str) -> None:
    bodies = [
        operation(kind, thread_id=thread_id, **OF_A_THREAD[kind])
        for thread_id in (theirs.id, "thr_never_was")
    ]

    assert answers(mine, bodies) == ONE_ANSWER


@pytest.mark.parametrize("kind", OF_AN_ITEM)
def test_another_users_item_gets_the_response_of_a_missing_one(mine: Chat, theirs: Chat, kind: str) -> None:
    item_id = theirs.items()[1]["id"]
    places = [(theirs.id, item_id), (theirs.id, "x"), (mine.id, item_id), (mine.id, "x"), ("x", item_id)]

    bodies = [
        operation(kind, thread_id=thread, item_id=item, item_ids=[item], **OF_AN_ITEM[kind])
        for thread, item in places
    ]

    assert answers(mine, bodies) == ONE_ANSWER


def test_another_users_cursor_gets_the_response_of_a_missing_one(mine: Chat, theirs: Chat) -> None:
    Chat(theirs.api, theirs.person)
    cursor_of_threads = theirs.ask("threads.list", limit=1)["after"]
    cursor_of_items = theirs.ask("items.list", limit=1)["after"]
    threads = [
        operation("threads.list", after=after)
        for after in (theirs.id, "thr_never_was", cursor_of_threads, "cur_never_was")
    ]
    items = [
        operation("items.list", thread_id=mine.id, after=after)
        for after in (theirs.items()[1]["id"], "x", cursor_of_items, "cur_never_was")
    ]

    assert answers(mine, threads + items) == ONE_ANSWER


@pytest.mark.parametrize(
    ("kind", "answer"), [("items.list", b'{"data":[],"has_more":false}'), ("threads.delete", b"{}")]
)
def test_a_missing_thread_can_be_listed_and_deleted_without_an_error(
    mine: Chat, theirs: Chat, kind: str, answer: bytes
) -> None:
    bodies = [operation(kind, thread_id=thread_id) for thread_id in (theirs.id, "thr_never_was")]

    assert answers(mine, bodies) == {(200, "application/json", answer)}


# --- Wrong state, unsupported and unknown operations ----------------------------------------------


@pytest.mark.parametrize(
    "kind", ["threads.add_client_tool_output", "threads.retry_after_item", "threads.add_structured_input"]
)
def test_an_operation_that_does_not_fit_the_state_of_its_thread_is_a_400(chat: Chat, kind: str) -> None:
    before = chat.items()

    response = chat.ask(kind, item_id=before[1]["id"], result={}, input={"status": "skipped", "answers": {}})

    assert response == {"status": 400} | dict.fromkeys(
        ["error", "message"], "The operation does not fit the state of its thread"
    )
    assert chat.items() == before


def test_a_structured_input_can_be_answered_only_once(shop: Api, person: Person) -> None:
    chat = Chat(shop, person, "ask")
    skip = {"item_id": chat.begun[-1]["item"]["id"], "input": {"status": "skipped", "answers": {}}}
    chat.stream("threads.add_structured_input", **skip)

    assert chat.ask("threads.add_structured_input", **skip)["status"] == 400


def test_an_action_on_the_default_server_is_an_error_event_without_retry(chat: Chat) -> None:
    events = chat.stream("threads.custom_action", action={"type": "x"})

    refusal = {"code": "custom", "message": "This chat has no actions.", "allow_retry": False}
    assert events == [OPTIONS, {"type": "error"} | refusal]


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("threads.sync_custom_action", {"action": {"type": "x"}}),
        ("input.transcribe", {"audio_base64": "AAAA", "mime_type": "audio/webm;codecs=opus"}),
    ],
)
def test_an_operation_that_the_default_server_does_not_support_is_a_501(
    chat: Chat, kind: str, params: dict[str, Any]
) -> None:
    assert chat.ask(kind, **params)["status"] == 501


def test_an_unknown_operation_is_a_400(chat: Chat) -> None:
    assert chat.ask("attachments.get_preview", attachment_id="atc_1") == {"status": 400} | dict.fromkeys(
        ["error", "message"], "The request has an unknown type"
    )


# --- Operations of a team -------------------------------------------------------------------------


def test_a_teams_process_gets_the_operations_that_it_adds(drafts: Api, person: Person) -> None:
    body = operation("drafts.list", page=1)

    answer = drafts.post(body, person.token())
    events = drafts.events(operation("drafts.write"), person.token())

    assert (answer.status_code, answer.json()) == (200, {"user_id": person.user_id, "request": body})
    assert [event["text"] for event in events] == ["Dear", "Sir"]


def test_a_teams_operation_needs_a_token_and_has_the_usual_limits(drafts: Api, person: Person) -> None:
    too_long = operation("drafts.list", text="a" * 1_000_000)
    with_nul = operation("drafts.list", text="a\0")

    statuses = [
        drafts.post(operation("drafts.list")).status_code,
        drafts.post(too_long, person.token()).status_code,
        drafts.post(with_nul, person.token()).status_code,
    ]

    assert statuses == [401, 413, 400]


@pytest.mark.parametrize("kind", ["drafts.none", None, ["drafts.list"], 5])
def test_an_unknown_operation_is_a_400_even_if_a_team_adds_operations(
    drafts: Api, person: Person, kind: Any
) -> None:
    answer = drafts.post({"type": kind, "params": {}}, person.token())

    assert (answer.status_code, answer.json()["error"]) == (400, "The request has an unknown type")
    assert "Traceback" not in drafts.log.read_text()


def test_all_operations_of_a_team_are_one_series_of_the_metrics(drafts: Api, person: Person) -> None:
    for kind in ("drafts.list", "drafts.none", "drafts.neither"):
        drafts.post(operation(kind), person.token())

    counted = http.get(f"http://127.0.0.1:{METRICS_PORT}/metrics").text

    assert 'operation="other"' in counted
    assert "drafts." not in counted


def test_a_wrong_field_is_named_even_if_a_team_adds_operations(drafts: Api, person: Person) -> None:
    answer = drafts.post(operation("threads.get_by_id", thread_id=7), person.token())

    assert (answer.status_code, answer.json()["error"]) == (400, "params.thread_id is not valid")


# --- Parsing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["1", " 1 ", 1.0, True])
def test_a_number_in_a_string_is_read_as_the_sdk_reads_it(chat: Chat, limit: Any) -> None:
    page = chat.ask("items.list", limit=limit)

    assert (len(page["data"]), page["has_more"]) == (1, True)
