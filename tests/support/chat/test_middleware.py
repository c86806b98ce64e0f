"""Middleware sees the same response to ``POST /support/chatkit`` as the client, with each handler."""

import asyncio
import gc
import json
import logging
import weakref
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any, cast

import pytest
from asgiref.sync import sync_to_async
from chatkit.types import ProgressUpdateEvent, ThreadStreamEvent
from django.core.handlers.asgi import ASGIHandler
from django.db import connections
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.test import Client
from django.urls import resolve
from django.utils import translation

from runtime.handler import WorkerThreadHandler
from support.chat import streaming
from support.models import Thread
from support.server import SupportServer
from support.storage.store import Store
from tests.fixtures.accounts.people import Person
from tests.fixtures.chatkit import endpoint
from tests.fixtures.servers.api import add, create, operation

pytestmark = pytest.mark.django_db(transaction=True)

OBSERVED: list[tuple[int, bool, str]] = []  # status, whether it is a stream, Content-Type


class ObservingMiddleware:
    """Middleware that notes each response, like a monitoring agent (APM)."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        is_stream = isinstance(response, StreamingHttpResponse) and response.streaming_content is not None
        OBSERVED.append((response.status_code, is_stream, response.headers["Content-Type"]))
        return response


@pytest.fixture(autouse=True)
def _observed(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # chatbackend.settings does the same for Django's own handler, because its threads end with their request.
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)
    settings.MIDDLEWARE = [f"{__name__}.ObservingMiddleware", *settings.MIDDLEWARE]
    settings.ALLOWED_HOSTS, settings.SECURE_SSL_REDIRECT = ["testserver"], False
    OBSERVED.clear()


def post_with_test_client(body: Any, token: str) -> int:
    client = Client(headers={"Authorization": f"Bearer {token}"})
    return client.post("/support/chatkit", body, content_type="application/json").status_code


def post_with(handler: Callable[[], Any]) -> Callable[[Any, str], int]:
    return lambda body, token: asyncio.run(endpoint.post(handler(), body, token))


@pytest.mark.parametrize(
    "post",
    [post_with(WorkerThreadHandler), post_with(ASGIHandler), post_with_test_client],
    ids=["our handler", "Django's handler", "Django's test client"],
)
@pytest.mark.parametrize(
    ("body", "observed"),
    [
        (create("Hello"), (200, True, "text/event-stream")),
        (add("thr_none"), (404, False, "application/json")),
        (operation("threads.list"), (200, False, "application/json")),
        (operation("threads.get_by_id", thread_id="thr_none"), (404, False, "application/json")),
        ({"type": "nothing"}, (400, False, "application/json")),
    ],
    ids=["stream", "thread not found", "json", "not found", "unknown type"],
)
def test_middleware_sees_what_the_client_gets(
    person: Person, post: Callable[[Any, str], int], body: Any, observed: tuple[int, bool, str]
) -> None:
    status = post(body, person.token())

    assert [observed] == OBSERVED
    assert status == observed[0]


RESPONSES: list[HttpResponseBase] = []  # so that they end by themselves, and not because they are freed


class FailingMiddleware(ObservingMiddleware):
    """Middleware that fails after the view."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        RESPONSES.append(response)
        raise RuntimeError(f"after the view: {response.status_code}")


class ReplacingMiddleware(ObservingMiddleware):
    """Middleware that replaces the response."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        RESPONSES.append(response)
        return HttpResponse(f"replaced a {response.status_code}", status=418)


class EndlessServer(SupportServer):
    async def respond(self, *_: Any) -> AsyncIterator[ThreadStreamEvent]:
        await asyncio.sleep(3600)
        yield ProgressUpdateEvent(text="never")


@pytest.mark.parametrize(("middleware", "status"), [("FailingMiddleware", 500), ("ReplacingMiddleware", 418)])
def test_a_stream_that_middleware_does_not_return_is_cancelled(
    person: Person, settings: Any, caplog: pytest.LogCaptureFixture, middleware: str, status: int
) -> None:
    caplog.set_level(logging.CRITICAL)  # otherwise pytest keeps the log records and their requests
    settings.MIDDLEWARE = [f"{__name__}.{middleware}", *settings.MIDDLEWARE[1:]]
    settings.CHATKIT_SERVER = f"{__name__}.EndlessServer"
    gc.disable()  # the stream must be cancelled even if a reference cycle keeps the response

    async def post() -> int:
        """Wait inside the event loop, because asyncio cancels all tasks at its end."""
        status = await endpoint.post(WorkerThreadHandler(), create("Hello"), person.token())
        async with asyncio.timeout(5):
            while streaming._open:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return status

    try:
        assert asyncio.run(post()) == status
    finally:
        gc.enable()
        RESPONSES.clear()


class KeepingMiddleware(ObservingMiddleware):
    """Middleware that keeps the responses."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        RESPONSES.append(self.get_response(request))
        return RESPONSES[-1]


class KeepingAndWrappingMiddleware(KeepingMiddleware):
    """Middleware that also puts the events into a generator of its own."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        async def passed_on(events: Any) -> AsyncIterator[bytes]:
            async for event in events:
                yield event

        response: Any = super().__call__(request)
        response.streaming_content = passed_on(response.streaming_content)
        return cast(HttpResponseBase, response)


STORED_AFTER_CANCELLATION: list[int] = []


class CountingServer(SupportServer):
    async def respond(self, *_: Any) -> AsyncIterator[ThreadStreamEvent]:
        while True:
            yield ProgressUpdateEvent(text="more")
            await asyncio.sleep(0.01)

    async def handle_stream_cancelled(self, *_: Any) -> None:
        STORED_AFTER_CANCELLATION.append(await sync_to_async(Thread.objects.count)())


@pytest.mark.parametrize("middleware", ["KeepingMiddleware", "KeepingAndWrappingMiddleware"])
@pytest.mark.parametrize(("sent", "stored"), [(0, []), (2, [1])])
def test_a_client_that_stops_reading_and_leaves_ends_the_stream(
    person: Person, settings: Any, sent: int, stored: list[int], middleware: str
) -> None:
    """``sent``: how many messages the server can send until ``send`` waits."""
    settings.MIDDLEWARE = [f"{__name__}.{middleware}", *settings.MIDDLEWARE]
    settings.CHATKIT_SERVER = f"{__name__}.CountingServer"
    STORED_AFTER_CANCELLATION.clear()

    async def post() -> None:
        messages, left = 0, asyncio.Event()

        async def send(message: Any) -> None:
            nonlocal messages
            messages += 1
            if messages > sent:
                asyncio.get_running_loop().call_later(0.1, left.set)
                await asyncio.sleep(3600)

        await endpoint.post_until(left, send, WorkerThreadHandler(), create("Hello"), person.token())
        async with asyncio.timeout(5):
            while streaming._open:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    try:
        asyncio.run(post())
    finally:
        RESPONSES.clear()

    assert stored == STORED_AFTER_CANCELLATION


def test_an_answer_without_urls_does_not_need_the_host(person: Person, settings: Any) -> None:
    settings.MIDDLEWARE = [
        each for each in settings.MIDDLEWARE if "Common" not in each and "Security" not in each
    ]
    settings.ALLOWED_HOSTS, settings.PUBLIC_URL = ["another.example.com"], ""

    assert post_with(WorkerThreadHandler)(create("Hello"), person.token()) == 200


LANGUAGE_OF_VIEW: ContextVar[str] = ContextVar("language_of_view", default="")


class LanguageMiddleware(ObservingMiddleware):
    """Middleware that sets Django's language and a context variable, only for the view."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        token = LANGUAGE_OF_VIEW.set("fr")
        with translation.override("fr"):
            response = self.get_response(request)
        LANGUAGE_OF_VIEW.reset(token)
        return response


LANGUAGES_OF_ANSWERS: list[tuple[str | None, str]] = []


class LanguageServer(SupportServer):
    async def respond(self, *_: Any) -> AsyncIterator[ThreadStreamEvent]:
        await asyncio.sleep(0)
        LANGUAGES_OF_ANSWERS.append((translation.get_language(), LANGUAGE_OF_VIEW.get()))
        yield ProgressUpdateEvent(text="Bonjour")


class LanguageServerWithOwnStore(LanguageServer):
    """Its stream cannot begin in the thread of the view."""

    def __init__(self) -> None:
        super().__init__()
        self.store = StoreThatAwaits()


class StoreThatAwaits(Store[Any]):
    async def save_thread(self, *args: Any, **kwargs: Any) -> None:
        await asyncio.sleep(0.001)
        await super().save_thread(*args, **kwargs)


class WrappingMiddleware(ObservingMiddleware):
    """Middleware that puts the events into a response of its own."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response: Any = self.get_response(request)
        return StreamingHttpResponse(response.streaming_content, headers=response.headers)


@pytest.mark.parametrize("server", [LanguageServer, LanguageServerWithOwnStore])
@pytest.mark.parametrize("outer", [ObservingMiddleware, WrappingMiddleware])
def test_an_answer_has_the_context_variables_of_the_view(
    person: Person, settings: Any, server: type[SupportServer], outer: type[ObservingMiddleware]
) -> None:
    own = [f"{__name__}.{outer.__name__}", f"{__name__}.LanguageMiddleware"]
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, *own]
    settings.CHATKIT_SERVER = f"{__name__}.{server.__name__}"
    LANGUAGES_OF_ANSWERS.clear()

    assert post_with(WorkerThreadHandler)(create("Hello"), person.token()) == 200

    assert LANGUAGES_OF_ANSWERS == [("fr", "fr")]


REQUESTS: list[weakref.ref[HttpRequest]] = []


class RequestMiddleware(ObservingMiddleware):
    """Middleware that notes each request."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        REQUESTS.append(weakref.ref(request))
        return self.get_response(request)


REQUESTS_DURING_ANSWERS: list[HttpRequest | None] = []


class RequestServer(SupportServer):
    async def respond(self, *_: Any) -> AsyncIterator[ThreadStreamEvent]:
        yield ProgressUpdateEvent(text="The headers are sent")
        await asyncio.sleep(0.05)
        REQUESTS_DURING_ANSWERS.extend(reference() for reference in REQUESTS)


def test_an_answer_does_not_keep_its_request_in_memory(
    person: Person, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # otherwise pytest keeps the log records and their requests
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.RequestMiddleware"]
    settings.CHATKIT_SERVER = f"{__name__}.RequestServer"
    gc.disable()

    try:
        assert post_with(WorkerThreadHandler)(create("Hello"), person.token()) == 200
    finally:
        gc.enable()

    assert REQUESTS_DURING_ANSWERS == [None]


class OverridingServer(SupportServer):
    """Overrides a private method of the ChatKit SDK, and awaits something other than the store."""

    async def _process_non_streaming(self, request: Any, context: Any) -> bytes:
        result = await super()._process_non_streaming(request, context)
        await asyncio.sleep(0.001)
        return result


def test_a_server_that_overrides_a_private_method_of_the_sdk_answers_store_operations(
    person: Person, settings: Any
) -> None:
    settings.CHATKIT_SERVER = f"{__name__}.OverridingServer"

    assert post_with(WorkerThreadHandler)(operation("threads.list"), person.token()) == 200


class CancelledServer(SupportServer):
    """Awaits a task that it has cancelled."""

    async def process(self, request: Any, context: Any) -> Any:
        task = asyncio.create_task(asyncio.sleep(60))
        task.cancel()
        await task


def test_a_server_that_awaits_a_cancelled_task_gives_a_500_in_json(person: Person, settings: Any) -> None:
    settings.CHATKIT_SERVER = f"{__name__}.CancelledServer"

    assert post_with(WorkerThreadHandler)(operation("threads.list"), person.token()) == 500
    assert OBSERVED == [(500, False, "application/json")]


def test_the_endpoint_is_excluded_from_atomic_requests() -> None:
    view = resolve("/support/chatkit").func

    assert "default" in view._non_atomic_requests


def test_django_s_test_client_gets_the_whole_stream(person: Person) -> None:
    client = Client(headers={"Authorization": f"Bearer {person.token()}"})

    response = client.post("/support/chatkit", create("Hello"), content_type="application/json")

    events = [json.loads(line[6:]) for line in response.getvalue().splitlines() if line.startswith(b"data: ")]
    assert [events[0]["type"], events[-1]["type"]] == ["thread.created", "thread.item.done"]
    assert person.user_id in events[-1]["item"]["content"][0]["text"]
