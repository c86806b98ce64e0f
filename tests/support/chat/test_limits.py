"""The limits of one user: streams, files, messages, bodies and headers."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from io import BytesIO
from typing import Any

import pytest
from chatkit.store import NotFoundError
from django.db import OperationalError, connections
from rest_framework.exceptions import NotFound, ParseError

from chatbackend.web.body_limit import MAX_HEADERS_LENGTH
from runtime.database_calls import run_inline
from support.admin import transcript
from support.attachments import store
from support.chat import slots, streaming
from support.chat.protocol import MAX_PARTS, MAX_TITLE, parse
from support.context import Owner
from support.files import stored_files, validation
from support.models import Attachment, Item, Thread
from support.storage.attachments import MAX_PER_MESSAGE
from tests.fixtures.accounts.people import Person
from tests.fixtures.attachments import announce, message_request, put, stored_file_names, upload_directly
from tests.fixtures.servers.api import Api, create, eventually, http, message, operation, transcribe

STREAMS, LENGTH, QUOTA, FILE = 2, 1000, 2500, 1000  # LENGTH: characters; QUOTA, FILE: bytes

TOO_MANY = "Too many answers at once. Wait for one of them to end"
FIRST = b"data: {}\n\n"
NO_ROOM = "There is no room: all your files may have 0.0025 MB together. Delete a conversation with files"


@pytest.fixture(scope="module")
def limited(auth: Any, start_api: Callable[..., Any]) -> Iterator[Api]:
    with start_api(
        ATTACHMENT_BYTES_PER_USER=str(QUOTA),
        ATTACHMENT_MAX_BYTES=str(FILE),
        CHATKIT_SERVER="tests.fixtures.chatkit.servers.SlowServer",
        SUPPORT_MESSAGE_LENGTH=str(LENGTH),
        SUPPORT_RATE_PER_USER="100000/min",
        SUPPORT_STREAMS_PER_USER=str(STREAMS),
    ) as running:
        yield running


# --- Streams --------------------------------------------------------------------------------------


def test_a_stream_over_the_users_limit_is_a_429_and_other_users_get_answers(
    limited: Api, person: Person, other_person: Person
) -> None:
    token = person.token()
    with ExitStack() as open_streams:
        for _ in range(STREAMS):
            next(open_streams.enter_context(limited.stream(create("until I leave"), token)))

        refused = limited.post(create("for 0 seconds"), token)
        others = limited.post(create("for 0 seconds"), other_person.token())
        lists = limited.post(operation("threads.list"), token)

    assert refused.status_code == 429
    assert refused.json() == {"error": TOO_MANY, "status": 429, "message": TOO_MANY}
    assert refused.headers["Retry-After"] == "10"
    assert (others.status_code, lists.status_code) == (200, 200)
    assert len(lists.json()["data"]) == STREAMS  # the refused request made no thread


def test_dictation_counts_as_a_stream(limited: Api, person: Person, other_person: Person) -> None:
    token = person.token()
    with ExitStack() as open_streams:
        for _ in range(STREAMS):
            next(open_streams.enter_context(limited.stream(create("until I leave"), token)))

        refused = limited.post(transcribe(), token)
        others = [limited.post(transcribe(), other_person.token()) for _ in range(STREAMS + 1)]

    assert (refused.status_code, refused.json()["error"]) == (429, TOO_MANY)
    # Each of these requests releases its slot. There is no transcription model.
    assert {answer.status_code for answer in others} == {501}


@pytest.mark.parametrize("ending", ["for 0 seconds", "break", "leave", "missing"])
def test_after_any_ending_of_a_stream_the_user_can_start_another(
    limited: Api, person: Person, ending: str
) -> None:
    token = person.token()

    for _ in range(STREAMS + 1):
        if ending == "leave":
            with limited.stream(create("until I leave"), token) as events:
                next(events)
        elif ending == "missing":
            missing = operation("threads.add_user_message", thread_id="thr_none", input=message("Hello"))
            assert limited.post(missing, token).status_code == 404
        else:
            limited.post(create(ending), token)

        eventually(
            lambda: limited.post(create("for 0 seconds"), token).status_code, lambda status: status == 200
        )


async def nothing() -> AsyncIterator[bytes]:
    return
    yield


async def first_then(then: Callable[[], Any]) -> AsyncIterator[bytes]:
    yield FIRST
    await then()


async def fails(exc: Exception) -> AsyncIterator[bytes]:
    raise exc
    yield


async def cancels() -> AsyncIterator[bytes]:
    raise asyncio.CancelledError
    yield


async def waits() -> AsyncIterator[bytes]:
    await asyncio.sleep(60)
    yield b""


async def broken() -> None:
    raise RuntimeError


def begin_in_thread(source: AsyncIterator[bytes]) -> streaming.EventStream:
    """Begin the stream in another thread, as the view does."""
    begin = streaming.begin_in_thread(source, "ada", asyncio.get_running_loop())
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run_inline, begin).result()


async def check_slot_of_stream_that_begins_in_thread(ending: str) -> None:
    match ending:
        case "the stream is complete":
            answer = begin_in_thread(first_then(lambda: asyncio.sleep(0))).response()
            assert slots._in_use["ada"] == 1
            assert [part async for part in answer] == [FIRST]
        case "the stream fails":
            answer = begin_in_thread(first_then(broken)).response()
            [first, error] = [part async for part in answer]
            assert (first, b'"type":"error"' in error) == (FIRST, True)
        case "the stream fails before its first event":
            [error] = [part async for part in begin_in_thread(fails(RuntimeError())).response()]
            assert b'"type":"error"' in error
        case "the request is refused":
            with pytest.raises(NotFound):
                begin_in_thread(fails(NotFound()))
        case "the database is down":
            with pytest.raises(OperationalError):
                begin_in_thread(fails(OperationalError()))
        case "there are no events":
            with pytest.raises(NotFoundError):
                begin_in_thread(nothing())
        case "the client leaves before the response":
            stream = begin_in_thread(first_then(lambda: asyncio.sleep(60)))
            assert slots._in_use["ada"] == 1
            del stream
        case "middleware replaces the response":
            replaced = begin_in_thread(first_then(lambda: asyncio.sleep(60))).response()
            replaced.abandon()  # type: ignore[attr-defined]
        case "the client leaves during the answer":
            events = begin_in_thread(first_then(lambda: asyncio.sleep(60))).events()
            assert await anext(events) == FIRST
            await events.aclose()
        case "the server cancels the request before the response":
            answer = begin_in_thread(first_then(lambda: asyncio.sleep(60))).response()
            answer.abandon()  # type: ignore[attr-defined]
            await asyncio.sleep(0)
            [events] = [part async for part in answer]
            assert events.startswith(FIRST + b'data: {"type":"error"')
        case "the server is shut down before the response":
            answer = begin_in_thread(first_then(lambda: asyncio.sleep(60))).response()
            await streaming.cancel_all()
            [events] = [part async for part in answer]
            assert events.startswith(FIRST + b'data: {"type":"error"')
        case "the stream has failed, and the client leaves":
            answer = begin_in_thread(fails(RuntimeError())).response()
            answer.abandon()  # type: ignore[attr-defined]
            await asyncio.sleep(0)
            [error] = [part async for part in answer]
            assert error.count(b"data: ") == 1
        case "the source cancels itself":
            with pytest.raises(asyncio.CancelledError):
                begin_in_thread(cancels())
        case "the source is not iterable":
            [error] = [part async for part in begin_in_thread(object()).response()]  # type: ignore[arg-type]
            assert b'"type":"error"' in error
    await asyncio.sleep(0.01)
    assert "ada" not in slots._in_use
    assert not streaming._open


async def check_slot_after(ending: str) -> None:
    match ending:
        case "the stream is complete":
            answer = (await streaming.start(first_then(lambda: asyncio.sleep(0)), "ada")).response()
            [part async for part in answer]
        case "the stream fails":
            answer = (await streaming.start(first_then(broken), "ada")).response()
            [part async for part in answer]
        case "the request is refused":
            with pytest.raises(NotFound):
                await streaming.start(fails(NotFound()), "ada")
        case "the database is down":
            with pytest.raises(OperationalError):
                await streaming.start(fails(OperationalError()), "ada")
        case "there are no events":
            with pytest.raises(NotFoundError):
                await streaming.start(nothing(), "ada")
        case "the client leaves before the first event":
            request = asyncio.create_task(streaming.start(waits(), "ada"))
            await asyncio.sleep(0)
            assert slots._in_use["ada"] == 1
            request.cancel()
            await asyncio.wait([request])
        case "the client leaves before the response":
            await streaming.start(first_then(lambda: asyncio.sleep(60)), "ada")
            await asyncio.wait([stream.task for stream in streaming._open if stream.task])
        case "the server is shut down":
            answer = (await streaming.start(first_then(lambda: asyncio.sleep(60)), "ada")).response()
            assert slots._in_use["ada"] == 1
            await streaming.cancel_all()
            [part async for part in answer]
    await asyncio.sleep(0)
    assert "ada" not in slots._in_use


@pytest.mark.parametrize(
    "ending",
    [
        "the stream is complete",
        "the stream fails",
        "the request is refused",
        "the database is down",
        "there are no events",
        "the client leaves before the first event",
        "the client leaves before the response",
        "the server is shut down",
    ],
)
def test_a_slot_is_released_after_every_ending(ending: str) -> None:
    asyncio.run(check_slot_after(ending))


@pytest.mark.parametrize(
    "ending",
    [
        "the stream is complete",
        "the stream fails",
        "the stream fails before its first event",
        "the request is refused",
        "the database is down",
        "there are no events",
        "the client leaves before the response",
        "middleware replaces the response",
        "the client leaves during the answer",
        "the server cancels the request before the response",
        "the server is shut down before the response",
        "the stream has failed, and the client leaves",
        "the source cancels itself",
        "the source is not iterable",
    ],
)
def test_a_stream_that_begins_in_a_thread_releases_its_slot_after_every_ending(ending: str) -> None:
    asyncio.run(check_slot_of_stream_that_begins_in_thread(ending))


def test_threads_that_begin_streams_at_the_same_time_share_the_limit(settings: Any) -> None:
    settings.SUPPORT_STREAMS_PER_USER = 3

    async def begin_twenty() -> int:
        loop = asyncio.get_running_loop()
        start = threading.Barrier(20)

        def begin(_: int) -> streaming.EventStream | None:
            start.wait()
            try:
                return run_inline(streaming.begin_in_thread(first_then(broken), "ada", loop))
            except slots.StreamLimitReached:
                return None

        with ThreadPoolExecutor(20) as threads:
            return len([stream for stream in threads.map(begin, range(20)) if stream])

    assert asyncio.run(begin_twenty()) == 3
    slots._in_use.clear()  # the event loop has ended, so nothing else releases them


def test_a_slot_counts_as_a_stream_and_is_released_after_an_exception(settings: Any) -> None:
    settings.SUPPORT_STREAMS_PER_USER = 1

    with slots.held("ada"), pytest.raises(slots.StreamLimitReached):
        asyncio.run(streaming.start(nothing(), "ada"))
    with pytest.raises(ValueError, match="of the model"), slots.held("ada"):
        raise ValueError("of the model")

    assert "ada" not in slots._in_use


def test_a_stream_over_the_limit_is_never_started(settings: Any) -> None:
    settings.SUPPORT_STREAMS_PER_USER = 1
    started = []

    async def source(number: int) -> AsyncIterator[bytes]:
        started.append(number)
        yield b"data: {}\n\n"
        await asyncio.sleep(60)

    async def two_at_once() -> list[Any]:
        both = (streaming.start(source(number), "ada") for number in range(2))
        answers = await asyncio.gather(*both, return_exceptions=True)
        await streaming.cancel_all()
        return [type(each).__name__ for each in answers]

    assert asyncio.run(two_at_once()) == ["EventStream", "StreamLimitReached"]
    assert started == [0]


# --- Files ----------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_file_over_the_users_quota_is_refused_by_both_uploads_and_not_stored(
    limited: Api, person: Person, other_person: Person
) -> None:
    text = ("a.txt", "text/plain")
    announced = [announce(limited, person, *text, size=FILE).json()["id"] for _ in range(2)]
    for _ in range(2):
        assert upload_directly(limited, person, b"a" * FILE, *text).status_code == 200
    before = stored_file_names()

    refusals = [
        announce(limited, person, *text, size=QUOTA - 2 * FILE + 1),
        put(limited, person, announced[0], b"a" * (QUOTA - 2 * FILE + 1)),
        upload_directly(limited, person, b"a" * (QUOTA - 2 * FILE + 1), *text),
    ]

    assert {(each.status_code, each.json()["message"]) for each in refusals} == {(400, NO_ROOM)}
    assert stored_file_names() == before
    assert upload_directly(limited, other_person, b"a" * FILE, *text).status_code == 200
    assert put(limited, person, announced[0], b"a" * (QUOTA - 2 * FILE)).status_code == 200
    assert put(limited, person, announced[1], b"a").json()["message"] == NO_ROOM
    assert limited.post(
        operation("attachments.delete", attachment_id=announced[0]), person.token()
    ).is_success
    assert put(limited, person, announced[1], b"a").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_of_two_concurrent_uploads_only_one_fits_into_the_quota(
    settings: Any, monkeypatch: pytest.MonkeyPatch, django_db_setup: None
) -> None:
    settings.ATTACHMENT_BYTES_PER_USER = QUOTA
    both_have_checked, really_keep = threading.Barrier(2, timeout=30), stored_files.save

    def keep(content: Any) -> str:
        both_have_checked.wait()
        return really_keep(content)

    monkeypatch.setattr(stored_files, "save", keep)
    before = stored_file_names()

    def upload(_: int) -> str:
        try:
            store.add(Owner("ada"), "a.txt", "text/plain", BytesIO(b"a" * 2000))
        except validation.QuotaExceeded:
            return "no room"
        finally:
            connections.close_all()
        return "stored"

    with ThreadPoolExecutor(2) as uploads:
        outcomes = sorted(uploads.map(upload, range(2)))

    assert outcomes == ["no room", "stored"]
    assert len(stored_file_names() - before) == 1
    assert Attachment.objects.owned_by("ada").get().size == 2000


@pytest.mark.django_db
def test_a_file_over_the_users_quota_is_never_written(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.ATTACHMENT_BYTES_PER_USER = 1
    written: list[Any] = []
    monkeypatch.setattr(stored_files, "save", written.append)

    with pytest.raises(validation.QuotaExceeded):
        store.add(Owner("ada"), "a.txt", "text/plain", BytesIO(b"aa"))

    assert written == []


@pytest.mark.django_db
def test_without_a_quota_a_file_of_any_user_is_stored(settings: Any) -> None:
    settings.ATTACHMENT_BYTES_PER_USER = 0
    Attachment.objects.create(user_id="ada", attachment_id="atc_1", file="x", size=10**15, data={})

    assert store.add(Owner("ada"), "a.txt", "text/plain", BytesIO(b"a")).id


@pytest.mark.django_db(transaction=True)
def test_a_message_carries_ten_attachments_and_no_more(api: Api, person: Person) -> None:
    uploaded = [
        upload_directly(api, person, b"a", "a.txt", "text/plain").json()["id"]
        for _ in range(MAX_PER_MESSAGE + 1)
    ]

    refused = api.post(message_request(*uploaded), person.token())
    accepted = api.post(message_request(*uploaded[1:]), person.token())

    assert (refused.status_code, accepted.status_code) == (400, 200)
    assert refused.json()["message"] == "A message carries up to 10 attachments, each once"


# --- Messages, bodies, headers --------------------------------------------------------------------


def message_body(*parts: dict[str, Any], **more: Any) -> bytes:
    body = {"type": "threads.create", "params": {"input": message("") | {"content": list(parts)} | more}}
    return json.dumps(body).encode()


def text(length: int) -> dict[str, Any]:
    return {"type": "input_text", "text": "ü" * length}


def tag(length: int) -> dict[str, Any]:
    return {"type": "input_tag", "id": "1", "text": "order", "data": {"about": "a" * length}}


@pytest.mark.parametrize(
    "body",
    [
        message_body(text(1001)),
        message_body(text(500), text(501)),
        message_body(text(1), quoted_text="a" * 1000),
        message_body(text(1), tag(1000)),
    ],
    ids=["one text", "two texts", "a quotation", "a tag"],
)
def test_a_message_that_is_too_long_is_refused(settings: Any, body: bytes) -> None:
    settings.SUPPORT_MESSAGE_LENGTH = 1000

    with pytest.raises(ParseError, match=r"^params.input is longer than 1000 characters$"):
        parse(body)


@pytest.mark.parametrize(
    "body",
    [
        message_body(text(1000)),
        message_body(text(500), text(500)),
        message_body(text(1), quoted_text="a" * 999),
    ],
    ids=["one text", "two texts", "a quotation"],
)
def test_a_message_of_the_maximum_length_is_accepted(settings: Any, body: bytes) -> None:
    settings.SUPPORT_MESSAGE_LENGTH = 1000

    assert parse(body)


def test_a_message_has_a_hundred_parts_and_no_more() -> None:
    assert parse(message_body(*[text(1)] * MAX_PARTS))
    with pytest.raises(ParseError, match=r"^params.input.content has more than 100 parts$"):
        parse(message_body(*[text(0)] * (MAX_PARTS + 1)))


def test_a_title_has_two_hundred_characters_and_no_more() -> None:
    def rename(length: int) -> bytes:
        return json.dumps(operation("threads.update", thread_id="thr_1", title="ü" * length)).encode()

    assert parse(rename(MAX_TITLE))
    with pytest.raises(ParseError, match=r"^params.title is longer than 200 characters$"):
        parse(rename(MAX_TITLE + 1))


def test_a_message_that_is_too_long_gets_the_usual_error_body(limited: Api, person: Person) -> None:
    refused = limited.post(create("a" * (LENGTH + 1)), person.token())

    message = "params.input is longer than 1000 characters"
    body = {"error": message, "status": 400, "message": message}
    assert (refused.status_code, refused.json()) == (400, body)


def test_a_body_over_a_million_bytes_is_a_413(limited: Api, person: Person) -> None:
    body, token = json.dumps(operation("threads.list")).encode().ljust(1_000_000), person.token()

    longest, longer, without_a_token = (
        limited.post(body, token),
        limited.post(body + b" ", token),
        limited.post(body + b" "),
    )

    assert (longest.status_code, longer.status_code, without_a_token.status_code) == (200, 413, 413)


def test_headers_over_32_kib_are_a_431(api: Api) -> None:
    def ask(filling: int) -> Any:
        return http.post(api.url, headers={"X-Filling": "a" * filling}, content=b"{}")

    without = ask(0).request.headers.raw
    room = MAX_HEADERS_LENGTH - sum(len(name) + len(value) for name, value in without)

    fits, exceeds = ask(room), ask(room + 1)

    message = "The headers exceed 32768 bytes"
    body = {"error": message, "status": 431, "message": message}
    assert fits.status_code == 401
    assert (exceeds.status_code, exceeds.json()) == (431, body)
    assert exceeds.headers["X-Request-ID"]


# --- Staff ----------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_transcript_shows_the_first_parts_of_a_message_and_the_number_of_the_others() -> None:
    thread = Thread.objects.create(
        user_id="ada", thread_id="thr_1", created_at="2026-01-01T00:00:00Z", data={}
    )
    parts = [{"type": "input_text", "text": "a"}] * 10_000
    data = {"type": "user_message", "content": parts}
    Item.objects.create(
        thread=thread, item_id="1", type="user_message", created_at=thread.created_at, data=data
    )

    [entry] = transcript.page(thread).entries

    assert len(entry.texts) == transcript.MAX_TEXTS + 1
    assert entry.texts[-1].text == f"… ({10_000 - transcript.MAX_TEXTS} more)"
