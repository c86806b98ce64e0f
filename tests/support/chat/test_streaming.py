"""Streams of a real server: when events arrive, which resources a stream holds, and how it ends."""

import asyncio
import gc
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from chatkit.store import NotFoundError
from django.core.exceptions import PermissionDenied
from django.db import DataError, InterfaceError, OperationalError
from django.http.response import HttpResponseBase
from django.urls import path

from runtime.database_calls import run_inline
from runtime.deferred_response import stream_in_context
from runtime.handler import WorkerThreadHandler
from support.chat import streaming, unsent_events
from tests.fixtures.accounts.people import Person
from tests.fixtures.conversations import deltas_of
from tests.fixtures.servers.api import Api, add, arrive_one_by_one, create, eventually, http, operation


@pytest.fixture(scope="module")
def few_threads(auth: Any, start_api: Callable[..., Any]) -> Iterator[Api]:
    with start_api(
        WORKER_THREADS="2",
        CHATKIT_SERVER="tests.fixtures.chatkit.servers.make_slow_server",
        SUPPORT_RATE_PER_USER="100000/min",
    ) as running:
        yield running


def test_events_arrive_one_by_one_while_the_answer_is_made(few_threads: Api, person: Person) -> None:
    token, sent = person.token(), time.monotonic()
    with few_threads.stream(create("for 2 seconds"), token) as events:
        arrivals = [time.monotonic() for _ in events]

    assert arrive_one_by_one(arrivals, sent)


def test_the_headers_stop_proxies_and_compression_from_delaying_events(api: Api, person: Person) -> None:
    with api.stream(create(), person.token(), Accept_Encoding="gzip, br") as events:
        response, _ = next(events)

    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.headers["Cache-Control"] == "no-store, no-transform"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.headers["Content-Encoding"] == "identity"


def test_if_the_client_leaves_the_stream_ends_and_the_partial_answer_is_stored_once(
    few_threads: Api, person: Person
) -> None:
    with few_threads.stream(create("until I leave"), person.token()) as events:
        thread_id = next(events)[1]["thread"]["id"]
        [delta] = next(deltas for _, event in events if (deltas := deltas_of([event])))

    items = eventually(lambda: items_of(few_threads, person, thread_id), lambda items: len(items) > 1)
    assert [item["type"] for item in items] == ["user_message", "assistant_message"]
    kept = items[1]["content"][0]["text"]
    assert kept.startswith(delta)
    time.sleep(0.5)
    assert items_of(few_threads, person, thread_id)[1]["content"][0]["text"] == kept


def test_a_stream_that_fails_in_the_middle_ends_with_an_error_event(few_threads: Api, person: Person) -> None:
    events = few_threads.events(create("break"), person.token())

    assert events[-1] == {"type": "error", "code": "stream.error", "allow_retry": True}
    thread_id = events[0]["thread"]["id"]
    assert [item["type"] for item in items_of(few_threads, person, thread_id)] == ["user_message"]


def test_with_fifty_open_streams_and_two_threads_other_requests_are_answered(
    few_threads: Api, person: Person
) -> None:
    token = person.token()
    without_streams = median_seconds(few_threads, token)

    measured = Event()

    def stream(number: int) -> bool:
        """Whether the stream was still open and had no error after the measurement."""
        with few_threads.stream(create("until I leave"), token) as events:
            return any(measured.is_set() for _, event in events if event["type"] == "thread.item.updated")

    with ThreadPoolExecutor(50) as clients:
        streams = [clients.submit(stream, number) for number in range(50)]
        eventually(
            lambda: few_threads.post(operation("threads.list", limit=100), token).json(),
            lambda page: len(page["data"]) == 50,
        )
        with_streams = median_seconds(few_threads, token)
        measured.set()
        assert all(still_open.result() for still_open in streams)

    # If a stream held a thread or a connection, this would wait a minute for the stream's end.
    assert with_streams < 20 * without_streams + 2


def test_a_teams_server_may_use_djangos_async_orm_and_holds_no_connection_between_calls(
    few_threads: Api, person: Person
) -> None:
    token = person.token()

    def stream(number: int) -> str:
        return str(few_threads.events(create("count 3"), token)[-1]["type"])

    with ThreadPoolExecutor(10) as clients:
        streams = [clients.submit(stream, number) for number in range(10)]
        answered = few_threads.post(operation("threads.list"), token).status_code
        ends = {finished.result() for finished in streams}

    assert (answered, ends) == (200, {"thread.item.done"})


def test_a_shutdown_stores_the_partial_answers(
    start_api: Callable[..., Any], person: Person, api: Api
) -> None:
    token, threads = person.token(), []
    with ThreadPoolExecutor(5) as clients, ExitStack() as streams:
        with start_api(CHATKIT_SERVER="tests.fixtures.chatkit.servers.make_slow_server") as stopping:
            for _ in range(5):
                events = streams.enter_context(stopping.stream(create("until the end"), token))
                threads.append(next(events)[1]["thread"]["id"])
                next(event for _, event in events if deltas_of([event]))
                clients.submit(list, events)  # reads until the server has stopped
        for thread_id in threads:
            items = items_of(api, person, thread_id)
            assert [item["type"] for item in items] == ["user_message", "assistant_message"]
            assert items[1]["content"][0]["text"].startswith("word ")


def test_keep_alive_comments_are_not_messages(few_threads: Api, person: Person) -> None:
    headers = {"Authorization": f"Bearer {person.token()}"}

    stream = http.post(few_threads.url, json=create("for 1 seconds"), headers=headers).text

    # In the specification, an empty line ends a message. Most clients ignore a message without data.
    messages = stream.removesuffix("\n\n").split("\n\n")
    assert ": keep-alive\ndata: " in stream
    assert all(message.splitlines()[-1].startswith("data: {") for message in messages)
    assert {line for line in stream.splitlines() if not line.startswith("data: ")} == {": keep-alive", ""}


def test_keep_alive_comments_lose_no_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unsent_events, "KEEP_ALIVE_SECONDS", 0.01)

    async def source(go_on: asyncio.Event) -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"data: %d\n\n" % number
            await go_on.wait()
            go_on.clear()

    async def read() -> tuple[list[bytes], set[Any]]:
        go_on = asyncio.Event()
        stream = await streaming.start(source(go_on), "ada")
        before, parts = asyncio.all_tasks(), []
        async for part in stream.response():
            parts.append(part)
            if parts[-2:] == [unsent_events.KEEP_ALIVE] * 2:
                go_on.set()
        return parts, asyncio.all_tasks() - before

    parts, tasks = asyncio.run(read())

    assert [part for part in parts if part != unsent_events.KEEP_ALIVE] == [
        b"data: %d\n\n" % number for number in range(3)
    ]
    assert parts.count(unsent_events.KEEP_ALIVE) >= 6
    assert tasks == set()


def test_events_that_come_together_are_sent_together_and_in_order() -> None:
    events = [b"data: %d\n\n" % number for number in range(100)]

    async def source() -> AsyncIterator[bytes]:
        for event in events:
            yield event
            await asyncio.sleep(0)

    async def read() -> list[bytes]:
        return [part async for part in (await streaming.start(source(), "ada")).response()]

    parts = asyncio.run(read())

    assert b"".join(parts) == b"".join(events)
    assert parts[0] == events[0]  # it does not wait for others
    assert len(parts) < 10


ERROR_EVENT = b'data: {"type":"error","code":"stream.error"}\n\n'


@pytest.mark.parametrize(
    ("events", "ending"),
    [
        ([b"data: 1\n\n", b"data: 2\n\n"], "complete"),
        ([b"data: 1\n\n", ERROR_EVENT], "error"),
        ([ERROR_EVENT], "error"),  # an action on something that is not a widget
    ],
)
def test_the_ending_of_a_stream_is_an_error_if_the_sdk_sends_an_error_event(
    events: list[bytes], ending: str
) -> None:
    endings = []

    def note(ending: str, **_: Any) -> None:
        endings.append(ending)

    async def source() -> AsyncIterator[bytes]:
        for event in events:
            yield event

    async def read() -> list[bytes]:
        return [part async for part in (await streaming.start(source(), "ada")).response()]

    streaming.closed.connect(note)
    parts = asyncio.run(read())
    streaming.closed.disconnect(note)

    assert b"".join(parts) == b"".join(events)
    assert endings == [ending]


@pytest.mark.parametrize("signal", [streaming.opened, streaming.began, streaming.closed])
def test_a_signal_s_receiver_that_fails_does_not_fail_the_stream(
    signal: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError

    async def source() -> AsyncIterator[bytes]:
        yield b"data: {}\n\n"

    async def read() -> list[bytes]:
        return [part async for part in (await streaming.start(source(), "ada")).response()]

    signal.connect(fail)
    parts = asyncio.run(read())
    signal.disconnect(fail)

    assert parts == [b"data: {}\n\n"]
    assert streaming._open == set()
    assert {record.name for record in caplog.records} == {"django.dispatch"}


def test_a_stream_without_a_reader_is_cancelled() -> None:
    ended = []

    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"data: {}\n\n"
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def client_leaves_before_there_is_a_response() -> list[bool]:
        await streaming.start(source(), "ada")
        gc.collect()
        await asyncio.sleep(0.05)
        return list(ended)  # a copy, because the end of the loop also cancels the stream

    assert asyncio.run(client_leaves_before_there_is_a_response()) == [True]


@pytest.mark.django_db
def test_a_running_stream_keeps_neither_its_request_nor_its_response_in_memory(settings: Any) -> None:
    kept: list[Any] = []

    async def source() -> AsyncIterator[bytes]:
        yield b"data: {}\n\n"
        await asyncio.sleep(60)

    def view(request: Any) -> HttpResponseBase:
        begun = run_inline(streaming.begin_in_thread(source(), "ada", request.event_loop))
        response = begun.response()
        kept.extend([weakref.ref(request), weakref.ref(response), request._stream])
        return stream_in_context(request, response)

    settings.MIDDLEWARE = []  # Django's middleware for users refers to the request
    settings.ROOT_URLCONF = type("Urls", (), {"urlpatterns": [path("stream", view)]})

    async def communicate() -> None:
        limit = time.monotonic() + 10
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/stream",
            "query_string": b"",
            "http_version": "1.1",
        }
        client = ApplicationCommunicator(
            WorkerThreadHandler(), scope | {"headers": [(b"host", b"localhost")]}
        )
        await client.send_input({"type": "http.request", "body": b"a long body"})
        await client.receive_output(10)
        await client.receive_output(10)
        request, response, body = kept
        while request() or response():  # the worker thread may hold them for a moment
            assert time.monotonic() < limit
            await asyncio.sleep(0.01)
        assert body.closed
        await client.send_input({"type": "http.disconnect"})
        await client.wait(10)

    async_to_sync(communicate)()
    assert streaming._open == set()


async def as_text(events: Any) -> AsyncIterator[str]:
    async for event in events:
        yield event.decode() + ": changed\n"


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators:Warning")
@pytest.mark.parametrize(
    "replaced", [as_text, lambda events: [b"data: {}\n\n: changed\n"]], ids=["text", "list"]
)
def test_middleware_may_replace_the_events(replaced: Callable[[Any], Any]) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"data: {}\n\n"

    async def parts() -> list[bytes]:
        response = (await streaming.start(source(), "ada")).response()
        response.streaming_content = replaced(response.streaming_content)
        return [part async for part in response]

    assert asyncio.run(parts()) == [b"data: {}\n\n: changed\n"]


@pytest.mark.parametrize("error", [OperationalError, InterfaceError, PermissionDenied])
def test_an_exception_with_a_status_before_the_first_event_is_raised(error: type[Exception]) -> None:
    with pytest.raises(error):
        asyncio.run(first_event(failing_with(error())))


def test_a_stream_without_events_raises_not_found() -> None:
    with pytest.raises(NotFoundError):
        asyncio.run(first_event(failing_with(None)))


@pytest.mark.parametrize("error", [RuntimeError(), ValueError(), NotFoundError(), DataError()])
def test_any_other_exception_before_the_first_event_is_an_error_event(
    error: Exception,
) -> None:
    event = asyncio.run(first_event(failing_with(error)))

    assert event == b'data: {"type":"error","code":"stream.error","allow_retry":true}\n\n'


async def failing_with(error: Exception | None) -> AsyncIterator[bytes]:
    if error:
        raise error
    return
    yield


async def first_event(source: AsyncIterator[bytes]) -> bytes:
    stream = await streaming.start(source, "ada")
    [first] = [part async for part in stream.response()]
    return first


def test_a_second_message_is_added_to_the_same_thread(api: Api, person: Person) -> None:
    token = person.token()
    thread_id = api.events(create("First"), token)[0]["thread"]["id"]

    events = api.events(add(thread_id, "Second"), token)

    assert [event["type"] for event in events[:2]] == ["thread.item.done", "stream_options"]
    kinds = [item["type"] for item in items_of(api, person, thread_id)]
    assert kinds == ["user_message", "assistant_message"] * 2


def test_a_message_with_a_missing_attachment_is_a_404_and_makes_no_thread(api: Api, person: Person) -> None:
    body = create()
    body["params"]["input"]["attachments"] = ["atc_never_was"]

    response = api.post(body, person.token())

    assert response.status_code == 404
    assert api.post(operation("threads.list"), person.token()).json()["data"] == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The request body is not valid JSON"),
        (b"{}", "The request needs a type"),
        ({"type": "threads.fly"}, "The request has an unknown type"),
        (operation("threads.get_by_id"), "params.thread_id is missing"),
        (operation("threads.get_by_id", thread_id="a\0b"), "The request contains a NUL character"),
        (operation("input.transcribe", audio_base64="A", mime_type="x"), "params.audio_base64 is not valid"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_body_that_is_not_a_chatkit_request_is_a_400_with_the_reason(
    api: Api, person: Person, body: Any, message: str
) -> None:
    response = api.post(body, person.token())

    assert (response.status_code, response.json()["message"]) == (400, message)


@pytest.mark.parametrize("accept", ["text/event-stream", "text/html", "application/xml", "nonsense"])
def test_any_accept_header_is_accepted(api: Api, person: Person, accept: str) -> None:
    assert api.post(operation("threads.list"), person.token(), Accept=accept).status_code == 200


def items_of(api: Api, person: Person, thread_id: str) -> list[dict[str, Any]]:
    page = api.post(operation("items.list", thread_id=thread_id, order="asc"), person.token()).json()
    return list(page["data"])


def median_seconds(api: Api, token: str) -> float:
    """The median time of a request."""
    times = []
    for _ in range(9):
        started = time.perf_counter()
        assert api.post(operation("threads.list", limit=1), token).status_code == 200
        times.append(time.perf_counter() - started)
    return sorted(times)[4]


def test_a_missing_thread_is_not_logged_with_a_traceback(few_threads: Api, person: Person) -> None:
    logged_before = few_threads.log.stat().st_size

    response = few_threads.post(add("thr_made_up"), person.token())

    assert response.status_code == 404
    assert b"Traceback" not in few_threads.log.read_bytes()[logged_before:]
