"""The client's address without a proxy, behind one or two proxies, and with forged headers."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx2
import pytest
from django.core.checks import run_checks
from uvicorn.config import Config
from uvicorn.main import main as uvicorn

from authn import client_address
from chatbackend.dev.processes import free_port
from support.management.commands import runserver
from tests.fixtures.code_blocks import TOP, blocks
from tests.fixtures.programs import nginx
from tests.fixtures.servers.api import Api, operation
from tests.fixtures.servers.deployments import AUTH_ONLY

PEER, CLIENT, FORGED = "10.0.0.1", "203.0.113.7", "198.51.100.66"


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, None, PEER),
        (0, FORGED, PEER),
        (0, f"{FORGED}, {CLIENT}", PEER),
        (1, None, PEER),
        (1, "", PEER),
        (1, CLIENT, CLIENT),
        (1, f"{FORGED}, {CLIENT}", CLIENT),
        (1, f"{FORGED},{FORGED},{FORGED}, {CLIENT} ", CLIENT),
        (1, f"{FORGED}, ", PEER),
        (1, f"{FORGED}, unknown", PEER),
        (1, f"{FORGED}, 203.0.113.7\n", CLIENT),
        (1, f"{FORGED}, 203.0.113.256", PEER),
        (1, f"{FORGED}, {CLIENT}:4711", CLIENT),
        (1, "2001:db8::1", "2001:db8::1"),
        (1, "[2001:db8::1]:4711", "2001:db8::1"),
        (1, "[2001:db8::1", "2001:db8::1"),
        (1, "2001:DB8:0::1", "2001:db8::1"),
        (1, "::ffff:203.0.113.7", CLIENT),
        (2, f"{FORGED}, {CLIENT}, 192.0.2.1", CLIENT),
        (2, f"{CLIENT}, 192.0.2.1", CLIENT),
        (2, CLIENT, PEER),  # it came through only one of the two
        (2, None, PEER),
    ],
)
def test_the_address_is_what_our_outermost_proxy_saw(
    settings: Any, proxies: int, forwarded: str | None, address: str
) -> None:
    settings.NUM_PROXIES = proxies
    meta = {"REMOTE_ADDR": PEER} | ({} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded})

    assert client_address.address(meta) == address


def test_a_client_on_a_unix_socket_has_no_address(settings: Any) -> None:
    settings.NUM_PROXIES = 1

    assert client_address.address({}) is None
    assert client_address.network({}) == ""
    assert client_address.address({"HTTP_X_FORWARDED_FOR": CLIENT}) == CLIENT


def test_an_ipv4_client_on_a_dual_stack_socket_has_its_ipv4_address() -> None:
    metas = [{"REMOTE_ADDR": f"::ffff:{address}"} for address in (CLIENT, FORGED)]

    assert [client_address.address(meta) for meta in metas] == [CLIENT, FORGED]
    assert [client_address.network(meta) for meta in metas] == [CLIENT, FORGED]


def test_an_ipv4_client_is_one_address_and_an_ipv6_client_a_network() -> None:
    networks = [
        client_address.network({"REMOTE_ADDR": address})
        for address in (CLIENT, FORGED, "2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1", "fe80::1%eth0")
    ]

    assert networks == [CLIENT, FORGED, "2001:db8::/64", "2001:db8::/64", "2001:db8:0:1::/64", "fe80::/64"]


# --- Settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("proxies", [-1, 11])
def test_an_invalid_number_of_proxies_stops_the_start(settings: Any, proxies: int) -> None:
    settings.NUM_PROXIES = proxies

    assert [message.id for message in run_checks()] == ["authn.E014"]


@pytest.mark.parametrize(("proxies", "warnings"), [(0, ["chatbackend.W001"]), (1, [])])
def test_a_proxy_that_num_proxies_does_not_count_is_logged(
    settings: Any, proxies: int, warnings: list[str]
) -> None:
    settings.SECURE_PROXY_SSL_HEADER, settings.NUM_PROXIES = ("HTTP_X_FORWARDED_PROTO", "https"), proxies

    assert [message.id for message in run_checks()] == warnings


# --- The server -----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[0, 2], ids="NUM_PROXIES={}".format)
def proxied(
    request: pytest.FixtureRequest, auth: Any, start_api: Callable[..., Any]
) -> Iterator[tuple[int, Api]]:
    with start_api(
        **AUTH_ONLY,
        NUM_PROXIES=str(request.param),
        UVICORN_PROXY_HEADERS="False",  # as --no-proxy-headers
    ) as running:
        yield request.param, running


def recorded(api: Api, url: str, **headers: str) -> Any:
    request_id = str(uuid.uuid4())
    httpx2.post(url, json=operation("threads.list"), headers={"X-Request-ID": request_id} | headers)
    [record] = api.audit_records(request_id)
    return record["client_address"]


def test_an_address_that_the_client_claims_is_not_in_the_audit_log(proxied: tuple[int, Api]) -> None:
    proxies, api = proxied

    assert recorded(api, api.url, **{"X-Forwarded-For": FORGED}) == "127.0.0.1"
    two = recorded(api, api.url, **{"X-Forwarded-For": f"{FORGED}, {CLIENT}, 192.0.2.1"})
    assert two == (CLIENT if proxies else "127.0.0.1")


def test_behind_two_nginx_the_address_is_what_the_outer_one_saw(
    proxied: tuple[int, Api], tmp_path: Any
) -> None:
    proxies, api = proxied
    outer, inner = blocks("test_deployment.py", "nginx")
    replaced, added = (
        next(line for line in block.text.splitlines() if "X-Forwarded-For" in line)
        for block in (outer, inner)
    )
    ports = free_port(), free_port()
    servers = "".join(
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {target}; {line}\n"
        "proxy_set_header Host $host; } }\n"
        for port, target, line in (
            (ports[0], f"http://127.0.0.1:{ports[1]}", replaced),
            (ports[1], api.origin, added),
        )
    )
    elsewhere = httpx2.Client(transport=httpx2.HTTPTransport(local_address="127.0.0.2"))
    request_id = str(uuid.uuid4())

    with (
        nginx(tmp_path, servers, ports[0]),
        closing(elsewhere),
    ):
        elsewhere.post(
            f"http://127.0.0.1:{ports[0]}/support/chatkit",
            headers={"Host": "localhost", "X-Forwarded-For": FORGED, "X-Request-ID": request_id},
        )

    [record] = api.audit_records(request_id)
    assert record["client_address"] == ("127.0.0.2" if proxies else "127.0.0.1")


def test_uvicorn_trusts_forwarded_headers_from_its_own_machine_by_default() -> None:
    """If this test ever fails, ``--no-proxy-headers`` is no longer needed."""
    assert Config("x:y").proxy_headers
    assert Config("x:y").forwarded_allow_ips == "127.0.0.1,::1"


def test_our_start_commands_make_uvicorn_trust_no_forwarded_header(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = [
        (TOP / "README.md").read_text().partition("$ uvicorn ")[2].partition("\n")[0].split(),
        (TOP / "docs/deployment.md").read_text().partition("bin/uvicorn ")[2].partition("\n")[0].split(),
        [*eval((TOP / "Dockerfile").read_text().rpartition("\nCMD ")[2])][3:],
    ]
    options: dict[str, Any] = {}
    monkeypatch.setattr(runserver.uvicorn, "run", lambda *_, **given: options.update(given))
    monkeypatch.setattr(runserver.Command, "check_migrations", lambda _: None)
    monkeypatch.setattr(runserver, "import_string", lambda _: None)  # the application
    command = runserver.Command()
    command.addr, command.port = "127.0.0.1", "8000"
    command.inner_run(use_static_handler=False)

    assert options["proxy_headers"] is False
    for arguments in commands:
        assert uvicorn.make_context("uvicorn", arguments).params["proxy_headers"] is False, arguments
