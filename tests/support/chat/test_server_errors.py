"""A team's exceptions: faults are logged, refusals keep their status, the caller's mistakes are a 4xx."""

import json
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import httpx2
import pytest
from starlette.exceptions import HTTPException

from support.chat.server_errors import refusal_of
from tests.fixtures.accounts.people import BetterAuth
from tests.fixtures.servers.api import Api, add, create, http, operation


@pytest.fixture(scope="module")
def failing(auth: Any, start_api: Callable[..., Any]) -> Iterator[Api]:
    with start_api(
        CHATKIT_SERVER="tests.fixtures.chatkit.failing_server.FailingServer",
        CHATKIT_CONTEXT="tests.fixtures.chatkit.failing_server.build",
        DJANGO_SETTINGS_MODULE="tests.fixtures.chatkit.failing_settings",
        SUPPORT_RATE_PER_USER="100000/min",
    ) as running:
        yield running


class Chat:
    """A thread on the failing server, and the server's log since ``forget_the_log``."""

    def __init__(self, api: Api, token: str) -> None:
        self._api, self._token, self._bearer = api, token, {"Authorization": f"Bearer {token}"}
        events = api.events(create(), token)
        self.id, self.answer_id = events[0]["thread"]["id"], events[-1]["item"]["id"]
        self.forget_the_log()

    def forget_the_log(self) -> None:
        self._logged_before = self._api.log.stat().st_size

    def ask(self, kind: str, raised: str = "", /, **params: Any) -> httpx2.Response:
        """``raised``: where the server raises an exception, and which one, such as "respond: http"."""
        body = operation(kind, **DEFAULTS.get(kind, {}) | {"thread_id": self.id} | params)
        return self._api.post(body, self._token, X_Fails=raised)

    def stream(self, kind: str, raised: str = "", /, **params: Any) -> list[dict[str, Any]]:
        response = self.ask(kind, raised, **params)
        assert response.headers["Content-Type"] == "text/event-stream", response.text
        return [json.loads(event.removeprefix("data: ")) for event in response.text.strip().split("\n\n")]

    def upload(self, content: bytes) -> httpx2.Response:
        files = {"file": ("a.txt", content, "text/plain")}
        return http.post(f"{self._api.origin}/support/attachments", headers=self._bearer, files=files)

    def address_of(self, attachment_id: str) -> str:
        url = f"{self._api.origin}/support/attachments/{attachment_id}"
        return str(http.get(url, headers=self._bearer).json()["content_url"])

    def log(self) -> str:
        return self._api.log.read_bytes()[self._logged_before :].decode()

    def traceback(self) -> str:
        return "".join(json.loads(line).get("exc_info", "") for line in self.log().splitlines())


ACTION = {"action": {"type": "choose"}}
DEFAULTS: dict[str, dict[str, Any]] = {
    "threads.create": create()["params"],
    "threads.add_user_message": add("")["params"],
    "threads.update": {"title": "Ring"},
    "threads.custom_action": ACTION,
    "threads.sync_custom_action": ACTION,
    "attachments.create": {"name": "a.png", "size": 1, "mime_type": "image/png"},
    "items.feedback": {"item_ids": ["msg_1"], "kind": "positive"},
    "input.transcribe": {"audio_base64": "AAAA", "mime_type": "audio/webm"},
}
# Where a team's code may raise, and an operation that calls that code and is answered with JSON.
PLACES = {
    "context": "threads.update",
    "process": "threads.update",
    "load_thread": "threads.update",
    "create_attachment": "attachments.create",
    "sync_action": "threads.sync_custom_action",
    "add_feedback": "items.feedback",
    "transcribe": "input.transcribe",
}


@pytest.fixture(scope="module")
def one_chat(failing: Api, auth: BetterAuth) -> Chat:
    return Chat(failing, auth.sign_up().token())


@pytest.fixture
def chat(one_chat: Chat) -> Chat:
    one_chat.forget_the_log()
    return one_chat


def body(status: int, message: str) -> dict[str, Any]:
    return {"error": message, "status": status, "message": message}


ERROR_WITHOUT_TEXT = {"type": "error", "code": "stream.error", "allow_retry": True}


def error_with_text(message: str, *, allow_retry: bool = False) -> dict[str, Any]:
    return {"type": "error", "code": "custom", "message": message, "allow_retry": allow_retry}


# --- Faults ---------------------------------------------------------------------------------------

STORES = ("load_thread", "create_attachment")
FAULTS = [
    (place, error)
    for place in PLACES
    for error in ("ValueError", "NotImplementedError", "NotFoundError")
    if not (error == "NotFoundError" and place in STORES)
]


@pytest.mark.parametrize(("place", "error"), FAULTS)
def test_a_fault_of_a_teams_server_is_a_500_and_its_traceback_is_logged(
    chat: Chat, place: str, error: str
) -> None:
    response = chat.ask(PLACES[place], f"{place}: {error}")

    assert (response.status_code, response.json()) == (500, body(500, "Internal Server Error"))
    assert "failing_server.py" in chat.traceback()


@pytest.mark.parametrize("error", ["httpx", "openai", "client", "StreamError"])
def test_the_status_of_a_failed_call_to_another_service_is_not_sent_to_the_caller(
    chat: Chat, error: str
) -> None:
    response = chat.ask("threads.sync_custom_action", f"sync_action: {error}")

    assert response.status_code == 500


@pytest.mark.parametrize("error", ["ValueError", "NotImplementedError", "NotFoundError", "httpx", "http 503"])
@pytest.mark.parametrize("place", ["respond", "action"])
def test_a_fault_while_a_server_answers_is_an_error_event_and_its_traceback_is_logged(
    chat: Chat, place: str, error: str
) -> None:
    events = chat.stream("threads.custom_action", f"{place}: {error}")

    assert events[-1] == ERROR_WITHOUT_TEXT
    assert "failing_server.py" in chat.traceback()


def test_a_not_found_error_while_a_server_answers_is_a_fault(chat: Chat) -> None:
    events = chat.stream("threads.add_user_message", "respond, asking the store: -")

    assert events[-1] == ERROR_WITHOUT_TEXT
    assert "failing_server.py" in chat.traceback()


@pytest.mark.parametrize("error", ["ValueError", "NotFoundError", "NotImplementedError", "http 503"])
def test_a_fault_before_the_first_event_is_an_error_event_and_not_a_5xx(chat: Chat, error: str) -> None:
    events = chat.stream("threads.custom_action", f"get_stream_options: {error}")

    assert events == [ERROR_WITHOUT_TEXT]
    assert "failing_server.py" in chat.traceback()


# --- Mistakes of the caller -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "raised", "params"),
    [
        ("threads.update", "load_thread: NotFoundError", {}),
        ("threads.custom_action", "load_thread: NotFoundError", {}),
        ("threads.sync_custom_action", "load_item: NotFoundError", {"item_id": "msg_1"}),
        ("attachments.create", "create_attachment: NotFoundError", {}),
        ("items.feedback", "", {"thread_id": "thr_1"}),
        ("threads.update", "", {"thread_id": "thr_1"}),
        ("threads.custom_action", "", {"thread_id": "thr_1"}),
    ],
)
def test_a_row_that_a_store_does_not_find_is_a_404_and_is_not_logged_as_a_fault(
    chat: Chat, kind: str, raised: str, params: dict[str, str]
) -> None:
    response = chat.ask(kind, raised, **params)

    assert (response.status_code, response.json()) == (404, body(404, "Not found"))
    assert chat.traceback() == ""


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("threads.sync_custom_action", {}),
        ("threads.retry_after_item", {}),
        ("threads.add_structured_input", {"input": {"status": "skipped", "answers": {}}}),
        ("threads.add_client_tool_output", {"result": {}}),
    ],
)
def test_a_request_that_the_sdk_refuses_is_a_400_and_is_not_logged_as_a_fault(
    chat: Chat, kind: str, params: dict[str, Any]
) -> None:
    response = chat.ask(kind, item_id=chat.answer_id, **params)

    assert response.status_code == 400
    assert chat.traceback() == ""


# --- Refusals -------------------------------------------------------------------------------------

REFUSALS = [
    ("http", 402, "The plan of your company ends here", {}),
    ("http headers", 429, "Slowly", {"Retry-After": "30", "WWW-Authenticate": 'Bearer realm="shop"'}),
    ("http odd headers", 401, "Who is it?", {}),
    ("http object", 409, "Sold", {}),
    ("http list", 422, HTTPStatus(422).phrase, {}),
    ("http no phrase", 499, "Refused", {}),
    ("http 503", 503, "The airline is down", {"Retry-After": "40"}),
    ("drf", 403, "Not on this plan", {}),
    ("drf fields", 400, "Bad Request", {}),
    ("drf throttled", 429, "Request was throttled. Expected available in 7 seconds.", {"Retry-After": "7"}),
    ("drf unauthenticated", 401, "Sign in at the airline", {}),
    ("Http404", 404, "No such seat", {}),
    ("Http404 bare", 404, "Not found", {}),
    ("PermissionDenied", 403, "Not your seat", {}),
    ("BadRequest", 400, "Bad request", {}),
    ("SuspiciousOperation", 400, "Bad request", {}),
]


@pytest.mark.parametrize(("error", "status", "message", "headers"), REFUSALS)
def test_a_refusal_keeps_its_status_its_text_and_its_safe_headers(
    chat: Chat, error: str, status: int, message: str, headers: dict[str, str]
) -> None:
    response = chat.ask("attachments.create", f"create_attachment: {error}")

    assert (response.status_code, response.json()) == (status, body(status, message))
    kept = {name: response.headers.get(name) for name in ("Retry-After", "WWW-Authenticate")}
    assert {name: value for name, value in kept.items() if value} == headers
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("status", [200, 302, 399, 600, True, "402", None])
def test_an_exception_without_an_error_status_is_not_a_refusal(status: Any) -> None:
    assert refusal_of(HTTPException(status, "The plan of your company ends here")) is None


@pytest.mark.parametrize("place", PLACES)
def test_a_refusal_is_kept_wherever_a_team_raises_it(chat: Chat, place: str) -> None:
    response = chat.ask(PLACES[place], f"{place}: http")

    assert response.json() == body(402, "The plan of your company ends here")
    assert chat.traceback() == ""


def test_a_refusal_of_a_teams_server_is_not_counted_as_a_refused_attempt(chat: Chat) -> None:
    chat.ask("threads.sync_custom_action", "sync_action: drf unauthenticated")

    assert "no_credentials" not in chat.log()


def test_a_refusal_with_a_5xx_is_logged_with_its_traceback(chat: Chat) -> None:
    chat.ask("threads.sync_custom_action", "sync_action: http 503")

    assert "failing_server.py" in chat.traceback()


@pytest.mark.parametrize(
    ("kind", "place"), [("threads.custom_action", "load_thread"), ("threads.create", "add user_message")]
)
def test_a_refusal_before_the_first_event_of_a_stream_keeps_its_status(
    chat: Chat, kind: str, place: str
) -> None:
    response = chat.ask(kind, f"{place}: http")

    assert (response.status_code, response.json()) == (402, body(402, "The plan of your company ends here"))
    assert chat.traceback() == ""


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("threads.custom_action", "respond"),
        ("threads.custom_action", "action"),
        ("threads.custom_action", "add assistant_message"),
    ],
)
def test_a_refusal_in_a_stream_is_an_error_event_with_its_text_and_no_retry(
    chat: Chat, kind: str, place: str
) -> None:
    events = chat.stream(kind, f"{place}: http")

    assert events[-1] == error_with_text("The plan of your company ends here")
    assert chat.traceback() == ""


@pytest.mark.parametrize("place", ["respond", "add user_message", "load_thread"])
def test_a_custom_stream_error_reaches_the_client_wherever_it_is_raised(chat: Chat, place: str) -> None:
    events = chat.stream("threads.add_user_message", f"{place}: CustomStreamError")

    assert events[-1] == error_with_text("Sorry", allow_retry=True)
    assert chat.traceback() == ""


def test_a_teams_file_storage_may_refuse_an_upload(chat: Chat) -> None:
    response = chat.upload(b"No room for this")

    assert (response.status_code, response.json()) == (507, body(507, "The bucket is full"))


def test_a_teams_file_storage_may_refuse_a_download(chat: Chat) -> None:
    address = chat.address_of(chat.upload(b"Hello").json()["id"])

    response = http.get(address)

    assert (response.status_code, response.json()) == (451, body(451, "Not in this country"))
