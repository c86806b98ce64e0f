"""Requests to the MCP endpoint: the protocol's versions, hostile bodies, origins, limits and outages."""

import json
import logging
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client

from runtime.worker_threads import TooManyWaiting
from support import api_view
from support.mcp import server
from support.tools import calls
from tests.fixtures.accounts.people import Person
from tests.fixtures.accounts.refusals import NO_CREDENTIALS, body_of
from tests.fixtures.environment import PAGE_ORIGIN
from tests.fixtures.oauth.mcp_requests import Send, message, tool_call
from tests.fixtures.servers.api import Api, http
from tests.fixtures.shop.tools import todos

pytestmark = pytest.mark.django_db

OLD_VERSIONS = ["2025-03-26", "2025-06-18", "2025-11-25"]
NEW_VERSION = "2026-07-28"
META = "io.modelcontextprotocol/"


def error_of(response: Any) -> tuple[int, int | str]:
    """The status, and JSON-RPC's code or our own error."""
    error = response.json()["error"]
    return response.status_code, error["code"] if isinstance(error, dict) else error


# --- Versions of the protocol ---------------------------------------------------------------------


@pytest.mark.parametrize("version", OLD_VERSIONS)
def test_a_client_of_2025_gets_its_version_and_no_session(send: Send, version: str) -> None:
    begun = send(message("initialize", protocolVersion=version, capabilities={}, clientInfo={}))
    noted = send({"jsonrpc": "2.0", "method": "notifications/initialized"})
    listed = send(message("tools/list"), headers={"MCP-Protocol-Version": version})

    assert begun.json()["result"]["protocolVersion"] == version
    assert "Mcp-Session-Id" not in begun.headers
    assert (noted.status_code, noted.content) == (202, b"")
    assert len(listed.json()["result"]["tools"]) > 3
    assert listed.headers["Cache-Control"] == "no-store"


def modern(method: str, headers: dict[str, str] | None = None, **params: Any) -> dict[str, Any]:
    """The arguments of ``send`` for a request of 2026."""
    meta = {f"{META}protocolVersion": NEW_VERSION, f"{META}clientCapabilities": {}}
    known = {"MCP-Protocol-Version": NEW_VERSION, "Mcp-Method": method}
    return {"body": message(method, _meta=meta, **params), "headers": known | (headers or {})}


def test_a_client_of_2026_needs_no_initialize(send: Send) -> None:
    discovered = send(**modern("server/discover"))
    called = send(**modern("tools/call", {"Mcp-Name": "who_am_i"}, name="who_am_i"))

    assert discovered.json()["result"]["supportedVersions"] == [NEW_VERSION, *reversed(OLD_VERSIONS)]
    assert called.json()["result"]["isError"] is False


def test_headers_that_contradict_the_body_are_refused(send: Send) -> None:
    contradictions = [
        modern("tools/call", {"Mcp-Name": "show_todos"}, name="add_todo", arguments={"text": "Milk"}),
        modern("tools/list", {"Mcp-Method": "tools/call"}),
        modern("tools/list", {"MCP-Protocol-Version": "2026-01-01"}),
    ]

    assert [send(**each).status_code for each in contradictions] == [400, 400, 400]


# --- Hostile bodies -------------------------------------------------------------------------------

NOT_JSON = "The request is not valid JSON, or is nested too deeply"
CALL = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add_todo", "arguments": %s}}'
HOSTILE = [
    pytest.param(b" ", (400, NOT_JSON), id="empty"),
    pytest.param(b"\xff", (400, NOT_JSON), id="not-utf-8"),
    pytest.param(b"NaN", (400, NOT_JSON), id="nan"),
    pytest.param(b"null", (400, -32600), id="null"),
    pytest.param(b'"initialize"', (400, -32600), id="text"),
    pytest.param(b"[]", (400, -32600), id="empty-batch"),
    pytest.param(b"[" + CALL % b'{"text": "Milk"}' + b"]", (400, -32600), id="batch"),
    pytest.param(b"[" * 300, (400, NOT_JSON), id="deep"),
    pytest.param(b"[" * 100_000, (400, NOT_JSON), id="very-deep"),
    pytest.param(CALL % (b'{"text": ' + b"[" * 250 + b"]" * 250 + b"}"), (400, NOT_JSON), id="deep-argument"),
    pytest.param(CALL % rb'{"text": "a\u0000"}', (400, "The request contains a NUL character"), id="nul"),
    pytest.param(CALL % rb'{"\u0000": 1}', (400, "The request contains a NUL character"), id="nul-in-name"),
    pytest.param(CALL % rb'{"text": "\ud800"}', (400, NOT_JSON), id="lone-surrogate"),
    pytest.param(CALL % b"[]", (200, -32602), id="arguments-are-a-list"),
    pytest.param(CALL % b'"Milk"', (200, -32602), id="arguments-are-text"),
    pytest.param(b'{"jsonrpc": "1.0", "id": 1, "method": "ping"}', (400, -32600), id="old-json-rpc"),
    pytest.param(b'{"id": 1, "method": "ping"}', (400, -32600), id="no-json-rpc"),
    pytest.param(b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', (400, -32600), id="id-null"),
    pytest.param(b'{"jsonrpc": "2.0", "id": true, "method": "ping"}', (400, -32600), id="id-true"),
    pytest.param(b'{"jsonrpc": "2.0", "id": {}, "method": "ping"}', (400, -32600), id="id-object"),
    pytest.param(b'{"jsonrpc": "2.0", "id": 1, "method": ["ping"]}', (400, -32600), id="method-list"),
    pytest.param(b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}', (400, -32600), id="params"),
    pytest.param(b'{"jsonrpc": "2.0", "id": 1, "result": {}}', (400, -32600), id="a-response"),
    pytest.param(b'{"jsonrpc": "2.0", "id": 1, "method": "rm"}', (200, -32601), id="unknown-method"),
    pytest.param(
        b'{"jsonrpc": "2.0", "id": 1, "method": "resources/list"}', (200, -32601), id="no-resources"
    ),
    pytest.param(
        b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": 5}}',
        (200, -32602),
        id="name-is-a-number",
    ),
    pytest.param(
        b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "__init__"}}',
        (200, -32602),
        id="unknown-tool",
    ),
]


@pytest.mark.parametrize(("body", "expected"), HOSTILE)
def test_a_hostile_body_is_refused_and_nothing_runs(
    send: Send, caller: Person, body: bytes, expected: tuple[int, int | str]
) -> None:
    assert error_of(send(body)) == expected
    assert todos(caller.user_id) == []


@pytest.mark.django_db(transaction=True)  # the tool commits in a thread of its own
def test_of_two_equal_keys_the_last_one_counts_everywhere(send: Send, caller: Person) -> None:
    twice = b'{"text": "Bread", "text": "Milk"}'
    body = CALL.replace(b'"name": "add_todo"', b'"name": "clear_todos", "name": "add_todo"') % twice

    assert send(body).json()["result"]["isError"] is False
    assert todos(caller.user_id) == ["Milk"]


def test_an_id_of_any_size_comes_back(send: Send) -> None:
    ids = [10**30, -1, "", "x" * 1000]

    assert [send(message("ping") | {"id": each}).json()["id"] for each in ids] == ids


@pytest.mark.parametrize("arguments", [{}, {"text": 5}, {"text": "a", "user_id": "b"}, {"text": {"a": 1}}])
def test_wrong_arguments_are_told_to_the_model(send: Send, caller: Person, arguments: dict[str, Any]) -> None:
    result = send(tool_call("add_todo", **arguments)).json()["result"]

    assert result["isError"] is True
    assert result["content"][0]["text"].startswith("Invalid arguments")
    assert todos(caller.user_id) == []


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/x-www-form-urlencoded"])
def test_another_content_type_is_a_415(send: Send, content_type: str) -> None:
    refused = send(message("ping"), content_type=content_type)

    assert (refused.status_code, refused.json()["status"]) == (415, 415)


def test_json_with_a_charset_is_accepted(send: Send) -> None:
    assert send(message("ping"), content_type="Application/JSON; charset=utf-8").status_code == 200


# --- Origins and methods --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        (PAGE_ORIGIN, 200),
        ("https://api.example.com", 200),  # the endpoint's own
        ("http://api.example.com", 403),
        ("https://api.example.com:444", 403),
        ("https://api.example.com.evil.com", 403),
        ("https://evil.com", 403),
        ("http://testserver", 403),  # django-mcpz would allow each host of ALLOWED_HOSTS
        ("http://localhost:6274", 403),
        ("null", 403),
        ("", 403),
        (f"{PAGE_ORIGIN}/", 403),
        ("https://[", 403),
    ],
)
def test_only_an_allowed_page_may_call(send: Send, origin: str | None, status: int) -> None:
    headers = {} if origin is None else {"Origin": origin}

    response = send(message("ping"), headers=headers)

    assert response.status_code == status
    if status == 403:
        assert response.json() == body_of("The Origin of this page is not allowed", 403)


def test_a_forbidden_page_is_refused_before_its_token_is_read(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    headers = {"Origin": "https://evil.com", "Authorization": "Bearer a.b.c"}

    response = Client().post("/support/mcp", b"{}", content_type="application/json", headers=headers)

    assert response.status_code == 403
    assert [record.name for record in caplog.records if record.name == "authn.audit"] == []


def test_a_page_may_send_the_headers_of_the_protocol() -> None:
    asked = {"Origin": PAGE_ORIGIN, "Access-Control-Request-Method": "POST"}
    allowed = Client().options("/support/mcp", headers=asked)
    refused = Client().options("/support/mcp", headers=asked | {"Origin": "https://evil.com"})

    headers = set(allowed["Access-Control-Allow-Headers"].split(", "))
    assert {"mcp-protocol-version", "mcp-method", "mcp-name", "mcp-session-id", "last-event-id"} <= headers
    assert allowed["Access-Control-Allow-Origin"] == PAGE_ORIGIN
    assert "Access-Control-Allow-Headers" not in refused


def test_there_is_no_stream_and_no_session_to_get_or_delete(token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}

    responses = [Client().generic(method, "/support/mcp", headers=headers) for method in ("GET", "DELETE")]

    assert [(each.status_code, each["Allow"]) for each in responses] == [(405, "POST")] * 2


# --- Limits and outages ---------------------------------------------------------------------------


def test_nobody_calls_without_a_credential() -> None:
    response = Client().post("/support/mcp", b"{}", content_type="application/json")

    assert (response.status_code, response.json()) == (401, body_of(NO_CREDENTIALS, 401))
    assert response["WWW-Authenticate"].startswith("Bearer ")


def test_a_long_body_is_a_413(send: Send, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000

    response = send(tool_call("repeat", word="a" * 1000, times=1))

    assert (response.status_code, response.json()) == (
        413,
        body_of("The request body exceeds 1000 bytes", 413),
    )


def test_too_many_requests_of_a_user_are_a_429(send: Send, settings: Any) -> None:
    settings.SUPPORT_RATE_PER_USER = "2/min"

    responses = [send(message("ping")) for _ in range(3)]

    assert [each.status_code for each in responses] == [200, 200, 429]
    assert 0 < int(responses[-1]["Retry-After"]) <= 60


def test_a_database_that_does_not_answer_is_a_503(send: Send) -> None:
    def broken(*args: Any) -> Any:
        raise OperationalError("the server closed the connection unexpectedly")

    with connection.execute_wrapper(broken):
        response = send(message("ping"))

    assert (response.status_code, response.json()["status"]) == (503, 503)
    assert int(response["Retry-After"]) > 0


def test_too_many_waiting_calls_are_a_503(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []

    def full(request: Any, call: Any, share: float = 1) -> None:
        shares.append(share)
        raise TooManyWaiting

    monkeypatch.setattr(server, "wait_for_response", full)

    response = send(tool_call("who_am_i"))

    assert shares == [0.5]  # the chat has the other half

    assert (response.status_code, response.json()["status"]) == (503, 503)
    assert int(response["Retry-After"]) > 0


def test_a_tool_that_takes_too_long_is_an_error(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "TIMEOUT_SECONDS", 0.05)

    result = send(tool_call("hang")).json()["result"]

    assert (result["isError"], result["content"][0]["text"].startswith(calls.UNKNOWN_EFFECT)) == (True, True)


def test_the_log_has_no_arguments_and_no_results(send: Send, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    send(tool_call("repeat", word="confidential", times=2))

    (record,) = [each for each in caplog.records if each.name == "authn.audit.tools"]
    facts: dict[str, Any] = vars(record)
    assert (facts["tool"], facts["via"], facts["outcome"]) == ("repeat", "mcp", "ok")
    assert "confidential" not in str([vars(each) for each in caplog.records])


def test_the_operations_of_the_metrics_are_a_fixed_set(send: Send) -> None:
    seen = []
    receiver = api_view.answered.connect(lambda operation, **_: seen.append(operation), weak=False)

    for body in (message("initialize"), message("tools/list"), tool_call("show_todos"), message("a" * 99)):
        send(body)

    api_view.answered.disconnect(receiver)
    assert seen == ["mcp.initialize", "mcp.tools_list", "mcp.tools_call", "mcp.other"]


# --- Off ------------------------------------------------------------------------------------------


def test_without_the_setting_the_endpoint_is_an_unknown_path(api: Api, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    metadata = f"{api.origin}/.well-known/oauth-protected-resource/support"

    off, unknown = [
        http.post(f"{api.origin}/support/{name}", content=json.dumps(message("ping")), headers=headers)
        for name in ("mcp", "mcq")
    ]
    off_metadata, unknown_metadata = [http.get(f"{metadata}/{name}") for name in ("mcp", "mcq")]

    assert (
        (off.status_code, off.json())
        == (unknown.status_code, unknown.json())
        == (404, body_of("Not Found", 404))
    )
    assert off_metadata.status_code == unknown_metadata.status_code == 404
    assert off_metadata.content.replace(b"mcp", b"mcq") == unknown_metadata.content
