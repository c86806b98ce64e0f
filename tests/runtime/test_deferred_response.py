"""What happens to the work for a client that leaves, and to the memory and the context of a request."""

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any
from weakref import ref

import pytest
from django.core.exceptions import RequestAborted
from django.http import HttpRequest, HttpResponse

from runtime.deferred_response import wait_for_response, while_connected
from runtime.worker_threads import workers

# No test here queries the database. But worker threads check the connections of earlier tests before each
# call.
pytestmark = pytest.mark.django_db


# --- while_connected ------------------------------------------------------------------------------

Work = Callable[[], Coroutine[Any, Any, str]]


async def stay() -> Any:
    await asyncio.Event().wait()


async def leave() -> Any:
    return {"type": "http.disconnect"}


async def fail() -> Any:
    raise OSError("The server cannot say whether the client is there")


async def answer() -> str:
    await asyncio.sleep(0)
    return "an answer"


async def time_out() -> str:
    raise TimeoutError("of the work")


async def go_on_after_cancellation() -> str:
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(60)
    return "an answer that nobody reads"


async def fail_while_cancelled(error: Exception) -> str:
    try:
        await asyncio.sleep(60)
    finally:
        raise error


def run(receive: Any, work: Work) -> tuple[Any, int]:
    """Return the result or the exception, and the number of tasks that remain."""

    async def scenario() -> tuple[Any, int]:
        try:
            async with asyncio.timeout(10):
                result: Any = await while_connected(receive, work())
        except Exception as exc:
            result = exc
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()
        await asyncio.sleep(0)  # here, a cancellation that is still to come would be raised
        return result, len(asyncio.all_tasks()) - 1

    return asyncio.run(scenario())


def test_the_result_is_returned_and_no_task_remains() -> None:
    assert run(stay, answer) == ("an answer", 0)


@pytest.mark.parametrize("receive", [leave, fail])
@pytest.mark.parametrize("work", [stay, go_on_after_cancellation])
def test_work_for_a_client_that_has_left_is_cancelled(receive: Any, work: Work) -> None:
    result, tasks = run(receive, work)

    assert (type(result), tasks) == (RequestAborted, 0)


@pytest.mark.parametrize(
    ("receive", "work", "error"),
    [
        (stay, time_out, "of the work"),
        (leave, time_out, "of the work"),
        (leave, partial(fail_while_cancelled, LookupError("in the cleanup")), "in the cleanup"),
        (leave, partial(fail_while_cancelled, TimeoutError("in the cleanup")), "in the cleanup"),
    ],
)
def test_an_exception_of_the_work_is_raised(receive: Any, work: Work, error: str) -> None:
    result, tasks = run(receive, work)

    assert (str(result), tasks) == (error, 0)


# --- The memory -----------------------------------------------------------------------------------


class Recording:
    """Stands for the body of a dictation, which may have several megabytes."""


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def transcribe(recording: Recording) -> HttpResponse:
    return HttpResponse("Transcript")


async def refuse(recording: Recording) -> HttpResponse:
    raise ValueError


def request_of_client(receive: Any) -> HttpRequest:
    request = HttpRequest()
    if receive:
        request.receive = receive  # type: ignore[attr-defined]
    return request


@pytest.mark.parametrize("receive", [None, stay])
@pytest.mark.usefixtures("no_garbage_collection")
def test_the_request_s_body_is_deleted_after_a_response(receive: Any) -> None:
    recording = Recording()
    recording_ref, respond = ref(recording), partial(transcribe, recording)
    del recording

    response = workers.submit(wait_for_response, request_of_client(receive), respond).result(10)
    del respond

    assert response.content == b"Transcript"
    assert recording_ref() is None


@pytest.mark.parametrize("receive", [None, stay])
@pytest.mark.usefixtures("no_garbage_collection")
def test_the_request_s_body_is_deleted_after_an_exception(receive: Any) -> None:
    recording = Recording()
    recording_ref, respond = ref(recording), partial(refuse, recording)
    del recording

    with pytest.raises(ValueError):  # noqa: PT011
        workers.submit(wait_for_response, request_of_client(receive), respond).result(10)
    del respond

    assert recording_ref() is None


# --- The context ----------------------------------------------------------------------------------

language = ContextVar("language", default="en")


async def speak_german() -> HttpResponse:
    language.set("de")
    return HttpResponse()


def test_context_variables_that_async_code_sets_do_not_reach_the_middleware() -> None:
    def view() -> str:
        wait_for_response(request_of_client(stay), speak_german)
        return language.get()

    assert workers.submit(view).result(10) == "en"
