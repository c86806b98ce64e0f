"""The assistant's tools, called in the user's name, over both APIs: those of real MCP servers in their own
processes, and Python functions."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import AsyncMock

import pytest

from chatbackend.dev.processes import free_port
from support.assistant import agent
from support.assistant.mcp_servers import connections
from support.assistant.mcp_servers.servers import ToolServer
from support.assistant.provider import failure_messages
from support.assistant.provider.input_items import FILE_NOT_SHOWN
from support.assistant.provider.simpler_requests import FILES_NOT_READ
from support.tools import calls
from tests.fixtures.accounts.people import Person
from tests.fixtures.assistant import APIS
from tests.fixtures.conversations import deltas_of, events_of_type, items_of, texts_of, thread_id_of, types_of
from tests.fixtures.model.server import Call, Model
from tests.fixtures.owner import Owner
from tests.fixtures.servers.api import Api, add, create, eventually, operation
from tests.fixtures.servers.slow_tools import PICTURE
from tests.fixtures.servers.tool_server import ToolServerProcess, silent_tool_server
from tests.fixtures.shop.tools import todos

pytestmark = pytest.mark.django_db

ADD, SHOW = "mcp_todo__add", "mcp_todo__show"


@pytest.fixture(scope="module", params=APIS)
def api(
    request: pytest.FixtureRequest,
    start_assistant: Callable[..., Any],
    todo_server: ToolServerProcess,
    slow_server: ToolServerProcess,
) -> Iterator[Api]:
    servers = json.dumps([todo_server.entry("todo"), slow_server.entry("slow")])
    functions = "tests.fixtures.shop.tools"
    with start_assistant(request.param, SUPPORT_MCP_SERVERS=servers, SUPPORT_TOOLS=functions) as running:
        yield running


def todo_tools(call: Call) -> list[str]:
    return [name for name in call.tools if name.startswith("mcp_todo__")]


def test_a_tool_is_called_in_the_middle_of_an_answer(api: Api, person: Person, model: Model) -> None:
    model.will_answer("Wait, ", tools=[(ADD, {"text": "Buy milk"})]).then("Done", ".")

    events = api.events(create("Remind me of the milk"), person.token())

    assert deltas_of(events) == ["Wait, ", "Done", "."]
    assert todo_tools(model.calls[0]) == [ADD, SHOW]
    assert model.calls[1].tool_outputs == ["Added. The list: ['Buy milk']"]
    stored = items_of(person, thread_id_of(events))
    assert texts_of(stored) == ["Remind me of the milk", "Wait, ", "Done."]
    assert len({item.id for item in stored}) == 3


def test_the_client_sees_the_tools_title_and_not_its_arguments(
    api: Api, person: Person, model: Model
) -> None:
    model.will_answer(tools=[(ADD, {"text": "A surprise"}), (SHOW, {})]).then("Done")

    events = api.events(create("Hello"), person.token())

    shown = events_of_type(events, "progress_update")
    assert {event["text"] for event in shown} == {"Add to the to-do list", "Look at the to-do list"}
    assert "A surprise" not in json.dumps(shown)


def test_tools_act_for_the_user_who_asks(
    api: Api, person: Person, other_person: Person, model: Model
) -> None:
    model.will_answer(tools=[(ADD, {"text": "Hers"})]).then("Done")
    api.events(create("Hello"), person.token())
    model.will_answer(tools=[(ADD, {"text": "His"})]).then("Done")
    api.events(create("Hello"), other_person.token())
    model.will_answer(tools=[(SHOW, {})]).then("Done")

    api.events(create("What is on my list?"), person.token())

    assert model.calls[1].tool_outputs == ["The list: ['Hers']"]
    assert todo_tools(model.calls[1]) == [ADD, SHOW]


def test_the_next_message_can_use_the_tools_again(api: Api, person: Person, model: Model) -> None:
    model.will_answer(tools=[(ADD, {"text": "One"})]).then("First done")
    thread_id = thread_id_of(api.events(create("One"), person.token()))
    model.will_answer(tools=[(ADD, {"text": "Two"})]).then("Second done")

    events = api.events(add(thread_id, "Two"), person.token())

    assert deltas_of(events) == ["Second done"]
    assert model.calls[0].conversation == [("user", "One"), ("assistant", "First done"), ("user", "Two")]
    assert model.calls[1].tool_outputs == ["Added. The list: ['One', 'Two']"]


def test_a_model_that_never_stops_calling_tools_is_stopped(api: Api, person: Person, model: Model) -> None:
    model.will_answer(tools=[(SHOW, {})])

    events = api.events(create("Hello"), person.token())

    [error] = events_of_type(events, "error")
    assert (error["message"], error["allow_retry"]) == (failure_messages.ENDLESS, True)
    assert len(model.calls) == agent.MAX_TURNS
    assert types_of(items_of(person, thread_id_of(events))) == ["user_message"]


@pytest.mark.parametrize(
    ("name", "arguments"), [(ADD, {}), (ADD, {"text": 5}), ("mcp_todo__fly", {}), ("rm", {"path": "/"})]
)
def test_the_model_gets_an_error_for_a_wrong_tool_call_and_can_try_again(
    api: Api, person: Person, model: Model, name: str, arguments: dict[str, Any]
) -> None:
    model.will_answer(tools=[(name, arguments)]).then("I have tried")

    events = api.events(create("Hello"), person.token())

    assert deltas_of(events) == ["I have tried"]
    assert events_of_type(events, "notice") == events_of_type(events, "error") == []
    assert model.calls[1].tool_outputs != ["Added. The list: []"]


# --- Python functions -----------------------------------------------------------------------------


def test_a_python_function_is_called_in_the_middle_of_an_answer(
    api: Api, person: Person, other_person: Person, model: Model
) -> None:
    model.will_answer("Wait, ", tools=[("add_todo", {"text": "Black tea", "priority": "high"})]).then("Done")

    events = api.events(create("Remind me of the tea"), person.token())

    assert deltas_of(events) == ["Wait, ", "Done"]
    assert model.calls[1].tool_outputs == ["Added (high). The list: ['Black tea']"]
    assert [each["text"] for each in events_of_type(events, "progress_update")] == ["Add to the to-do list"]
    assert (todos(person.user_id), todos(other_person.user_id)) == (["Black tea"], [])
    call = next(each for each in tool_calls(api) if each["user_id"] == person.user_id)
    assert (call["tool"], call["via"], call["outcome"]) == ("add_todo", "chat", "ok")
    assert call["session_id"] == person.session_id
    assert "Black tea" not in str(call)


def tool_calls(api: Api) -> list[dict[str, Any]]:
    records = (json.loads(line) for line in api.log.read_text().splitlines() if line.startswith("{"))
    return [record for record in records if record["logger"] == "authn.audit.tools"]


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("add_todo", {}, "Invalid arguments: text: Field required."),
        ("add_todo", {"text": "a", "user_id": "b"}, "Invalid arguments: there is no user_id."),
        ("fail", {}, calls.UNKNOWN_EFFECT),
    ],
)
def test_a_python_function_that_fails_is_a_sentence_for_the_model(
    api: Api, person: Person, model: Model, name: str, arguments: dict[str, Any], answer: str
) -> None:
    model.will_answer(tools=[(name, arguments)]).then("I have tried")

    events = api.events(create("Hello"), person.token())

    assert deltas_of(events) == ["I have tried"]
    assert model.calls[1].tool_outputs == [answer]
    assert "the secret of the shop" not in json.dumps(events)


def test_the_user_can_pick_a_python_function(api: Api, person: Person, model: Model) -> None:
    model.will_answer(tools=[("show_todos", {})]).then("Nothing")
    chosen, unknown = create("Hello"), create("Hello")
    chosen["params"]["input"]["inference_options"] = {"tool_choice": {"id": "show_todos"}}
    unknown["params"]["input"]["inference_options"] = {"tool_choice": {"id": "drop_table"}}

    api.events(chosen, person.token())

    assert model.calls[0].body["tool_choice"] != "auto"
    assert api.post(unknown, person.token()).status_code == 400


# --- Servers that are down, slow or wrong ---------------------------------------------------------


class WebPage(BaseHTTPRequestHandler):
    """A web page in place of an MCP server. It records the headers of all requests."""

    def do_POST(self) -> None:
        self.server.headers.append(str(self.headers))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html>Welcome</html>")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        pass


@contextmanager
def web_page() -> Iterator[tuple[str, list[str]]]:
    """The URL of a page, and the headers of its requests."""
    with ThreadingHTTPServer(("127.0.0.1", 0), WebPage) as page:
        page.headers = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=page.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{page.server_port}/mcp", page.headers  # type: ignore[attr-defined]
        finally:
            page.shutdown()
            thread.join()


class KeepAliveServer(BaseHTTPRequestHandler):
    """Keeps its connections open. Each answer is the client's address and port."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        caller = str(self.client_address).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(caller)))
        self.end_headers()
        self.wfile.write(caller)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        pass


@pytest.mark.parametrize(("idle_seconds", "is_reused"), [(60, True), (0, False)])
def test_an_idle_connection_to_a_tool_server_is_not_used_again(
    idle_seconds: float, is_reused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_IDLE_SECONDS", idle_seconds)

    async def ask_twice(url: str) -> list[str]:
        connection = connections.Connection(ToolServer("todo", url), Owner("a-user"), AsyncMock())
        async with connection.params["httpx_client_factory"]() as client:
            return [(await client.get(url)).text for _ in range(2)]

    with ThreadingHTTPServer(("127.0.0.1", 0), KeepAliveServer) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        first, second = asyncio.run(ask_twice(f"http://127.0.0.1:{server.server_port}"))
        server.shutdown()

    assert (first == second) is is_reused


def test_the_answer_continues_without_tool_servers_that_are_down_slow_or_wrong(
    start_assistant: Callable[..., Any],
    start_tool_server: Callable[..., Any],
    todo_server: ToolServerProcess,
    person: Person,
    model: Model,
) -> None:
    model.will_answer(tools=[(ADD, {"text": "Mine"}), ("mcp_more__show", {})]).then("Done")
    token = person.token()
    with (
        web_page() as (page, headers),
        web_page() as (signed_page, signed_headers),
        silent_tool_server() as silent,
        start_tool_server("todo_tools", secret="another-secret-of-another-to-do-server") as more,
        start_assistant(
            SUPPORT_MCP_SERVERS=json.dumps(
                [
                    todo_server.entry("todo"),
                    more.entry("more"),
                    todo_server.entry("locked") | {"secret": "a-secret-that-the-server-does-not-know"},
                    {"name": "down", "url": f"http://127.0.0.1:{free_port()}/mcp"},
                    {"name": "silent", "url": silent},
                    {"name": "page", "url": page},
                    {
                        "name": "signed",
                        "url": signed_page,
                        "secret": "a-secret-of-what-turns-out-to-be-a-page",
                    },
                ]
            )
        ) as api,
    ):
        begun = time.monotonic()
        events = api.events(create("Hello"), token)
        took = time.monotonic() - begun

    assert deltas_of(events) == ["Done"]
    assert model.calls[1].tool_outputs == ["Added. The list: ['Mine']", "The list: []"]
    notices = {(event["level"], event["message"]) for event in events_of_type(events, "notice")}
    assert notices == {
        ("warning", f"The tools of “{name}” are not available at the moment.")
        for name in ("locked", "down", "silent", "page", "signed")
    }
    # The silent server delays the answer by the timeout only.
    assert took < 3 * connections.CONNECT_TIMEOUT_SECONDS
    assert headers
    assert all("authorization" not in each.lower() for each in headers)
    assert all("Bearer ey" in each and token not in each for each in signed_headers)
    log = api.log.read_text()
    assert "MCP server locked cannot be reached: ExceptionGroup, last HTTP status 401" in log
    assert "Traceback" not in log
    assert token not in log


def test_a_tool_server_that_is_killed_during_a_call_gives_one_notice_and_the_answer_continues(
    start_assistant: Callable[..., Any],
    start_tool_server: Callable[..., Any],
    person: Person,
    model: Model,
) -> None:
    model.will_answer(tools=[("mcp_slow__look_up", {})]).then(tools=[("mcp_slow__look_up", {})]).then(
        "Never mind"
    )
    with (
        start_tool_server("slow_tools") as slow,
        start_assistant(SUPPORT_MCP_SERVERS=json.dumps([slow.entry("slow")])) as api,
        api.stream(create("Look it up"), person.token()) as stream,
    ):
        events = []
        for _, event in stream:
            events.append(event)
            if event.get("text") == "Look it up" and not slow.process.poll():
                eventually(slow.printed, lambda lines: "begun" in lines)
                slow.process.kill()

    assert deltas_of(events) == ["Never mind"]
    assert [event["message"] for event in events_of_type(events, "notice")] == [
        "The tools of “slow” are not available at the moment."
    ]
    assert ["nothing is known of its effect" in output for output in model.calls[2].tool_outputs] == [
        True
    ] * 2
    assert texts_of(items_of(person, thread_id_of(events))) == ["Look it up", "Never mind"]


def test_the_result_of_a_tool_is_cut_to_the_limit_over_all_its_parts(
    api: Api, person: Person, model: Model
) -> None:
    recite = [("mcp_slow__recite_everything", {}), ("mcp_slow__recite_in_parts", {})]
    model.will_answer(tools=recite).then("Enough")

    events = api.events(create("Tell me"), person.token())

    lengths = [len(output.replace("\n\n", "")) for output in model.calls[1].tool_outputs]
    assert lengths == [connections.MAX_OUTPUT_LENGTH + len(" … (cut off here)")] * 2
    assert events_of_type(events, "progress_update")[0]["text"] == "recite everything"


# --- Models that accept less than OpenAI's --------------------------------------------------------


def test_parallel_tool_calls_with_the_same_index_are_separate_calls(
    api: Api, person: Person, model: Model
) -> None:
    model.will_answer(tools=[(ADD, {"text": "Bread"}), (SHOW, {}), (ADD, {"text": "Milk"})], same_index=True)
    model.then("Done")

    events = api.events(create("Hello"), person.token())

    assert deltas_of(events) == ["Done"]
    assert len(model.calls[1].tool_outputs) == 3
    assert any("'Bread', 'Milk'" in output or "'Milk', 'Bread'" in output for output in outputs(model))


def outputs(model: Model) -> list[str]:
    return model.calls[-1].tool_outputs


@pytest.mark.parametrize("quirk", ["strict-roles", "strings-only", "no-empty-text", "foreign-ids"])
def test_a_model_that_accepts_only_plain_messages_can_use_tools(
    api: Api, person: Person, model: Model, quirk: str
) -> None:
    model.will_answer("Wait", tools=[(ADD, {"text": "Bread"}), (SHOW, {})]).then("Done")
    model.quirks = {quirk}

    events = api.events(create("Hello"), person.token())

    assert deltas_of(events) == ["Wait", "Done"]
    assert model.refused == []


def test_a_provider_that_stores_nothing_gets_no_ids_of_earlier_items(
    api: Api, person: Person, model: Model
) -> None:
    first, second = create("Hello"), add("", "And now?")
    for body in (first, second):
        body["params"]["input"]["inference_options"] = {"model": "forgetful-model"}
    look = [(SHOW, {})]
    model.will_answer("Wait", tools=look).then("Done").then("Wait", tools=look).then("Done again")
    model.quirks = {"stores-nothing"}

    events = api.events(first, person.token())
    second["params"]["thread_id"] = thread_id_of(events)
    events += api.events(second, person.token())

    assert deltas_of(events) == ["Wait", "Done", "Wait", "Done again"]
    assert events_of_type(events, "notice") == []
    assert outputs(model) == ["The list: []"]
    # Chat Completions has no ids. The Responses API refuses once, because the refusal is remembered.
    assert len(model.refused) == ("input" in model.calls[0].body)


def test_a_picture_that_a_tool_returns_is_shown_to_the_model(api: Api, person: Person, model: Model) -> None:
    model.will_answer(tools=[("mcp_slow__look_at_the_door", {}), (SHOW, {})]).then("It is open")

    events = api.events(create("Is it open?"), person.token())

    assert deltas_of(events) == ["It is open"]
    assert events_of_type(events, "notice") == []
    sent = json.dumps(model.calls[1].body)
    assert sent.count(PICTURE) == 1
    assert "omitted" not in sent


def test_a_tools_picture_that_the_model_refuses_gives_one_notice(
    api: Api, person: Person, model: Model
) -> None:
    look = [("mcp_slow__look_at_the_door", {})]
    model.will_answer(tools=look).then(tools=look).then("I cannot see it")
    model.quirks = {"no-pictures"}

    events = api.events(create("Is it open?"), person.token())

    assert deltas_of(events) == ["I cannot see it"]
    assert [event["message"] for event in events_of_type(events, "notice")] == [FILES_NOT_READ]
    assert FILE_NOT_SHOWN in json.dumps(model.calls[-1].body)


# --- The tool that the user picks -----------------------------------------------------------------


def picking(tool: str, body: dict[str, Any]) -> dict[str, Any]:
    body["params"]["input"]["inference_options"] = {"tool_choice": {"id": tool}}
    return body


def test_the_picked_tool_is_called_first(api: Api, person: Person, model: Model) -> None:
    model.will_answer(tools=[(SHOW, {})]).then("Done").then("You are welcome")

    events = api.events(picking(SHOW, create("What is on it?")), person.token())
    api.events(add(thread_id_of(events), "Thank you"), person.token())

    chosen = [call.body.get("tool_choice") for call in model.calls]
    assert SHOW in json.dumps(chosen[0])
    assert chosen[1:] == [None, None]


def test_a_picked_tool_that_no_server_has_is_an_error_before_the_model_is_called(
    api: Api, person: Person, model: Model
) -> None:
    events = api.events(picking("mcp_todo__fly", create("Fly")), person.token())

    [error] = events_of_type(events, "error")
    assert error["message"].startswith("The tool that you picked is not available.")
    assert model.calls == []
    thread_id = thread_id_of(events)
    assert texts_of(items_of(person, thread_id)) == ["Fly"]
    assert deltas_of(api.events(add(thread_id, "Walk"), person.token())) == ["Good ", "morning", "!"]


def test_a_picked_name_that_cannot_be_a_tools_is_refused_before_anything_is_stored(
    api: Api, person: Person, model: Model
) -> None:
    token = person.token()

    refused = [api.post(picking(name, create()), token) for name in ("web_search", "required", "mcp_" * 20)]

    error = "params.input.inference_options.tool_choice.id is not one of the tools on offer"
    assert [(each.status_code, each.json()["error"]) for each in refused] == [(400, error)] * 3
    assert api.post(operation("threads.list"), token).json()["data"] == []
    assert model.calls == model.title_calls == []
