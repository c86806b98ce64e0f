"""The official MCP client library, connected to a real server of ours, and clients that leave or hurry."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from support.mcp.ask import TOO_MANY
from support.mcp.conversations import NOT_FOUND
from tests.fixtures.accounts.people import BetterAuth, Person
from tests.fixtures.conversations import events_of_type, items_of, texts_of, thread_id_of
from tests.fixtures.model.server import Model
from tests.fixtures.oauth.clients import OAuthClient
from tests.fixtures.oauth.mcp_requests import STREAMS_PER_USER, WORKER_THREADS, post, records, tool_call
from tests.fixtures.servers.api import Api, create, eventually, http, operation
from tests.fixtures.shop.tools import todos

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("model")]

# The client's ways to connect: with initialize, as clients of 2025 do, and without.
MODES = ["legacy", "2026-07-28"]
SCOPES = "offline_access assistant:ask conversations:read todo:write"


@dataclass(frozen=True)
class Caller:
    """A user, and an access token with which a client acts for the user."""

    person: Person
    client_id: str
    token: str

    @property
    def user_id(self) -> str:
        return self.person.user_id


@pytest.fixture(scope="module")
def new_caller(oauth_auth: BetterAuth, mcp_resource: str) -> Callable[[], Caller]:
    client = OAuthClient.register(oauth_auth)

    def authorize() -> Caller:
        person = oauth_auth.sign_up()
        token = client.authorize(person, mcp_resource, SCOPES).access
        return Caller(person, client.client_id, token)

    return authorize


@pytest.fixture(scope="module")
def ada(new_caller: Callable[[], Caller]) -> Caller:
    return new_caller()


@pytest.fixture(scope="module")
def bob(new_caller: Callable[[], Caller]) -> Caller:
    return new_caller()


def with_client(api: Api, caller: Caller, use: Callable[[Client], Awaitable[Any]], mode: str) -> Any:
    async def connected() -> Any:
        headers = {"Authorization": f"Bearer {caller.token}"}
        async with httpx2.AsyncClient(headers=headers, timeout=30) as http_client:
            transport = streamable_http_client(f"{api.origin}/support/mcp", http_client=http_client)
            async with Client(transport, mode=mode) as client:
                return await use(client)

    return asyncio.run(connected())


def call(api: Api, caller: Caller, name: str, /, mode: str = MODES[-1], **arguments: Any) -> Any:
    """The result of a tool: its object, or its text."""
    result = with_client(api, caller, lambda client: client.call_tool(name, arguments), mode)
    return result.structured_content or result.content[0].text


@pytest.mark.parametrize("mode", MODES)
def test_a_client_lists_the_tools_and_calls_one_as_its_user(mcp_api: Api, ada: Caller, mode: str) -> None:
    listed = with_client(mcp_api, ada, lambda client: client.list_tools(), mode)
    result = call(mcp_api, ada, "who_am_i", mode)

    tools = {tool.name: tool for tool in listed.tools}
    assert {"add_todo", "list_conversations", "read_conversation", "ask_assistant"} <= tools.keys()
    assert tools["add_todo"].title == "Add to the to-do list"
    assert tools["add_todo"].input_schema["required"] == ["text"]
    assert tools["add_todo"].annotations is None
    assert tools["show_todos"].annotations.read_only_hint is True
    assert tools["clear_todos"].annotations.destructive_hint is True
    assert result == {"user_id": ada.user_id, "organization": None, "client_id": ada.client_id}


def test_one_function_serves_the_model_an_approval_and_the_client(
    mcp_api: Api, ada: Caller, model: Model
) -> None:
    model.will_answer(tools=[("add_todo", {"text": "Milk"})]).then("Done")
    mcp_api.events(create("Remind me of the milk"), ada.person.token())
    by_model = model.calls[1].tool_outputs
    by_client = call(mcp_api, ada, "add_todo", text="Milk")
    model.will_answer(tools=[("add_todo_if_approved", {"text": "Milk"})]).then("Done")
    asked = mcp_api.events(create("Remind me of the milk"), ada.person.token())
    before = todos(ada.user_id)
    mcp_api.events(approval(asked), ada.person.token())

    assert by_model == ["Added (low). The list: ['Milk']"]
    assert by_client == "Added (low). The list: ['Milk', 'Milk']"
    assert before == ["Milk"] * 2
    assert model.calls[-1].tool_outputs == ["Added (low). The list: ['Milk', 'Milk', 'Milk']"]
    assert todos(ada.user_id) == ["Milk"] * 3
    calls = [
        each for each in records(mcp_api, user_id=ada.user_id, outcome="ok") if "add_todo" in each["tool"]
    ]
    assert [each["via"] for each in calls] == ["chat", "mcp", "approval"]
    assert [each["client_id"] for each in calls] == [None, ada.client_id, None]
    equal = ("session_id", "organization_id")
    assert len({tuple(each[name] for name in equal) for each in calls}) == 1


def approval(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The request that the client sends if the user approves the call in this answer."""
    item = events_of_type(events, "thread.item.done")[-1]["item"]
    buttons = {each["label"]: each["onClickAction"] for each in item["widget"]["children"][-1]["children"]}
    action = {name: buttons["Approve"][name] for name in ("type", "payload")}
    return operation(
        "threads.custom_action", thread_id=thread_id_of(events), item_id=item["id"], action=action
    )


# --- The three tools of ours ----------------------------------------------------------------------


def test_a_client_asks_the_assistant_and_reads_the_conversation(
    mcp_api: Api, ada: Caller, model: Model
) -> None:
    model.will_answer("Good ", "morning").then("Good ", "night")

    first = call(mcp_api, ada, "ask_assistant", message="Hello")
    thread_id = first["conversation_id"]
    second = call(mcp_api, ada, "ask_assistant", message="Bye", conversation_id=thread_id)
    read = call(mcp_api, ada, "read_conversation", conversation_id=thread_id, limit=3)
    older = call(mcp_api, ada, "read_conversation", conversation_id=thread_id, after=read["next_page"])

    assert first == {"answer": "Good morning", "conversation_id": thread_id}
    assert second == {"answer": "Good night", "conversation_id": thread_id}
    assert model.calls[1].conversation == [("user", "Hello"), ("assistant", "Good morning"), ("user", "Bye")]
    told = [(each["from"], each["text"]) for each in [*read["messages"], *older["messages"]]]
    assert told == [
        ("assistant", "Good night"),
        ("user", "Bye"),
        ("assistant", "Good morning"),
        ("user", "Hello"),
    ]
    assert older["next_page"] is None
    in_the_chat = mcp_api.post(operation("threads.list"), ada.person.token()).json()["data"]
    assert thread_id in [thread["id"] for thread in in_the_chat]


def test_conversations_are_listed_page_by_page_newest_first(mcp_api: Api, ada: Caller, bob: Caller) -> None:
    ids = [call(mcp_api, bob, "ask_assistant", message="Hi")["conversation_id"] for _ in range(3)]

    first = call(mcp_api, bob, "list_conversations", limit=2)
    second = call(mcp_api, bob, "list_conversations", limit=2, after=first["next_page"])

    listed = [*first["conversations"], *second["conversations"]]
    assert [each["id"] for each in listed] == ids[::-1]
    assert all(each["created_at"].endswith("+00:00") for each in listed)
    assert second["next_page"] is None
    refused = [call(mcp_api, ada, "list_conversations", after=first["next_page"])]
    refused.append(call(mcp_api, ada, "list_conversations", after="thr_missing"))
    assert refused[0] == refused[1] != {}


def test_anothers_conversation_is_like_a_missing_one(mcp_api: Api, ada: Caller, bob: Caller) -> None:
    theirs = call(mcp_api, bob, "ask_assistant", message="A secret")["conversation_id"]

    for thread_id in (theirs, "thr_missing", "x" * 5000):
        assert call(mcp_api, ada, "read_conversation", conversation_id=thread_id) == NOT_FOUND
        asked = call(mcp_api, ada, "ask_assistant", message="Hi", conversation_id=thread_id)
        assert asked == NOT_FOUND
    assert texts_of(items_of(bob, theirs))[0] == "A secret"
    assert len(items_of(bob, theirs)) == 2


def test_a_failure_of_the_model_is_told_and_the_message_is_stored(
    mcp_api: Api, ada: Caller, model: Model
) -> None:
    model.will_answer(status=400)

    answer = call(mcp_api, ada, "ask_assistant", message="Are you there?")

    assert "The conversation is thr_" in answer
    thread_id = answer.rpartition(" ")[2].rstrip(".")
    assert texts_of(items_of(ada, thread_id)) == ["Are you there?"]


# --- Clients that leave, and many calls -----------------------------------------------------------


def leave(api: Api, caller: Caller, body: Any, after_seconds: float = 0.5) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        post(api, caller.token, body, seconds=after_seconds)


def test_a_client_that_leaves_cancels_its_tool(mcp_api: Api, ada: Caller) -> None:
    leave(mcp_api, ada, tool_call("hang"))

    cancelled = {"user_id": ada.user_id, "tool": "hang", "outcome": "cancelled"}
    (record,) = eventually(lambda: records(mcp_api, **cancelled), len)
    assert record["duration_ms"] < 10_000


def test_a_client_that_leaves_cancels_the_answer_and_its_beginning_is_stored(
    mcp_api: Api, ada: Caller, model: Model
) -> None:
    model.will_answer("Once ", "upon ", ending="silence")

    leave(mcp_api, ada, tool_call("ask_assistant", message="A story"), after_seconds=3)

    eventually(lambda: records(mcp_api, tool="ask_assistant", outcome="cancelled"), len)
    newest = call(mcp_api, ada, "list_conversations", limit=1)["conversations"][0]["id"]
    assert texts_of(items_of(ada, newest)) == ["A story", "Once upon "]


def test_a_long_body_without_a_length_is_a_413(mcp_api: Api, ada: Caller) -> None:
    headers = {"Authorization": f"Bearer {ada.token}", "Content-Type": "application/json"}
    chunks = iter([b'{"jsonrpc": "', b"2" * 2_000_000, b'"}'])

    response = http.post(f"{mcp_api.origin}/support/mcp", content=chunks, headers=headers)

    assert (response.status_code, response.json()["status"]) == (413, 413)


def test_calls_that_wait_take_no_worker_thread(mcp_api: Api, ada: Caller) -> None:
    number = 3 * WORKER_THREADS
    accepted = {"outcome": "accepted", "user_id": ada.user_id}
    before = len(records(mcp_api, "authn.audit", **accepted))

    with ThreadPoolExecutor(number) as clients:
        hanging = [clients.submit(post, mcp_api, ada.token, tool_call("hang"), 2) for _ in range(number)]
        eventually(
            lambda: len(records(mcp_api, "authn.audit", **accepted)), lambda count: count == before + number
        )
        answered = post(mcp_api, ada.token, tool_call("show_todos")).json()
        assert not any(each.done() for each in hanging)

    assert answered["result"]["isError"] is False
    assert {type(each.exception()) for each in hanging} == {httpx2.ReadTimeout}


def test_parallel_calls_of_several_users_each_have_their_effect(
    mcp_api: Api, new_caller: Callable[[], Caller]
) -> None:
    callers = [new_caller() for _ in range(3)]

    with ThreadPoolExecutor(9) as clients:
        calls = [
            clients.submit(post, mcp_api, each.token, tool_call("add_todo", text=each.user_id))
            for each in callers * 3
        ]
        results = [each.result().json()["result"] for each in calls]

    assert [each["isError"] for each in results] == [False] * 9
    assert [todos(each.user_id) for each in callers] == [[each.user_id] * 3 for each in callers]


def test_the_limit_on_streams_counts_the_answers_to_clients(mcp_api: Api, ada: Caller, model: Model) -> None:
    model.will_answer("Good", waits=True)
    ask = tool_call("ask_assistant", message="Hello")

    with ThreadPoolExecutor(STREAMS_PER_USER) as clients:
        asked = [clients.submit(post, mcp_api, ada.token, ask) for _ in range(STREAMS_PER_USER)]
        eventually(lambda: len(model.calls), lambda count: count == STREAMS_PER_USER)
        refused = post(mcp_api, ada.token, ask).json()["result"]
        model.may_go_on.set()
        answered = [each.result().json()["result"] for each in asked]

    assert (refused["isError"], refused["content"][0]["text"]) == (True, TOO_MANY)
    assert [each["isError"] for each in answered] == [False] * STREAMS_PER_USER
