"""What others do to a request on its way, and what that must not cost it."""

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
from chatbackend.web.probes import answering_probes
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


def fails(request: HttpRequest) -> HttpResponse:
    match request.GET["with"]:
        case "silence":
            raise OperationalError("the server does not answer")
        case "many waiting":
            raise worker_threads.TooManyWaiting
        case "standby":
            raise InternalError from ReadOnlySqlTransaction()
    raise RuntimeError


urlpatterns = [path("hello", hello), path("support/deferred", deferred), path("fails", fails)]
handler500 = "chatbackend.web.overload.server_error_or_unavailable"


@pytest.fixture(autouse=True)
def _urls(settings: Any) -> None:
    settings.ROOT_URLCONF, settings.ALLOWED_HOSTS = __name__, ["testserver"]
    settings.SECURE_SSL_REDIRECT = False


def ask(application: Any, path: str, **scope: Any) -> tuple[int, dict[bytes, bytes], bytes]:
    whole = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "http_version": "1.1",
        "headers": [(b"host", b"testserver")],
    }

    async def communicate() -> tuple[int, dict[bytes, bytes], bytes]:
        communicator = ApplicationCommunicator(application, whole | scope)
        await communicator.send_input({"type": "http.request"})
        start, body = await communicator.receive_output(10), await communicator.receive_output(10)
        await communicator.wait(10)
        return start["status"], dict(start["headers"]), body["body"]

    return asyncio.run(communicate())


@pytest.fixture
def broken_receiver() -> Iterator[None]:
    def fail(**_: Any) -> None:
        raise RuntimeError("of a receiver")

    signals.request_finished.connect(fail)
    yield
    signals.request_finished.disconnect(fail)


@pytest.mark.usefixtures("broken_receiver")
def test_a_receiver_of_request_finished_that_fails_costs_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    status, _, body = ask(WorkerThreadHandler(), "/hello")

    assert (status, body) == (200, b"Hello")
    assert "of a receiver" in caplog.text


@pytest.mark.parametrize("handler", [ASGIHandler, WorkerThreadHandler])
def test_what_an_answer_varies_with_is_added_to_what_middleware_says(
    handler: Callable[[], Any], settings: Any
) -> None:
    _, headers, _ = ask(handler(), "/support/deferred")

    assert headers[b"vary" if b"vary" in headers else b"Vary"] == b"Accept-Language, origin"


@pytest.mark.parametrize("probe", ["/healthz", "/readyz"])
def test_probes_are_answered_below_a_path_as_well(probe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def not_asked(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("chatbackend.web.probes.Readiness.checks", all_well)
    application = answering_probes(not_asked)

    status, _, _ = ask(application, f"/api{probe}", root_path="/api")

    assert status == 200


async def all_well(_: Any) -> dict[str, str]:
    return {"database": "ok"}


@pytest.mark.parametrize("fault", ["silence", "standby", "many waiting"])
def test_a_page_that_the_database_fails_is_a_503_that_says_when_to_come_again(
    client: Client, fault: str
) -> None:
    client.raise_request_exception = False

    answer = client.get("/fails", {"with": fault})

    assert (answer.status_code, answer["Retry-After"]) == (503, "2")


def test_a_page_that_fails_by_our_fault_is_a_500(client: Client) -> None:
    client.raise_request_exception = False

    assert client.get("/fails", {"with": "a bug"}).status_code == 500


@pytest.mark.parametrize(("waited", "status"), [(2.4, 200), (2.6, 503)])
def test_who_has_waited_too_long_behind_a_call_that_hangs_is_told_to_come_again(
    waited: float, status: int, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_threads, "LONG_CALL_SECONDS", 0)
    worker_threads.workers.submit(int).result()
    settings.DATABASE_TIMEOUT_SECONDS = 5.0
    Clock(100.0).replace_in(monkeypatch, handler)
    Clock(100.0 + waited).replace_in(monkeypatch, overload)

    told, headers, _ = ask(WorkerThreadHandler(), "/hello")

    assert told == status
    assert (b"Retry-After" in headers) == (status == 503)


def test_who_has_waited_long_behind_many_quick_calls_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_threads.workers, "last_long_call_at", 99.0)  # before this one came
    Clock(100.0).replace_in(monkeypatch, handler)
    Clock(160.0).replace_in(monkeypatch, overload)

    told, _, _ = ask(WorkerThreadHandler(), "/hello")

    assert told == 200
