"""A call of a tool: its arguments, its result, its failures and its audit record."""

import asyncio
import logging
import sys
import threading
import time
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from authn.sessions import Organization
from runtime.worker_threads import workers
from support.tools import ToolError, calls
from support.tools.calls import CUT_OFF, MAX_OUTPUT_LENGTH, Result
from support.tools.declaration import make_tool
from tests.fixtures.shop import tools as shop

pytestmark = pytest.mark.django_db


class Caller:
    user_id, session, organization, client_id, request_id = "u1", None, Organization("o1", "owner"), "", "r1"


def call(function: Any, **arguments: Any) -> Result:
    return async_to_sync(calls.call)(make_tool(function), Caller(), arguments, "chat")


def test_a_sync_tool_uses_the_orm() -> None:
    assert call(shop.add_todo, text="Milk") == Result("Added (low). The list: ['Milk']", "ok")
    assert call(shop.show_todos).text == '["Milk"]'


def test_an_async_tool_knows_the_caller() -> None:
    assert call(shop.who_am_i).text == '{"user_id":"u1","organization":"o1","client_id":""}'


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({}, "text: Field required"),
        ({"text": 1}, "text: Input should be a valid string"),
        ({"text": "a", "priority": "medium"}, "priority"),
        ({"text": "a", "user_id": "somebody"}, "there is no user_id"),
        ({"text": "a", "context": {}}, "there is no context"),
    ],
)
def test_wrong_arguments_become_a_sentence_and_nothing_runs(arguments: dict[str, Any], fault: str) -> None:
    result = call(shop.add_todo, **arguments)

    assert result.outcome == "invalid_arguments"
    assert fault in result.text


def add_up(context: Any, numbers: list[int]) -> int:
    """Add up."""
    return sum(numbers)


def test_many_wrong_arguments_are_only_counted() -> None:
    few, many = (call(add_up, numbers=["a"] * count).text for count in (2, calls.MAX_FAULTS + 1))

    assert few.count("Input should be a valid integer") == 2
    assert many == f"Invalid arguments: there are {calls.MAX_FAULTS + 1} faults."


@pytest.mark.parametrize(("arguments", "fault"), [("{", "not JSON"), ("[1]", "not an object")])
def test_arguments_that_are_no_json_object_are_refused_and_recorded(
    arguments: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    result = async_to_sync(calls.call)(make_tool(shop.show_todos), Caller(), arguments, "chat")

    assert result.outcome == "invalid_arguments"
    assert fault in result.text
    assert [each.outcome for each in caplog.records if each.name == "authn.audit.tools"] == [result.outcome]  # type: ignore[attr-defined]


def test_a_tool_error_is_read_by_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shop, "MAX_LENGTH", 0)

    assert call(shop.add_todo, text="Milk") == Result("The list is full.", "refused")


def test_the_text_of_a_fault_is_in_the_log_and_not_in_the_result(caplog: pytest.LogCaptureFixture) -> None:
    result = call(shop.fail)

    assert result == Result(calls.UNKNOWN_EFFECT, "failed")
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.getMessage() == "The tool fail failed"
    assert record.exc_info


def recite(context: Any, fails: bool) -> str:
    """Return a text that neither PostgreSQL nor UTF-8 can hold."""
    if fails:
        raise ToolError("a\0\ud800")
    return "a\0\ud800"


def test_a_result_has_only_characters_that_a_request_can_carry() -> None:
    assert [call(recite, fails=each).text for each in (False, True)] == ["a?", "a?"]


def leave(context: Any) -> None:
    """End the process."""
    sys.exit("the secret of the shop")


async def leave_the_loop(context: Any) -> None:
    """End the process."""
    sys.exit("the secret of the shop")


def find_nothing(context: Any) -> str:
    """Raise an exception that no future can hold."""
    return next(iter(()))


def wait_in_vain(context: Any) -> None:
    """Wait for another service that does not answer."""
    raise TimeoutError


async def await_a_cancelled_task(context: Any) -> None:
    """Await a task that somebody has cancelled."""
    task = asyncio.create_task(asyncio.sleep(0))
    task.cancel()
    await task


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (leave, SystemExit),
        (leave_the_loop, SystemExit),
        (find_nothing, StopIteration),
        (wait_in_vain, TimeoutError),
        (await_a_cancelled_task, asyncio.CancelledError),
    ],
)
def test_no_exception_of_a_tool_ends_the_server_or_passes_for_one_of_ours(
    function: Any,
    kind: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(calls, "TIMEOUT_SECONDS", 5)

    assert call(function) == Result(calls.UNKNOWN_EFFECT, "failed")
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[0] is kind


@pytest.mark.parametrize(
    ("function", "arguments"), [(shop.hang, {}), (shop.hang_in_a_thread, {"seconds": 0.3})]
)
def test_a_tool_that_takes_too_long_does_not_hold_up_the_answer(
    function: Any, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "TIMEOUT_SECONDS", 0.05)

    async def timed() -> tuple[Result, float]:
        started = time.perf_counter()
        result = await calls.call(make_tool(function), Caller(), arguments, "chat")
        took = time.perf_counter() - started
        await asyncio.sleep(arguments.get("seconds", 0))  # let the thread end in this test
        return result, took

    result, took = asyncio.run(timed())

    assert result.outcome == "timeout"
    assert took < 0.25  # the thread takes 0.3 seconds, and the coroutine an hour


def test_sync_tools_that_hang_leave_half_of_the_worker_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(calls, "PLACE_TIMEOUT_SECONDS", 0.05)
    half, go_on = workers.size // 2, threading.Event()

    def block(context: Any) -> None:
        """Block a thread."""
        go_on.wait(10)

    async def called(function: Any) -> Result:
        return await calls.call(make_tool(function), Caller(), {}, "mcp")

    async def many() -> tuple[list[Result], int, Result]:
        try:
            held = await asyncio.gather(*(called(block) for _ in range(workers.size + 1)))
            working = workers.load()[0]
        finally:
            go_on.set()
        monkeypatch.undo()  # on a busy machine, the next call takes longer
        return held, working, await called(shop.show_todos)

    held, working, later = asyncio.run(many())

    assert [each.outcome for each in held] == ["timeout"] * half + ["refused"] * (workers.size + 1 - half)
    assert {each.text for each in held[half:]} == {calls.NO_PLACE}
    assert working == half
    assert later.outcome == "ok"


def test_a_long_result_is_cut_off() -> None:
    text = call(shop.repeat, word="a", times=MAX_OUTPUT_LENGTH + 1).text

    assert text == "a" * MAX_OUTPUT_LENGTH + CUT_OFF


def test_the_audit_record_has_the_caller_and_no_argument(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    call(shop.repeat, word="confidential", times=1)

    (record,) = [each for each in caplog.records if each.name == "authn.audit.tools"]
    facts: dict[str, Any] = vars(record)
    assert (facts["outcome"], facts["tool"], facts["via"]) == ("ok", "repeat", "chat")
    assert (facts["user_id"], facts["organization_id"], facts["request_id"]) == ("u1", "o1", "r1")
    assert "confidential" not in str(facts)
