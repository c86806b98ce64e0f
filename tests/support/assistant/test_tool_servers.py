"""SUPPORT_MCP_SERVERS, and the tokens that tell its servers who the user is."""

import json
import ssl
import time
from types import SimpleNamespace
from typing import Any

import httpx2
import jwt
import pytest

from authn.sessions import Organization
from support.assistant.mcp_servers import connections, servers
from support.assistant.mcp_servers.connections import CallerAuth
from support.assistant.mcp_servers.servers import ToolServer
from tests.fixtures.owner import Owner
from tests.fixtures.servers.api import http
from tests.fixtures.servers.tool_server import ToolServerProcess

SECRET = "0123456789abcdef0123456789abcdef"
TODO = {"name": "todo", "url": "https://todo.example.com/mcp", "secret": SECRET}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "tests", "version": "1"},
    },
}


# --- The token ------------------------------------------------------------------------------------


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, SECRET, algorithms=["HS256"], audience=TODO["url"])


def test_a_token_names_the_user_the_server_and_the_issuer_and_is_short_lived() -> None:
    before = int(time.time())

    claims = claims_of(ToolServer(**TODO).token_for("ada"))

    assert set(claims) == {"iss", "aud", "sub", "iat", "exp", "jti"}
    assert (claims["iss"], claims["aud"], claims["sub"]) == ("chatbackend", TODO["url"], "ada")
    assert claims["exp"] - claims["iat"] == 60
    assert before <= claims["iat"] <= time.time()


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (Owner("ada", Organization("acme", "admin,member")), {"org_id": "acme", "org_role": "admin,member"}),
        (Owner("ada"), {}),
        (SimpleNamespace(user_id="ada"), {}),  # a team's own context
    ],
    ids=["organization", "none", "own context"],
)
def test_a_token_names_the_active_organization_and_the_role_in_it(
    context: Any, expected: dict[str, str]
) -> None:
    request = next(CallerAuth(context, ToolServer(**TODO)).auth_flow(httpx2.Request("POST", TODO["url"])))

    claims = claims_of(request.headers["Authorization"].removeprefix("Bearer "))

    assert {name: claims[name] for name in claims if name.startswith("org_")} == expected
    assert claims["sub"] == "ada"


def test_every_request_to_a_tool_server_has_a_new_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context: Any = Owner("ada")
    auth, tokens = CallerAuth(context, ToolServer(**TODO)), []
    for seconds in (60, 90):  # as if 30 seconds had passed between the two requests
        monkeypatch.setattr(servers, "TOKEN_LIFETIME", servers.timedelta(seconds=seconds))
        request = next(auth.auth_flow(httpx2.Request("POST", TODO["url"])))
        tokens.append(claims_of(request.headers["Authorization"].removeprefix("Bearer ")))

    assert tokens[0]["jti"] != tokens[1]["jti"]
    assert tokens[1]["exp"] >= tokens[0]["exp"] + 30


def test_the_repr_of_a_tool_server_has_no_secret() -> None:
    assert SECRET not in repr(ToolServer(**TODO))


# --- The server in docs/tools.md ------------------------------------------------------------------


def status_of(server: ToolServerProcess, token: str | None) -> int:
    headers = {"Accept": "application/json, text/event-stream"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    return http.post(server.url, json=INITIALIZE, headers=headers).status_code


def forged(server: ToolServerProcess, key: str = "", algorithm: str = "HS256", **changes: Any) -> str:
    good = jwt.decode(
        ToolServer("todo", server.url, server.secret).token_for("ada"), options={"verify_signature": False}
    )
    claims = {name: value for name, value in (good | changes).items() if value is not None}
    return jwt.encode(claims, key or server.secret, algorithm=algorithm)


def test_the_documented_server_accepts_our_token(todo_server: ToolServerProcess) -> None:
    assert status_of(todo_server, forged(todo_server)) == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "the-secret-of-somebody-else-entirely"},
        {"exp": 1},
        {"aud": "http://other.example.com/mcp"},
        {"aud": None},
        {"iss": "somebody"},
        {"iss": None},
        {"exp": None},
        {"sub": None},
        {"jti": None},
    ],
    ids=str,
)
def test_the_documented_server_refuses_any_other_token(
    todo_server: ToolServerProcess, changes: dict[str, Any]
) -> None:
    assert status_of(todo_server, forged(todo_server, **changes)) == 401


def test_the_documented_server_refuses_unsigned_and_missing_tokens(todo_server: ToolServerProcess) -> None:
    unsigned = jwt.encode({"sub": "ada", "aud": todo_server.url}, "", algorithm="none")

    assert status_of(todo_server, unsigned) == 401
    assert status_of(todo_server, "nonsense") == 401
    assert status_of(todo_server, None) == 401


# --- The setting ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [TODO],
        [{"name": "todo", "url": "http://localhost:8080/mcp"}],
        [TODO, {"name": "to-do_2", "url": "https://2.example.com"}],
        [TODO, TODO | {"name": "more", "secret": SECRET[::-1]}],
    ],
)
def test_valid_server_entries_have_no_problems(entries: Any) -> None:
    assert servers.problems(entries) == []


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ({}, "not a list"),
        ("todo", "not a list"),
        (["todo"], "number 1: it is not an object"),
        ([TODO, None], "number 2: it is not an object"),
        ([TODO | {"url": 5}], "number 1: it is not an object"),
        ([{}], "its name should be"),
        ([TODO | {"name": "To do"}], "its name should be"),
        ([TODO | {"name": "x" * 25}], "its name should be"),
        ([{"name": "todo"}], "its url should be"),
        ([TODO | {"url": "todo.example.com"}], "its url should be"),
        ([TODO | {"url": "ftp://todo.example.com"}], "its url should be"),
        ([TODO | {"url": "https://user:password@todo.example.com"}], "its url should be"),
        ([TODO | {"url": "https://todo.example.com?token=1"}], "its url should be"),
        ([TODO | {"url": "https://todo.example.com:port"}], "its url should be"),
        ([TODO | {"url": "https://[::1"}], "its url should be"),
        ([TODO | {"url": "https://todo.example.com\n"}], "its url should be"),
        ([TODO | {"secret": "short"}], "at least 32 bytes"),
        ([TODO | {"secret": ""}], "at least 32 bytes"),
        ([TODO | {"password": "x"}], "only name, secret, url"),
        ([TODO, TODO | {"secret": SECRET[::-1]}], "the same name"),
        ([TODO, TODO | {"name": "more"}], "the same secret"),
    ],
)
def test_problems_name_the_entrys_number_and_quote_no_secret(entries: Any, problem: str) -> None:
    found = "; ".join(servers.problems(entries))

    assert problem in found
    assert SECRET not in found
    assert "password@" not in json.dumps(found)


# --- The connection -------------------------------------------------------------------------------


def test_all_connections_share_one_tls_context_which_checks_certificates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[ssl.SSLContext] = []
    make = httpx2.create_ssl_context

    def remember(*args: Any, **options: Any) -> ssl.SSLContext:
        made.append(make(*args, **options))
        return made[-1]

    monkeypatch.setattr(httpx2, "create_ssl_context", remember)
    connections._tls_context.cache_clear()

    contexts = {id(connections.http_client()._transport._pool._ssl_context) for _ in range(3)}  # type: ignore[attr-defined]

    [context] = made
    assert contexts == {id(context)}
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
