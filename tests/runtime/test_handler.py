"""Our ASGI handler beside Django's own: the cases of Django's tests, and what ours does in fewer hops."""

import asyncio
import gzip
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

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

# None of these asks the database, but the workers look after the connections that other tests have left them.
pytestmark = pytest.mark.django_db

TOLD: list[Any] = []  # what views have to tell
SEEN: list[tuple[int, float, bool]] = []  # what ``Watching`` saw: status, seconds, whether it is a stream


def hello(request: HttpRequest) -> HttpResponse:
    name = request.GET.get("name", "World")
    return HttpResponse(f"Hello {name}!", headers={"X-Said": "café"})


@csrf_exempt
def echo(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.read(), content_type="application/octet-stream")


@csrf_exempt
def upload(request: HttpRequest) -> HttpResponse:
    TOLD.append(request.FILES["file"])
    return HttpResponse(request.FILES["file"].read())


def cookies(request: HttpRequest) -> HttpResponse:
    response = HttpResponse(request.COOKIES.get("who", ""))
    response.set_cookie("who", "Ada")
    return response


def file(request: HttpRequest) -> FileResponse:
    return FileResponse(open(__file__, "rb"))


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("broken")


def script_name(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{request.META['SCRIPT_NAME']} {request.path_info}")


async def on_the_loop(request: HttpRequest) -> HttpResponse:
    TOLD.append(asyncio.get_running_loop())
    return HttpResponse("async")


async def async_orm(request: HttpRequest) -> HttpResponse:
    number = await Thread.objects.filter(user_id="nobody").acount()
    TOLD.append(await sync_to_async(lambda: connections["default"])())
    return HttpResponse(str(number))


async def endless(request: HttpRequest) -> HttpResponse:
    try:
        TOLD.append("began")
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        TOLD.append("cancelled")
        raise
    return HttpResponse()


def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        try:
            yield b"first "
            yield b"last"
        finally:
            TOLD.append("ended")

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
            TOLD.append("ended")

    return StreamingHttpResponse(parts())


def asks_the_store(request: HttpRequest) -> HttpResponse:
    TOLD.append(threading.current_thread())
    while len(TOLD) < workers.size:
        time.sleep(0.01)
    return HttpResponse(str(async_to_sync(on_database(threading.get_ident))() == threading.get_ident()))


def deferred(request: HttpRequest) -> HttpResponseBase:
    async def respond() -> HttpResponseBase:
        TOLD.append(asyncio.get_running_loop())
        await asyncio.sleep(float(request.GET.get("after", 0)))
        match request.GET.get("what"):
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
                    TOLD.append("ended")
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
    path("sync-stream", sync_stream),
    path("asks-the-store", asks_the_store),
    path("endless-stream", endless_stream),
    path("support/", include([path("deferred", deferred)])),
]
async_urlpatterns = [
    *urlpatterns,
    path("async", on_the_loop),
    path("endless", endless),
    path("async-orm", async_orm),
]


class WithAsyncViews:
    urlpatterns = async_urlpatterns


@pytest.fixture(autouse=True)
def _urls(settings: Any) -> None:
    settings.ROOT_URLCONF, settings.ALLOWED_HOSTS = __name__, ["testserver"]
    TOLD.clear()
    SEEN.clear()


@pytest.fixture(params=[WorkerThreadHandler, ASGIHandler])
def handler(request: pytest.FixtureRequest) -> ASGIHandler:
    return request.param()


def scope(path: str, query: str = "", method: str = "GET", **more: Any) -> dict[str, Any]:
    headers = [(b"host", b"testserver"), *more.pop("headers", [])]
    asked = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
    return asked | {"headers": headers, "http_version": "1.1"} | more


def ask(handler: Any, scope: dict[str, Any], *body: bytes) -> tuple[dict[str, Any], bytes]:
    """The response's start, and its whole body. The body of the request arrives in these pieces."""

    async def communicate() -> tuple[dict[str, Any], bytes]:
        communicator = ApplicationCommunicator(handler, scope)
        for piece in body:
            await communicator.send_input({"type": "http.request", "body": piece, "more_body": True})
        await communicator.send_input({"type": "http.request"})
        start, received = await communicator.receive_output(10), b""
        more = True
        while more:
            part = await communicator.receive_output(10)
            received, more = received + part.get("body", b""), part.get("more_body", False)
        await communicator.wait(10)
        return start, received

    return async_to_sync(communicate)()


def headers_of(start: dict[str, Any]) -> dict[bytes, bytes]:
    return {name.lower(): value for name, value in start["headers"]}


# --- Both ----------------------------------------------------------------------------------------


def test_a_view_answers(handler: ASGIHandler) -> None:
    start, body = ask(handler, scope("/hello", "name=Ada"))

    assert (start["status"], body) == (200, b"Hello Ada!")
    assert headers_of(start)[b"content-length"] == b"10"
    assert headers_of(start)[b"x-said"] == "café".encode("latin1")
    assert all(isinstance(part, bytes) for pair in start["headers"] for part in pair)


def test_a_body_arrives_whole_in_however_many_pieces(handler: ASGIHandler, settings: Any) -> None:
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 10  # what is longer goes to a file

    _, body = ask(handler, scope("/echo", method="POST"), b"ab" * 10, b"", b"cd")

    assert body == b"ab" * 10 + b"cd"


def test_an_upload_is_parsed_and_closed_with_the_request(handler: ASGIHandler) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\na file\r\n--x--\r\n'
    told = [
        (b"content-type", b"multipart/form-data; boundary=x"),
        (b"content-length", str(len(form)).encode()),
    ]

    _, body = ask(handler, scope("/upload", method="POST", headers=told), form)

    assert body == b"a file"
    assert TOLD[0].closed


def test_cookies_come_and_go(handler: ASGIHandler) -> None:
    start, body = ask(handler, scope("/cookies", headers=[(b"cookie", b"who=Grace")]))

    assert body == b"Grace"
    assert headers_of(start)[b"set-cookie"] == b"who=Ada; Path=/"


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators:Warning")
def test_a_file_is_sent_whole(handler: ASGIHandler) -> None:
    start, body = ask(handler, scope("/file"))

    with open(__file__, "rb") as this:
        assert body == this.read()
    assert headers_of(start)[b"content-length"] == str(len(body)).encode()


def test_a_stream_is_sent_part_by_part_and_ended(handler: ASGIHandler) -> None:
    start, body = ask(handler, scope("/stream"))

    assert (start["status"], body) == (200, b"first last")
    assert TOLD == ["ended"]


def test_an_exception_is_a_500(handler: ASGIHandler, caplog: pytest.LogCaptureFixture) -> None:
    start, body = ask(handler, scope("/broken"))

    assert start["status"] == 500
    assert b"RuntimeError" not in body
    assert "RuntimeError: broken" in caplog.text


def test_an_unknown_path_is_a_404(handler: ASGIHandler) -> None:
    assert ask(handler, scope("/nowhere"))[0]["status"] == 404


def test_a_query_that_is_no_text_is_a_400_of_django_and_reaches_our_views() -> None:
    asked = scope("/hello") | {"query_string": b"name=\xff&name=%C3%A9"}

    assert ask(ASGIHandler(), asked)[0]["status"] == 400
    assert ask(WorkerThreadHandler(), asked)[1] == "Hello é!".encode()


def test_a_prefix_of_the_server_s_is_taken_off(handler: ASGIHandler) -> None:
    _, body = ask(handler, scope("/api/script-name", root_path="/api"))

    assert body == b"/api /script-name"


def test_a_prefix_of_the_server_s_is_known_where_the_store_makes_addresses(handler: ASGIHandler) -> None:
    _, body = ask(handler, scope("/api/support/deferred", "what=prefix", root_path="/api"))

    assert body == b"/api/"


def test_what_is_not_http_is_refused(handler: ASGIHandler) -> None:
    async def communicate() -> None:
        communicator = ApplicationCommunicator(handler, {"type": "websocket"})
        with pytest.raises(ValueError, match="Django can only handle ASGI/HTTP connections, not websocket"):
            await communicator.wait(10)

    async_to_sync(communicate)()


def test_a_client_that_leaves_before_its_body_is_there_gets_no_view(handler: ASGIHandler) -> None:
    async def communicate() -> bool:
        communicator = ApplicationCommunicator(handler, scope("/echo", method="POST"))
        await communicator.send_input({"type": "http.request", "body": b"a", "more_body": True})
        await communicator.send_input({"type": "http.disconnect"})
        await communicator.wait(10)
        return await communicator.receive_nothing()

    assert async_to_sync(communicate)()


def test_a_stream_ends_where_it_waits_when_its_client_leaves(handler: ASGIHandler) -> None:
    finished: list[Any] = []

    def note(sender: Any, **_: Any) -> None:
        finished.append(sender)

    signals.request_finished.connect(note)
    leave_in_the_middle(handler, "/endless-stream")
    signals.request_finished.disconnect(note)

    assert TOLD == ["ended"]
    assert finished == [type(handler)]


def test_an_async_view_runs_on_the_loop(settings: Any, handler: ASGIHandler) -> None:
    settings.ROOT_URLCONF = WithAsyncViews
    handler = type(handler)()

    async def communicate() -> tuple[int, Any]:
        communicator = ApplicationCommunicator(handler, scope("/async"))
        await communicator.send_input({"type": "http.request"})
        start = await communicator.receive_output(10)
        await communicator.receive_output(10)
        await communicator.wait(10)
        return start["status"], asyncio.get_running_loop()

    assert async_to_sync(communicate)() == (200, TOLD[0])
    assert ask(handler, scope("/hello"))[1] == b"Hello World!"
    assert ask(handler, scope("/nowhere"))[0]["status"] == 404


@pytest.mark.django_db(transaction=True)
def test_an_async_view_uses_the_connections_of_the_workers(settings: Any) -> None:
    settings.ROOT_URLCONF = WithAsyncViews

    for _ in range(3 * workers.size):
        assert ask(WorkerThreadHandler(), scope("/async-orm"))[1] == b"0"

    assert len({id(connection) for connection in TOLD}) <= workers.size


def test_an_async_view_is_cancelled_when_its_client_leaves(settings: Any, handler: ASGIHandler) -> None:
    settings.ROOT_URLCONF = WithAsyncViews

    async def communicate() -> None:
        communicator = ApplicationCommunicator(type(handler)(), scope("/endless"))
        await communicator.send_input({"type": "http.request"})
        await eventually_told(1)
        await communicator.send_input({"type": "http.disconnect"})
        await communicator.wait(10)

    async_to_sync(communicate)()

    assert TOLD == ["began", "cancelled"]


def test_a_deferred_response_has_the_headers_of_the_middleware(handler: ASGIHandler) -> None:
    start, body = ask(handler, scope("/support/deferred", headers=[(b"x-request-id", b"of-mine")]))

    assert (start["status"], body) == (200, b"deferred")
    assert headers_of(start)[b"x-request-id"] == b"of-mine"
    assert headers_of(start)[b"x-frame-options"] == b"DENY"
    assert headers_of(start)[b"content-type"] == b"text/html; charset=utf-8"


def test_an_error_in_a_deferred_response_is_logged(
    handler: ASGIHandler, caplog: pytest.LogCaptureFixture
) -> None:
    start, _ = ask(handler, scope("/support/deferred", "what=error"))

    assert start["status"] == 410
    assert "Gone: /support/deferred" in caplog.text


def test_an_exception_in_a_deferred_response_is_a_500_in_json(
    handler: ASGIHandler, caplog: pytest.LogCaptureFixture
) -> None:
    start, body = ask(handler, scope("/support/deferred", "what=exception"))

    assert start["status"] == 500
    assert body == b'{"error": "Internal Server Error", "status": 500, "message": "Internal Server Error"}'
    assert headers_of(start)[b"x-request-id"]
    assert "RuntimeError: broken" in caplog.text


class Watching:
    """Middleware as an APM has it: it notes what the view answers, and when."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        begun_at = time.perf_counter()
        response = self.get_response(request)
        is_stream = response.streaming and response.streaming_content is not None
        SEEN.append((response.status_code, time.perf_counter() - begun_at, is_stream))
        return response


def test_middleware_sees_the_status_of_a_deferred_response_and_its_time(
    settings: Any, handler: ASGIHandler
) -> None:
    settings.MIDDLEWARE = [f"{__name__}.Watching", *settings.MIDDLEWARE]

    ask(type(handler)(), scope("/support/deferred", "what=error&after=0.2"))
    ask(type(handler)(), scope("/support/deferred", "what=exception"))
    ask(type(handler)(), scope("/support/deferred", "what=stream"))

    (error, error_time, _), (exception, exception_time, _), (stream, _, is_stream) = SEEN
    assert (error, exception, stream, is_stream) == (410, 500, 200, True)
    assert error_time >= 0.2 > exception_time


def test_middleware_sees_the_same_in_django_s_test_client(settings: Any) -> None:
    settings.MIDDLEWARE = [f"{__name__}.Watching", *settings.MIDDLEWARE]

    Client().get("/support/deferred", {"what": "error"})
    Client().get("/support/deferred", {"what": "stream"})

    assert [(status, is_stream) for status, _, is_stream in SEEN] == [(410, False), (200, True)]


def test_middleware_sees_that_a_client_has_left(settings: Any) -> None:
    settings.MIDDLEWARE = [f"{__name__}.Watching", *settings.MIDDLEWARE]

    async def communicate() -> None:
        communicator = ApplicationCommunicator(WorkerThreadHandler(), scope("/support/deferred", "what=wait"))
        await communicator.send_input({"type": "http.request"})
        await eventually_told(1)
        await communicator.send_input({"type": "http.disconnect"})
        await communicator.wait(10)

    async_to_sync(communicate)()

    assert [status for status, _, _ in SEEN] == [499]


def test_a_compressor_compresses_a_deferred_response(settings: Any, handler: ASGIHandler) -> None:
    settings.MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", *settings.MIDDLEWARE]
    accepting = [(b"accept-encoding", b"gzip")]

    start, body = ask(type(handler)(), scope("/support/deferred", "what=long", headers=accepting))

    assert headers_of(start)[b"content-encoding"] == b"gzip"
    assert gzip.decompress(body) == b"long" * 100


class Apologetic:
    """Middleware with an answer of its own to exceptions."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse:
        return HttpResponse(f"sorry: {exception}", status=202)


def test_middleware_may_answer_to_an_exception_in_a_deferred_response(
    settings: Any, handler: ASGIHandler
) -> None:
    settings.MIDDLEWARE = [f"{__name__}.Apologetic"]

    start, body = ask(type(handler)(), scope("/support/deferred", "what=exception"))

    assert (start["status"], body) == (202, b"sorry: broken")


# --- Ours ----------------------------------------------------------------------------------------


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is handed to the workers."""
    handed: list[Any] = []
    submit = type(workers).submit

    def count(pool: Any, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        handed.append(call)
        return submit(pool, call, *args, **kwargs)

    monkeypatch.setattr(type(workers), "submit", count)
    return handed


@pytest.mark.parametrize(
    ("asked", "number"),
    [("/hello", 1), ("/nowhere", 1), ("/broken", 1), ("/stream", 2), ("/support/deferred", 1)],
)
def test_a_request_is_one_hop_and_a_stream_s_end_another(hops: list[Any], asked: str, number: int) -> None:
    ask(WorkerThreadHandler(), scope(asked))

    assert len(hops) == number


def test_signals_share_a_thread_of_the_workers() -> None:
    seen: list[Any] = []

    def note(signal: Any, **_: Any) -> None:
        seen.append((signal, threading.current_thread().name))

    signals.request_started.connect(note)
    signals.request_finished.connect(note)
    ask(WorkerThreadHandler(), scope("/hello"))
    signals.request_started.disconnect(note)
    signals.request_finished.disconnect(note)

    assert [signal for signal, _ in seen] == [signals.request_started, signals.request_finished]
    [name] = {name for _, name in seen}
    assert name.startswith("worker")


def test_a_deferred_response_keeps_no_place_and_is_cancelled_when_its_client_leaves() -> None:
    handler = WorkerThreadHandler()

    async def communicate() -> None:
        waiting = [
            ApplicationCommunicator(handler, scope("/support/deferred", "what=wait"))
            for _ in range(2 * workers.size)
        ]
        for each in waiting:
            await each.send_input({"type": "http.request"})
        await eventually_told(len(waiting))
        beside = ApplicationCommunicator(handler, scope("/hello"))
        await beside.send_input({"type": "http.request"})
        assert (await beside.receive_output(10))["status"] == 200
        for each in waiting:
            await each.send_input({"type": "http.disconnect"})
            await each.wait(10)

    async_to_sync(communicate)()

    assert TOLD.count("ended") == 2 * workers.size


def test_a_sync_view_waits_for_the_store_and_not_for_another_worker() -> None:
    """docs/moving-from-fastapi.md has one. If each worker waited for another, all would for ever."""
    handler = WorkerThreadHandler()

    async def communicate() -> list[bytes]:
        all_of_them = [
            ApplicationCommunicator(handler, scope("/asks-the-store")) for _ in range(workers.size)
        ]
        for each in all_of_them:
            await each.send_input({"type": "http.request"})
        assert [(await each.receive_output(5))["status"] for each in all_of_them]
        return [(await each.receive_output(5))["body"] for each in all_of_them]

    assert async_to_sync(communicate)() == [b"True"] * workers.size


def test_two_requests_at_once_have_a_thread_each() -> None:
    handler, met = WorkerThreadHandler(), threading.Barrier(2, timeout=10)

    def meet(**_: Any) -> None:
        met.wait()

    async def communicate() -> list[Any]:
        both = [ApplicationCommunicator(handler, scope("/hello")) for _ in range(2)]
        for each in both:
            await each.send_input({"type": "http.request"})
        return [(await each.receive_output(10))["status"] for each in both]

    signals.request_started.connect(meet)
    try:
        assert async_to_sync(communicate)() == [200, 200]
    finally:
        signals.request_started.disconnect(meet)


@pytest.mark.parametrize("asked", ["/stream", "/support/deferred"])
def test_a_response_is_closed_however_busy_the_workers_are_when_it_ends(asked: str) -> None:
    finished, free, held = threading.Event(), threading.Event(), []

    def note(**_: Any) -> None:
        finished.set()

    async def communicate() -> None:
        sent = asyncio.Event()
        incoming = iter([{"type": "http.request"}])

        async def receive() -> dict[str, Any]:
            for message in incoming:
                return message
            await sent.wait()  # as servers do: what is answered is as good as left
            asyncio.get_running_loop().call_later(0.1, free.set)
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                held.extend(workers.submit(free.wait, 10) for _ in range(workers.size))
            elif not message.get("more_body"):
                sent.set()

        try:
            await WorkerThreadHandler()(scope(asked), receive, send)
        finally:
            free.set()

    signals.request_finished.connect(note)
    try:
        async_to_sync(communicate)()
    finally:
        signals.request_finished.disconnect(note)

    assert all(each.result() for each in held)
    assert finished.is_set()


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators:Warning")
def test_a_sync_stream_is_read_by_a_worker() -> None:
    _, body = ask(WorkerThreadHandler(), scope("/sync-stream"))

    assert body.startswith(b"worker")


async def eventually_told(number: int) -> None:
    while len(TOLD) < number:  # noqa: ASYNC110 - views of other threads tell it
        await asyncio.sleep(0.01)


def leave_in_the_middle(handler: Any, path: str) -> None:
    async def communicate() -> None:
        communicator = ApplicationCommunicator(handler, scope(path))
        await communicator.send_input({"type": "http.request"})
        assert (await communicator.receive_output(10))["status"] == 200
        assert (await communicator.receive_output(10))["body"] == b"first "
        await communicator.send_input({"type": "http.disconnect"})
        await communicator.wait(10)

    async_to_sync(communicate)()
