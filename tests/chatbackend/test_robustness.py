"""Responses while signal receivers fail, the database is down, or worker threads are busy."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core import signals
from django.core.handlers.asgi import ASGIHandler
from django.db import InternalError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.test import Client
from django.urls import path
from psycopg.errors import ReadOnlySqlTransaction

from chatbackend.web import overload
from chatbackend.web.probes import Probes, is_probe
from runtime import handler, worker_threads
from runtime.deferred_response import wait_for_response
from runtime.handler import WorkerThreadHandler
from tests.fixtures.clock import Clock

pytestmark = pytest.mark.django_db


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("Hello")


def deferred(request: HttpRequest) -> HttpResponseBase:
    async def respond() -> HttpResponse:
        return HttpResponse("deferred", headers={"Vary": "Accept-Language"})

    return wait_for_response(request, respond)


def failing(request: HttpRequest) -> HttpResponse:
    match request.GET["case"]:
        case "silent database":
            raise OperationalError("the server does not answer")
        case "too many waiting":
            raise worker_threads.TooManyWaiting
        case "read-only database":
            raise InternalError from ReadOnlySqlTransaction()
    raise RuntimeError


urlpatterns = [path("hello", hello), path("support/deferred", deferred), path("failing", failing)]
handler500 = "chatbackend.web.overload.server_error_or_unavailable"


@pytest.fixture(autouse=True)
def _urls(settings: Any) -> None:
    settings.ROOT_URLCONF, settings.ALLOWED_HOSTS = __name__, ["testserver"]
    settings.SECURE_SSL_REDIRECT = False


def get(application: Any, path: str, **more_scope: Any) -> tuple[int, dict[bytes, bytes], bytes]:
    """Return the status, the headers and the body."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "http_version": "1.1",
        "headers": [(b"host", b"testserver")],
    }

    async def communicate() -> tuple[int, dict[bytes, bytes], bytes]:
        communicator = ApplicationCommunicator(application, scope | more_scope)
        await communicator.send_input({"type": "http.request"})
        start, body = await communicator.receive_output(10), await communicator.receive_output(10)
        await communicator.wait(10)
        return start["status"], dict(start["headers"]), body["body"]

    return asyncio.run(communicate())


@pytest.fixture
def broken_receiver() -> Iterator[None]:
    def fail(**_: Any) -> None:
        raise RuntimeError("the receiver fails")

    signals.request_finished.connect(fail)
    yield
    signals.request_finished.disconnect(fail)


@pytest.mark.usefixtures("broken_receiver")
def test_a_response_is_sent_if_a_receiver_of_request_finished_fails(caplog: pytest.LogCaptureFixture) -> None:
    status, _, body = get(WorkerThreadHandler(), "/hello")

    assert (status, body) == (200, b"Hello")
    assert "the receiver fails" in caplog.text


@pytest.mark.parametrize("handler", [ASGIHandler, WorkerThreadHandler])
def test_middleware_adds_to_the_vary_header_of_a_deferred_response(
    handler: Callable[[], Any], settings: Any
) -> None:
    _, headers, _ = get(handler(), "/support/deferred")

    assert headers[b"vary" if b"vary" in headers else b"Vary"] == b"Accept-Language, origin"


@pytest.mark.parametrize("probe", ["/healthz", "/readyz"])
def test_probes_are_answered_below_a_root_path(probe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        assert is_probe(scope)
        await Probes()(scope, receive, send)

    monkeypatch.setattr("chatbackend.web.probes.Readiness.checks", all_checks_pass)
    status, _, _ = get(application, f"/api{probe}", root_path="/api")

    assert status == 200


async def all_checks_pass(_: Any) -> dict[str, str]:
    return {"database": "ok"}


@pytest.mark.parametrize("case", ["silent database", "read-only database", "too many waiting"])
def test_a_page_gives_a_503_with_retry_after_during_an_outage(client: Client, case: str) -> None:
    client.raise_request_exception = False

    response = client.get("/failing", {"case": case})

    assert (response.status_code, response["Retry-After"]) == (503, "2")


def test_a_page_gives_a_500_for_a_bug(client: Client) -> None:
    client.raise_request_exception = False

    response = client.get("/failing", {"case": "bug"})

    assert response.status_code == 500


@pytest.mark.parametrize(("seconds", "status"), [(2.4, 200), (2.6, 503)])
def test_a_request_that_has_waited_too_long_behind_a_hanging_call_gets_a_503(
    seconds: float, status: int, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_threads, "LONG_CALL_SECONDS", 0)
    worker_threads.workers.submit(int).result()
    settings.DATABASE_TIMEOUT_SECONDS = 5.0
    Clock(100.0).replace_in(monkeypatch, handler)
    Clock(100.0 + seconds).replace_in(monkeypatch, overload)

    seen_status, headers, _ = get(WorkerThreadHandler(), "/hello")

    assert seen_status == status
    assert (b"Retry-After" in headers) == (status == 503)


def test_a_request_that_has_waited_long_behind_short_calls_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_threads.workers, "last_long_call_at", 99.0)  # before the request
    Clock(100.0).replace_in(monkeypatch, handler)
    Clock(160.0).replace_in(monkeypatch, overload)

    status, _, _ = get(WorkerThreadHandler(), "/hello")

    assert status == 200
