"""``while_connected``: what happens to the work for a client that leaves."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
from django.core.exceptions import RequestAborted

from runtime.deferred_response import while_connected

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


async def fail_while_cancelled() -> str:
    try:
        await asyncio.sleep(60)
    finally:
        raise LookupError("in the cleanup")


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
        (leave, fail_while_cancelled, "in the cleanup"),
    ],
)
def test_an_exception_of_the_work_is_raised(receive: Any, work: Work, error: str) -> None:
    result, tasks = run(receive, work)

    assert (str(result), tasks) == (error, 0)
