"""A deferred response keeps the request's body no longer than until the response is there."""

import gc
from collections.abc import Iterator
from functools import partial
from weakref import ref

import pytest
from django.http import HttpRequest, HttpResponse

from runtime.deferred_response import wait_for_response
from runtime.worker_threads import workers

# Nothing here asks the database, but workers check the connections that other tests have left.
pytestmark = pytest.mark.django_db


class Recording:
    """Of ten megabytes, perhaps."""


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def transcribe(recording: Recording) -> HttpResponse:
    return HttpResponse("What was said")


async def fail(recording: Recording) -> HttpResponse:
    raise ValueError


@pytest.mark.usefixtures("no_garbage_collection")
def test_a_request_s_body_goes_with_its_response() -> None:
    recording = Recording()
    sent, respond = ref(recording), partial(transcribe, recording)
    del recording

    response = workers.submit(wait_for_response, HttpRequest(), respond).result(10)
    del respond

    assert response.content == b"What was said"
    assert sent() is None


@pytest.mark.usefixtures("no_garbage_collection")
def test_a_request_s_body_goes_with_its_exception() -> None:
    recording = Recording()
    sent, respond = ref(recording), partial(fail, recording)
    del recording

    with pytest.raises(ValueError):  # noqa: PT011
        workers.submit(wait_for_response, HttpRequest(), respond).result(10)
    del respond

    assert sent() is None
