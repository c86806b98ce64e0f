"""``wait_for_response`` keeps no reference to the body of the request.

Python then deletes the body at once, without its garbage collector.
"""

import gc
from collections.abc import Iterator
from functools import partial
from weakref import ref

import pytest
from django.http import HttpRequest, HttpResponse

from runtime.deferred_response import wait_for_response
from runtime.worker_threads import workers

# No test here queries the database. But worker threads check the connections of earlier tests before each
# call.
pytestmark = pytest.mark.django_db


class Recording:
    """Stands for the body of a dictation, which may have several megabytes."""


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def transcribe(recording: Recording) -> HttpResponse:
    return HttpResponse("Transcript")


async def fail(recording: Recording) -> HttpResponse:
    raise ValueError


@pytest.mark.usefixtures("no_garbage_collection")
def test_the_request_s_body_is_deleted_after_a_response() -> None:
    recording = Recording()
    recording_ref, respond = ref(recording), partial(transcribe, recording)
    del recording

    response = workers.submit(wait_for_response, HttpRequest(), respond).result(10)
    del respond

    assert response.content == b"Transcript"
    assert recording_ref() is None


@pytest.mark.usefixtures("no_garbage_collection")
def test_the_request_s_body_is_deleted_after_an_exception() -> None:
    recording = Recording()
    recording_ref, respond = ref(recording), partial(fail, recording)
    del recording

    with pytest.raises(ValueError):  # noqa: PT011
        workers.submit(wait_for_response, HttpRequest(), respond).result(10)
    del respond

    assert recording_ref() is None
