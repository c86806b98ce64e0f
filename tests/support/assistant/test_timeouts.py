"""Models and tools that are down, silent or wrong.

These tests run the server in their own process, so that they can shorten its timeouts.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from chatkit.server import StreamingResult

from chatbackend.dev.processes import free_port
from support.assistant.mcp_servers import connections
from support.assistant.provider import client, failure_messages
from support.server import SupportServer
from tests.fixtures.accounts.people import Person
from tests.fixtures.assistant import APIS
from tests.fixtures.conversations import deltas_of, events_of_type, items_of, texts_of, thread_id_of
from tests.fixtures.model.server import Model
from tests.fixtures.servers.api import create, operation

pytestmark = pytest.mark.django_db

Chat = Callable[[Any], list[dict[str, Any]]]


@pytest.fixture(params=APIS)
def chat(request: pytest.FixtureRequest, person: Person, model: Model, settings: Any) -> Chat:
    """A function that sends a request and returns the events of the answer."""
    settings.OPENAI_BASE_URL, settings.SUPPORT_MODEL = model.base_url, "model-of-the-tests"
    settings.SUPPORT_MODEL_API = request.param
    context: Any = SimpleNamespace(user_id=person.user_id, user=person, locale="")

    @async_to_sync
    async def send(body: Any) -> list[dict[str, Any]]:
        result = await SupportServer().process(json.dumps(body), context)
        assert isinstance(result, StreamingResult)
        events = []
        async for line in result:
            events.append(json.loads(line.removeprefix(b"data: ")))
            if deltas_of(events[-1:]):
                model.may_go_on.set()
        await client.get_client().close()
        return events

    return send


def retry(chat: Chat, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    message = events[1]["item"]
    return chat(operation("threads.retry_after_item", thread_id=thread_id_of(events), item_id=message["id"]))


# --- Models ---------------------------------------------------------------------------------------


def test_a_model_that_is_down_gives_an_error_and_a_retry_works(
    chat: Chat, person: Person, model: Model, settings: Any
) -> None:
    settings.OPENAI_BASE_URL = f"http://127.0.0.1:{free_port()}/v1"

    events = chat(create("Hello"))

    [error] = events_of_type(events, "error")
    assert (error["message"], error["allow_retry"]) == (failure_messages.UNREACHABLE, True)
    settings.OPENAI_BASE_URL = model.base_url
    assert deltas_of(retry(chat, events)) == ["Good ", "morning", "!"]
    assert texts_of(items_of(person, thread_id_of(events))) == ["Hello", "Good morning!"]


def test_a_silent_model_gives_an_error_after_one_timeout_and_a_retry_works(
    chat: Chat, person: Person, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "READ_TIMEOUT_SECONDS", 0.5)
    model.will_answer(ending="silence")

    events = chat(create("Hello"))

    [error] = events_of_type(events, "error")
    assert (error["message"], error["allow_retry"]) == (failure_messages.UNREACHABLE, True)
    assert len(model.calls) == 1
    assert texts_of(items_of(person, thread_id_of(events))) == ["Hello"]
    monkeypatch.undo()
    model.will_answer("Here ", "I am")
    assert deltas_of(retry(chat, events)) == ["Here ", "I am"]


@pytest.mark.parametrize("ending", ["silence", "failure"])  # test_model_errors.py tests the others
def test_text_before_a_failure_is_stored_and_a_retry_replaces_it(
    chat: Chat, person: Person, model: Model, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(client, "READ_TIMEOUT_SECONDS", 1 if ending == "silence" else 30)
    model.will_answer("Once ", "upon", ending=ending)

    events = chat(create("A story"))

    [error] = events_of_type(events, "error")
    assert (error["message"], error["allow_retry"]) == (failure_messages.BROKE_OFF, True)
    assert texts_of(items_of(person, thread_id_of(events))) == ["A story", "Once upon"]
    monkeypatch.undo()
    model.will_answer("Twice ", "upon")
    assert deltas_of(retry(chat, events)) == ["Twice ", "upon"]
    assert texts_of(items_of(person, thread_id_of(events))) == ["A story", "Twice upon"]
    assert model.calls[0].conversation == [("user", "A story")]


@pytest.mark.parametrize(
    "turn",
    [
        {"status": 429, "headers": {"Retry-After": "30"}},
        {"ending": "nonsense"},
    ],
    ids=str,
)
def test_a_retry_works_after_a_failure_before_the_first_word(
    chat: Chat, person: Person, model: Model, turn: dict[str, Any]
) -> None:
    model.will_answer(**turn)
    events = chat(create("A story"))
    assert [error["allow_retry"] for error in events_of_type(events, "error")] == [True]

    model.will_answer("Once ", "upon")

    assert deltas_of(retry(chat, events)) == ["Once ", "upon"]
    assert texts_of(items_of(person, thread_id_of(events))) == ["A story", "Once upon"]


# --- Tools ----------------------------------------------------------------------------------------

RESULTS = {
    "initialize": {
        "protocolVersion": "2025-06-18",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "odd", "version": "1"},
    },
    "tools/list": {"tools": [{"name": "look_up", "inputSchema": {"type": "object"}}]},
}
HTML_PAGE = b"<html>Welcome</html>"


class FailingToolServer(BaseHTTPRequestHandler):
    """An MCP server with one tool. Only a call of the tool fails, as the server's ``fault`` says."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "id" not in request:
            self._send(202, b"")
        elif request["method"] == "tools/call":
            self._fail(self.server.fault, request["id"])  # type: ignore[attr-defined]
        else:
            result = RESULTS.get(request["method"])
            answer = (
                {"result": result} if result else {"error": {"code": -32601, "message": "Method not found"}}
            )
            self._send(200, json.dumps({"jsonrpc": "2.0", "id": request["id"]} | answer).encode())

    def _fail(self, fault: str, call: Any) -> None:
        match fault:
            case "no JSON":
                self._send(200, HTML_PAGE)
            case "a page":
                self._send(200, HTML_PAGE, "text/html")
            case "no result":
                self._send(200, json.dumps({"jsonrpc": "2.0", "id": call, "result": {"content": 5}}).encode())
            case "refused":
                self._send(429, HTML_PAGE, "text/html")
            case "failed":
                self._send(500, HTML_PAGE, "text/html")
            case "cut off":
                self._send(200, b'{"jsonrpc": "2.0", "result"', length=100)
            case "silence":
                self.server.finished.wait(20)  # type: ignore[attr-defined]

    def _send(self, status: int, body: bytes, kind: str = "application/json", length: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._send(405, b"")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        pass


@contextmanager
def failing_tool_server(fault: str) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), FailingToolServer) as server:
        server.fault, server.finished = fault, threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/mcp"
        finally:
            server.finished.set()  # type: ignore[attr-defined]
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("chat", ["chat_completions"], indirect=True)  # test_tools.py has the other API
@pytest.mark.parametrize(
    "fault", ["silence", "cut off", "no JSON", "a page", "no result", "refused", "failed"]
)
def test_a_failing_tool_call_gives_one_notice_and_the_answer_continues(
    chat: Chat, person: Person, model: Model, settings: Any, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(connections, "CALL_TIMEOUT_SECONDS", 1 if fault == "silence" else 15)
    model.will_answer("Let me see. ", tools=[("mcp_odd__look_up", {})]).then("Never mind")

    with failing_tool_server(fault) as url:
        settings.SUPPORT_MCP_SERVERS = [{"name": "odd", "url": url}]
        events = chat(create("Look it up"))

    assert [event["message"] for event in events_of_type(events, "notice")] == [
        "The tools of “odd” are not available at the moment."
    ]
    assert events_of_type(events, "error") == []
    assert texts_of(items_of(person, thread_id_of(events))) == ["Look it up", "Let me see. ", "Never mind"]
    [output] = model.calls[1].tool_outputs
    assert "nothing is known of its effect" in output
    assert "Welcome" not in output

    model.will_answer("Without ", "tools")
    assert deltas_of(retry(chat, events)) == ["Without ", "tools"]
    assert texts_of(items_of(person, thread_id_of(events))) == ["Look it up", "Without tools"]
