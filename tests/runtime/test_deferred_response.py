"""What an answer of the event loop is made of is not kept any longer than until then."""

import asyncio
import gc
from collections.abc import Iterator
from functools import partial
from weakref import ref

import pytest
from django.http import HttpResponse

from runtime.deferred_response import Later


class Recording:
    """Of ten megabytes, perhaps."""


@pytest.fixture
def nothing_is_collected() -> Iterator[None]:
    """As between two of the looks for garbage, of which there are few."""
    gc.disable()
    yield
    gc.enable()


async def write_down(recording: Recording) -> HttpResponse:
    return HttpResponse("What was said")


@pytest.mark.usefixtures("nothing_is_collected")
def test_what_was_sent_goes_with_the_answer() -> None:
    recording = Recording()
    sent, later = ref(recording), Later(partial(write_down, recording))
    del recording

    assert asyncio.run(later.answer()).status_code == 200

    assert sent() is None  # although the handler still has what stood for the answer
