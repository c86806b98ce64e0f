"""Our ASGI handler beside Django's own: the cases of Django's tests, and the use of worker threads."""

import asyncio
import gzip
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.core import signals
from django.core.handlers.asgi import ASGIHandler
from django.db import connections
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.test import Client
from django.urls import get_script_prefix, include, path
from django.views.decorators.csrf import csrf_exempt

from runtime.database_calls import on_database
from runtime.deferred_response import wait_for_response
from runtime.handler import WorkerThreadHandler
from runtime.worker_threads import workers
from support.models import Thread

# Most tests here do not query the database. But worker threads check the connections of earlier tests before
# each call.
pytestmark = pytest.mark.django_db

NOTES: list[Any] = []  # written by the views below
# Written by ``ObservingMiddleware``: status, seconds, whether the response is a stream.
OBSERVED: list[tuple[int, float, bool]] = []


def hello(request: HttpRequest) -> HttpResponse:
    name = request.GET.get("name", "World")
    return HttpResponse(f"Hello {name}!", headers={"X-Text": "café"})


@csrf_exempt
def echo(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.read(), content_type="application/octet-stream")


@csrf_exempt
def upload(request: HttpRequest) -> HttpResponse:
    NOTES.append(request.FILES["file"])
    return HttpResponse(request.FILES["file"].read())


def cookies(request: HttpRequest) -> HttpResponse:
    response = HttpResponse(request.COOKIES.get("name", ""))
    response.set_cookie("name", "Ada")
    return response


def file(request: HttpRequest) -> FileResponse:
    return FileResponse(open(__file__, "rb"))


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("broken")


def script_name(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{request.META['SCRIPT_NAME']} {request.path_info}")


async def async_view(request: HttpRequest) -> HttpResponse:
    NOTES.append(asyncio.get_running_loop())
    return HttpResponse("async")


async def async_orm(request: HttpRequest) -> HttpResponse:
    number = await Thread.objects.filter(user_id="nobody").acount()
    NOTES.append(await sync_to_async(lambda: connections["default"])())
    return HttpResponse(str(number))


async def endless(request: HttpRequest) -> HttpResponse:
    try:
        NOTES.append("began")
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        NOTES.append("cancelled")
        raise
    return HttpResponse()


def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        try:
            yield b"first "
            yield cast(Any, "last")  # Django encodes text
        finally:
            NOTES.append("ended")

    response = StreamingHttpResponse(parts(), headers={"X-Text": "café"})
    response.set_cookie("name", "Ada")
    return response


def long_stream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"x" * 200_000

    return StreamingHttpResponse(parts())


def sync_stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        yield threading.current_thread().name.encode()

    return StreamingHttpResponse(parts())


def endless_stream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        try:
            yield b"first "
            await asyncio.sleep(60)
        finally:
            NOTES.append("ended")

    return StreamingHttpResponse(parts())


def async_to_sync_view(request: HttpRequest) -> HttpResponse:
    """Wait until all worker threads run this view. Then respond whether a query runs in the view's thread."""
    NOTES.append(threading.current_thread())
    while len(NOTES) < workers.size:
        time.sleep(0.01)
    query_thread = async_to_sync(on_database(threading.get_ident))()
    return HttpResponse(str(query_thread == threading.get_ident()))


def deferred(request: HttpRequest) -> HttpResponseBase:
    async def respond() -> HttpResponseBase:
        NOTES.append(asyncio.get_running_loop())
        await asyncio.sleep(float(request.GET.get("seconds", 0)))
        match request.GET.get("case"):
            case "error":
                return HttpResponse("gone", status=410)
            case "prefix":
                return HttpResponse(await on_database(get_script_prefix)())
            case "exception":
                raise RuntimeError("broken")
            case "wait":
                try:
                    await asyncio.sleep(60)
                finally:
                    NOTES.append("ended")
            case "long":
                return HttpResponse("long" * 100)
            case "stream":
                return stream(request)
        return HttpResponse("deferred")

    return wait_for_response(request, respond)


urlpatterns = [
    path("hello", hello),
    path("echo", echo),
    path("upload", upload),
    path("cookies", cookies),
    path("file", file),
    path("broken", broken),
    path("script-name", script_name),
    path("stream", stream),
    path("long-stream", long_stream),
    path("sync-stream", sync_stream),
    path("async-to-sync", async_to_sync_view),
    path("endless-stream", endless_stream),
    path("support/", include([path("deferred", deferred)])),
]
async_urlpatterns = [
    *urlpatterns,
    path("async", async_view),
    path("endless", endless),
    path("async-orm", async_orm),
]


class WithAsyncViews:
    urlpatterns = async_urlpatterns


@pytest.fixture(autouse=True)
def _urls(settings: Any) -> None:
    settings.ROOT_URLCONF, settings.ALLOWED_HOSTS = __name__, ["testserver"]
    NOTES.clear()
    OBSERVED.clear()


@pytest.fixture(params=[WorkerThreadHandler, ASGIHandler])
def handler(request: pytest.FixtureRequest) -> ASGIHandler:
    return request.param()


def scope(path: str, query: str = "", method: str = "GET", **more: Any) -> dict[str, Any]:
    headers = [(b"host", b"testserver"), *more.pop("headers", [])]
    request = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
    return request | {"headers": headers, "http_version": "1.1"} | more


def send_request(handler: Any, scope: dict[str, Any], *body_parts: bytes) -> tuple[dict[str, Any], bytes]:
    """Send a request whose body arrives in these parts. Return the response's start message and its body."""

    async def communicate() -> tuple[dict[str, Any], bytes]:
        communicator = ApplicationCommunicator(handler, scope)
        for part in body_parts:
            await communicator.send_input({"type": "http.request", "body": part, "more_body": True})
        await communicator.send_input({"type": "http.request"})
        start, received = await communicator.receive_output(10), b""
        more = True
        while more:
            message = await communicator.receive_output(10)
            received, more = received + message.get("body", b""), message.get("more_body", False)
        await communicator.wait(10)
        return start, received

    return async_to_sync(communicate)()


def headers_of(start: dict[str, Any]) -> dict[bytes, bytes]:
    return {name.lower(): value for name, value in start["headers"]}


# --- Both handlers -------------------------------------------------------------------------------


def test_a_view_s_response_is_sent(handler: ASGIHandler) -> None:
    start, body = send_request(handler, scope("/hello", "name=Ada"))

    assert (start["status"], body) == (200, b"Hello Ada!")
    assert headers_of(start)[b"content-length"] == b"10"
    assert headers_of(start)[b"x-text"] == "café".encode("latin1")
    assert all(isinstance(part, bytes) for pair in start["headers"] for part in pair)


def test_a_view_gets_the_whole_body_of_many_parts(handler: ASGIHandler, settings: Any) -> None:
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 10  # Django keeps a longer body in a file

    _, body = send_request(handler, scope("/echo", method="POST"), b"ab" * 10, b"", b"cd")

    assert body == b"ab" * 10 + b"cd"


def test_an_upload_is_parsed_and_closed_with_the_request(handler: ASGIHandler) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\na file\r\n--x--\r\n'
    headers = [
        (b"content-type", b"multipart/form-data; boundary=x"),
        (b"content-length", str(len(form)).encode()),
    ]

    _, body = send_request(handler, scope("/upload", method="POST", headers=headers), form)

    assert body == b"a file"
    assert NOTES[0].closed


def test_cookies_are_received_and_sent(handler: ASGIHandler) -> None:
    start, body = send_request(handler, scope("/cookies", headers=[(b"cookie", b"name=Grace")]))

    assert body == b"Grace"
    assert headers_of(start)[b"set-cookie"] == b"name=Ada; Path=/"


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators:Warning")
def test_a_whole_file_is_sent(handler: ASGIHandler) -> None:
    start, body = send_request(handler, scope("/file"))

    with open(__file__, "rb") as this_file:
        assert body == this_file.read()
    assert headers_of(start)[b"content-length"] == str(len(body)).encode()


def test_a_stream_is_sent_to_its_end(handler: ASGIHandler) -> None:
    start, body = send_request(handler, scope("/stream"))

    assert (start["status"], body) == (200, b"first last")
    assert headers_of(start)[b"x-text"] == "café".encode("latin1")
    assert headers_of(start)[b"set-cookie"] == b"name=Ada; Path=/"
    assert NOTES == ["ended"]


def test_a_long_part_of_a_stream_is_sent_in_pieces(handler: ASGIHandler) -> None:
    async def lengths() -> list[int]:
        communicator = ApplicationCommunicator(handler, scope("/long-stream"))
        await communicator.send_input({"type": "http.request"})
        await communicator.receive_output(10)
        messages = [await communicator.receive_output(10) for _ in range(5)]
        await communicator.wait(10)
        return [len(message.get("body", b"")) for message in messages]

    assert async_to_sync(lengths)() == [65_536, 65_536, 65_536, 3_392, 0]


def test_an_exception_gives_a_500(handler: ASGIHandler, caplog: pytest.LogCaptureFixture) -> None:
    start, body = send_request(handler, scope("/broken"))

    assert start["status"] == 500
    assert b"RuntimeError" not in body
    assert "RuntimeError: broken" in caplog.text


def test_an_unknown_path_gives_a_404(handler: ASGIHandler) -> None:
    assert send_request(handler, scope("/nowhere"))[0]["status"] == 404


def test_a_query_that_is_not_utf_8_gives_a_400_in_django_and_reaches_the_view_with_our_handler() -> None:
    request = scope("/hello") | {"query_string": b"name=\xff&name=%C3%A9"}

    assert send_request(ASGIHandler(), request)[0]["status"] == 400
    assert send_request(WorkerThreadHandler(), request)[1] == "Hello é!".encode()


def test_root_path_is_script_name_and_not_part_of_path_info(handler: ASGIHandler) -> None:
    _, body = send_request(handler, scope("/api/script-name", root_path="/api"))

    assert body == b"/api /script-name"


def test_queries_in_worker_threads_have_the_script_prefix(handler: ASGIHandler) -> None:
    _, body = send_request(handler, scope("/api/support/deferred", "case=prefix", root_path="/api"))

    assert body == b"/api/"


def test_a_websocket_is_refused(handler: ASGIHandler) -> None:
    async def communicate() -> None:
        communicator = ApplicationCommunicator(handler, {"type": "websocket"})
        with pytest.raises(ValueError, match="Django can only handle ASGI/HTTP connections, not websocket"):
            await communicator.wait(10)

    async_to_sync(communicate)()


def test_no_response_is_sent_if_the_client_leaves_before_the_whole_body_has_arrived(
    handler: ASGIHandler,
) -> None:
    async def communicate() -> bool:
        communicator = ApplicationCommunicator(handler, scope("/echo", method="POST"))
        await communicator.send_input({"type": "http.request", "body": b"a", "more_body": True})
        await communicator.send_input({"type": "http.disconnect"})
        await communicator.wait(10)
        return await communicator.receive_nothing()

    assert async_to_sync(communicate)()


def test_a_stream_ends_when_its_client_leaves(handler: ASGIHandler) -> None:
    senders: list[Any] = []

    def note(sender: Any, **_: Any) -> None:
        senders.append(sender)

    signals.request_finished.connect(note)
    leave_after_first_part(handler, "/endless-stream")
    signals.request_finished.disconnect(note)

    assert NOTES == ["ended"]
    assert senders == [type(handler)]


def test_an_async_view_runs_in_the_event_loop(settings: Any, handler: ASGIHandler) -> None:
    settings.ROOT_URLCONF = WithAsyncViews
    handler = type(handler)()

    async def communicate() -> tuple[int, Any]:
        communicator = ApplicationCommunicator(handler, scope("/async"))
        await communicator.send_input({"type": "http.request"})
        start = await communicator.receive_output(10)
        await communicator.receive_output(10)
        await communicator.wait(10)
        return start["status"], asyncio.get_running_loop()

    assert async_to_sync(communicate)() == (200, NOTES[0])
    assert send_request(handler, scope("/hello"))[1] == b"Hello World!"
    assert send_request(handler, scope("/nowhere"))[0]["status"] == 404


@pytest.mark.django_db(transaction=True)
def test_an_async_view_uses_the_connections_of_the_worker_threads(settings: Any) -> None:
    settings.ROOT_URLCONF = WithAsyncViews

    for _ in range(3 * workers.size):
        assert send_request(WorkerThreadHandler(), scope("/async-orm"))[1] == b"0"

    assert len({id(connection) for connection in NOTES}) <= workers.size


def test_an_async_view_is_cancelled_when_its_client_leaves(settings: Any, handler: ASGIHandler) -> None:
    settings.ROOT_URLCONF = WithAsyncViews

    async def communicate() -> None:
        communicator = ApplicationCommunicator(type(handler)(), scope("/endless"))
        await communicator.send_input({"type": "http.request"})
        await wait_for_notes(1)
        await communicator.send_input({"type": "http.disconnect"})
        await communicator.wait(10)

    async_to_sync(communicate)()

    assert NOTES == ["began", "cancelled"]


def test_a_deferred_response_has_the_headers_of_the_middleware(handler: ASGIHandler) -> None:
    start, body = send_request(
        handler, scope("/support/deferred", headers=[(b"x-request-id", b"my-request")])
    )

    assert (start["status"], body) == (200, b"deferred")
    assert headers_of(start)[b"x-request-id"] == b"my-request"
    assert headers_of(start)[b"x-frame-options"] == b"DENY"
    assert headers_of(start)[b"content-type"] == b"text/html; charset=utf-8"


def test_an_error_in_a_deferred_response_is_logged(
    handler: ASGIHandler, caplog: pytest.LogCaptureFixture
) -> None:
    start, _ = send_request(handler, scope("/support/deferred", "case=error"))

    assert start["status"] == 410
    assert "Gone: /support/deferred" in caplog.text


def test_an_exception_in_a_deferred_response_gives_a_500_in_json(
    handler: ASGIHandler, caplog: pytest.LogCaptureFixture
) -> None:
    start, body = send_request(handler, scope("/support/deferred", "case=exception"))

    assert start["status"] == 500
    assert body == b'{"error": "Internal Server Error", "status": 500, "message": "Internal Server Error"}'
    assert headers_of(start)[b"x-request-id"]
    assert "RuntimeError: broken" in caplog.text


class ObservingMiddleware:
    """Middleware like that of a monitoring agent (APM). It notes each response and its duration."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        begun_at = time.perf_counter()
        response = self.get_response(request)
        is_stream = response.streaming and response.streaming_content is not None
        OBSERVED.append((response.status_code, time.perf_counter() - begun_at, is_stream))
        return response


def test_middleware_sees_the_status_and_duration_of_a_deferred_response(
    settings: Any, handler: ASGIHandler
) -> None:
    settings.MIDDLEWARE = [f"{__name__}.ObservingMiddleware", *settings.MIDDLEWARE]

    send_request(type(handler)(), scope("/support/deferred", "case=error&seconds=0.2"))
    send_request(type(handler)(), scope("/support/deferred", "case=exception"))
    send_request(type(handler)(), scope("/support/deferred", "case=stream"))

    (error, error_seconds, _), (exception, exception_seconds, _), (stream, _, is_stream) = OBSERVED
    assert (error, exception, stream, is_stream) == (410, 500, 200, True)
    assert error_seconds >= 0.2 > exception_seconds


def test_middleware_sees_the_status_of_a_deferred_response_in_django_s_test_client(settings: Any) -> None:
    settings.MIDDLEWARE = [f"{__name__}.ObservingMiddleware", *settings.MIDDLEWARE]

    Client().get("/support/deferred", {"case": "error"})
    Client().get("/support/deferred", {"case": "stream"})

    assert [(status, is_stream) for status, _, is_stream in OBSERVED] == [(410, False), (200, True)]


def test_middleware_sees_a_499_if_the_client_has_left(settings: Any) -> None:
    settings.MIDDLEWARE = [f"{__name__}.ObservingMiddleware", *settings.MIDDLEWARE]

    async def communicate() -> None:
        communicator = ApplicationCommunicator(WorkerThreadHandler(), scope("/support/deferred", "case=wait"))
        await communicator.send_input({"type": "http.request"})
        await wait_for_notes(1)
        await communicator.send_input({"type": "http.disconnect"})
        await communicator.wait(10)

    async_to_sync(communicate)()

    assert [status for status, _, _ in OBSERVED] == [499]


def test_gzip_middleware_compresses_a_deferred_response(settings: Any, handler: ASGIHandler) -> None:
    settings.MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", *settings.MIDDLEWARE]
    headers = [(b"accept-encoding", b"gzip")]

    start, body = send_request(type(handler)(), scope("/support/deferred", "case=long", headers=headers))

    assert headers_of(start)[b"content-encoding"] == b"gzip"
    assert gzip.decompress(body) == b"long" * 100


class ExceptionHandlingMiddleware:
    """Middleware that responds to exceptions."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse:
        return HttpResponse(f"handled: {exception}", status=202)


def test_middleware_can_handle_an_exception_in_a_deferred_response(
    settings: Any, handler: ASGIHandler
) -> None:
    settings.MIDDLEWARE = [f"{__name__}.ExceptionHandlingMiddleware"]

    start, body = send_request(type(handler)(), scope("/support/deferred", "case=exception"))

    assert (start["status"], body) == (202, b"handled: broken")


# --- Our handler ---------------------------------------------------------------------------------


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls that are submitted to the worker threads during the test."""
    calls: list[Any] = []
    submit = type(workers)._submit

    def note_and_submit(pool: Any, queue: Any, call: Callable[[], Any]) -> Any:
        calls.append(call)
        return submit(pool, queue, call)

    monkeypatch.setattr(type(workers), "_submit", note_and_submit)
    return calls


@pytest.mark.parametrize(
    ("path", "number"),
    [("/hello", 1), ("/nowhere", 1), ("/broken", 1), ("/stream", 2), ("/support/deferred", 1)],
)
def test_a_request_needs_one_call_in_a_worker_thread_and_a_stream_needs_two(
    submitted: list[Any], path: str, number: int
) -> None:
    send_request(WorkerThreadHandler(), scope(path))

    assert len(submitted) == number


def test_both_signals_of_a_request_are_sent_in_the_same_worker_thread() -> None:
    sent: list[Any] = []

    def note(signal: Any, **_: Any) -> None:
        sent.append((signal, threading.current_thread().name))

    signals.request_started.connect(note)
    signals.request_finished.connect(note)
    send_request(WorkerThreadHandler(), scope("/hello"))
    signals.request_started.disconnect(note)
    signals.request_finished.disconnect(note)

    assert [signal for signal, _ in sent] == [signals.request_started, signals.request_finished]
    [name] = {name for _, name in sent}
    assert name.startswith("worker")


def test_deferred_responses_occupy_no_places_and_are_cancelled_when_their_clients_leave() -> None:
    """runtime/worker_threads.py explains a worker thread's *place*."""
    handler = WorkerThreadHandler()

    async def communicate() -> None:
        waiting = [
            ApplicationCommunicator(handler, scope("/support/deferred", "case=wait"))
            for _ in range(2 * workers.size)
        ]
        for request in waiting:
            await request.send_input({"type": "http.request"})
        await wait_for_notes(len(waiting))

        other = ApplicationCommunicator(handler, scope("/hello"))
        await other.send_input({"type": "http.request"})
        assert (await other.receive_output(10))["status"] == 200

        for request in waiting:
            await request.send_input({"type": "http.disconnect"})
            await request.wait(10)

    async_to_sync(communicate)()

    assert NOTES.count("ended") == 2 * workers.size


def test_a_query_in_async_to_sync_runs_in_the_thread_of_its_sync_view() -> None:
    """docs/moving-from-fastapi.md has such a view.

    If all worker threads waited for another worker thread, none of them would ever end.
    """
    handler = WorkerThreadHandler()

    async def communicate() -> list[bytes]:
        requests = [ApplicationCommunicator(handler, scope("/async-to-sync")) for _ in range(workers.size)]
        for request in requests:
            await request.send_input({"type": "http.request"})
        assert [(await request.receive_output(5))["status"] for request in requests] == [200] * workers.size
        return [(await request.receive_output(5))["body"] for request in requests]

    assert async_to_sync(communicate)() == [b"True"] * workers.size


def test_two_concurrent_requests_run_in_two_threads() -> None:
    handler, both_requests = WorkerThreadHandler(), threading.Barrier(2, timeout=10)

    def wait_for_other(**_: Any) -> None:
        both_requests.wait()

    async def communicate() -> list[Any]:
        requests = [ApplicationCommunicator(handler, scope("/hello")) for _ in range(2)]
        for request in requests:
            await request.send_input({"type": "http.request"})
        return [(await request.receive_output(10))["status"] for request in requests]

    signals.request_started.connect(wait_for_other)
    try:
        assert async_to_sync(communicate)() == [200, 200]
    finally:
        signals.request_started.disconnect(wait_for_other)


@pytest.mark.parametrize("path", ["/stream", "/support/deferred"])
def test_a_response_is_closed_even_if_all_worker_threads_are_busy_when_it_ends(path: str) -> None:
    finished, end_busy_calls, busy_calls = threading.Event(), threading.Event(), []

    def note(**_: Any) -> None:
        finished.set()

    async def communicate() -> None:
        sent = asyncio.Event()
        incoming = iter([{"type": "http.request"}])

        async def receive() -> dict[str, Any]:
            for message in incoming:
                return message
            await sent.wait()  # some servers report a disconnect after a complete response, if they are asked
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                busy_calls.extend(workers.submit(end_busy_calls.wait, 10) for _ in range(workers.size))
            elif not message.get("more_body"):
                sent.set()
                asyncio.get_running_loop().call_later(0.1, end_busy_calls.set)

        try:
            await WorkerThreadHandler()(scope(path), receive, send)
        finally:
            end_busy_calls.set()

    signals.request_finished.connect(note)
    try:
        async_to_sync(communicate)()
    finally:
        signals.request_finished.disconnect(note)

    assert all(call.result() for call in busy_calls)
    assert finished.is_set()


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators:Warning")
def test_a_worker_thread_reads_a_sync_stream() -> None:
    _, body = send_request(WorkerThreadHandler(), scope("/sync-stream"))

    assert body.startswith(b"worker")


async def wait_for_notes(number: int) -> None:
    while len(NOTES) < number:  # noqa: ASYNC110 - views in other threads write the notes
        await asyncio.sleep(0.01)


def leave_after_first_part(handler: Any, path: str) -> None:
    async def communicate() -> None:
        communicator = ApplicationCommunicator(handler, scope(path))
        await communicator.send_input({"type": "http.request"})
        assert (await communicator.receive_output(10))["status"] == 200
        assert (await communicator.receive_output(10))["body"] == b"first "
        await communicator.send_input({"type": "http.disconnect"})
        await communicator.wait(10)

    async_to_sync(communicate)()
