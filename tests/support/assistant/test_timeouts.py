"""Models and tools that are not there, keep us waiting, or talk nonsense.

In the test's own process, where our patience is as short as the test likes.
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
from support.assistant.mcp import tools
from support.assistant.provider import client, model_errors
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
    """Send a message; the events of its answer."""
    settings.OPENAI_BASE_URL, settings.SUPPORT_MODEL = model.base_url, "model-of-the-tests"
    settings.SUPPORT_MODEL_API = request.param
    context: Any = SimpleNamespace(user_id=person.user_id, user=person, locale="")

    @async_to_sync
    async def say(body: Any) -> list[dict[str, Any]]:
        result = await SupportServer().process(json.dumps(body), context)
        assert isinstance(result, StreamingResult)
        events = []
        async for line in result:
            events.append(json.loads(line.removeprefix(b"data: ")))
            if deltas_of(events[-1:]):
                model.may_go_on.set()
        await client.client().close()
        return events

    return say


def retried(chat: Chat, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    said = events[1]["item"]
    return chat(operation("threads.retry_after_item", thread_id=thread_id_of(events), item_id=said["id"]))


# --- Models ---------------------------------------------------------------------------------------


def test_a_model_that_is_down_gives_an_error_and_a_retry_works(
    chat: Chat, person: Person, model: Model, settings: Any
) -> None:
    settings.OPENAI_BASE_URL = f"http://127.0.0.1:{free_port()}/v1"

    events = chat(create("Hello"))

    [error] = events_of_type(events, "error")
    assert (error["message"], error["allow_retry"]) == (model_errors.UNREACHABLE, True)
    settings.OPENAI_BASE_URL = model.base_url
    assert deltas_of(retried(chat, events)) == ["Good ", "morning", "!"]
    assert texts_of(items_of(person, thread_id_of(events))) == ["Hello", "Good morning!"]


def test_a_silent_model_gives_an_error_after_one_timeout_and_a_retry_works(
    chat: Chat, person: Person, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "READ_TIMEOUT_SECONDS", 0.5)
    model.will_answer(ending="silence")

    events = chat(create("Hello"))

    [error] = events_of_type(events, "error")
    assert (error["message"], error["allow_retry"]) == (model_errors.UNREACHABLE, True)
    assert len(model.calls) == 1
    assert texts_of(items_of(person, thread_id_of(events))) == ["Hello"]
    monkeypatch.undo()
    model.will_answer("Here ", "I am")
    assert deltas_of(retried(chat, events)) == ["Here ", "I am"]


@pytest.mark.parametrize("ending", ["silence", "failure"])  # of others test_faults.py tells
def test_text_before_a_failure_is_stored_and_a_retry_replaces_it(
    chat: Chat, person: Person, model: Model, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(client, "READ_TIMEOUT_SECONDS", 1 if ending == "silence" else 30)
    model.will_answer("Once ", "upon", ending=ending)

    events = chat(create("A story"))

    [error] = events_of_type(events, "error")
    assert (error["message"], error["allow_retry"]) == (model_errors.BROKE_OFF, True)
    assert texts_of(items_of(person, thread_id_of(events))) == ["A story", "Once upon"]
    monkeypatch.undo()
    model.will_answer("Twice ", "upon")
    assert deltas_of(retried(chat, events)) == ["Twice ", "upon"]
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

    assert deltas_of(retried(chat, events)) == ["Once ", "upon"]
    assert texts_of(items_of(person, thread_id_of(events))) == ["A story", "Once upon"]


# --- Tools ----------------------------------------------------------------------------------------

ANSWERS = {
    "initialize": {
        "protocolVersion": "2025-06-18",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "odd", "version": "1"},
    },
    "tools/list": {"tools": [{"name": "look_up", "inputSchema": {"type": "object"}}]},
}
NONSENSE = b"<html>Welcome</html>"


class OddToolServer(BaseHTTPRequestHandler):
    """Connects and lists its one tool as it should. What becomes of a call is its server's ``fault``."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "id" not in asked:
            self._say(202, b"")
        elif asked["method"] == "tools/call":
            self._fail(self.server.fault, asked["id"])  # type: ignore[attr-defined]
        else:
            found = ANSWERS.get(asked["method"])
            said = {"result": found} if found else {"error": {"code": -32601, "message": "Method not found"}}
            self._say(200, json.dumps({"jsonrpc": "2.0", "id": asked["id"]} | said).encode())

    def _fail(self, fault: str, call: Any) -> None:
        match fault:
            case "no JSON":
                self._say(200, NONSENSE)
            case "a page":
                self._say(200, NONSENSE, "text/html")
            case "no result":
                self._say(200, json.dumps({"jsonrpc": "2.0", "id": call, "result": {"content": 5}}).encode())
            case "refused":
                self._say(429, NONSENSE, "text/html")
            case "failed":
                self._say(500, NONSENSE, "text/html")
            case "cut off":
                self._say(200, b'{"jsonrpc": "2.0", "result"', length=100)
            case "silence":
                self.server.over.wait(20)  # type: ignore[attr-defined]

    def _say(self, status: int, body: bytes, kind: str = "application/json", length: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._say(405, b"")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        pass


@contextmanager
def odd_tool_server(fault: str) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), OddToolServer) as server:
        server.fault, server.over = fault, threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/mcp"
        finally:
            server.over.set()  # type: ignore[attr-defined]
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("chat", ["chat_completions"], indirect=True)  # of the other test_tools.py tells
@pytest.mark.parametrize(
    "fault", ["silence", "cut off", "no JSON", "a page", "no result", "refused", "failed"]
)
def test_a_failing_tool_call_gives_one_notice_and_the_answer_continues(
    chat: Chat, person: Person, model: Model, settings: Any, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(tools, "CALL_TIMEOUT_SECONDS", 1 if fault == "silence" else 15)
    model.will_answer("Let me see. ", tools=[("mcp_odd__look_up", {})]).then("Never mind")

    with odd_tool_server(fault) as url:
        settings.SUPPORT_MCP_SERVERS = [{"name": "odd", "url": url}]
        events = chat(create("Look it up"))

    assert [event["message"] for event in events_of_type(events, "notice")] == [
        "The tools of “odd” are not available at the moment."
    ]
    assert events_of_type(events, "error") == []
    assert texts_of(items_of(person, thread_id_of(events))) == ["Look it up", "Let me see. ", "Never mind"]
    [told] = model.calls[1].tool_outputs
    assert "nothing is known of its effect" in told
    assert "Welcome" not in told

    model.will_answer("Without ", "tools")
    assert deltas_of(retried(chat, events)) == ["Without ", "tools"]
    assert texts_of(items_of(person, thread_id_of(events))) == ["Look it up", "Without tools"]
