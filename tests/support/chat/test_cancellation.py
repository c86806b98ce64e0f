"""After a disconnect, Stop or a shutdown, the model and its tools stop. The partial answer is stored once."""

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from chatkit.server import StreamingResult
from chatkit.types import AssistantMessageContent, AssistantMessageItem, ThreadMetadata

from support.assistant.provider import client
from support.server import SupportServer
from tests.fixtures.accounts.people import Person
from tests.fixtures.assistant import APIS
from tests.fixtures.conversations import deltas_of, disconnect_after, items_of, texts_of, types_of
from tests.fixtures.model.server import Model
from tests.fixtures.servers.api import Api, add, create, eventually
from tests.fixtures.servers.tool_server import ToolServerProcess

pytestmark = pytest.mark.django_db

STOPPED = ["user_message", "assistant_message", "sdk_hidden_context"]
LOOK_UP = "mcp_slow__look_up"

# Parts of the warnings of asyncio and anyio about tasks that were not cleaned up. Our server runs in Python's
# development mode.
ASYNCIO_WARNINGS = (
    "was destroyed",
    "never retrieved",
    "never awaited",
    "cancel scope",
    "different Context",
    "Traceback",
)


@pytest.fixture(scope="module", params=APIS)
def api(
    request: pytest.FixtureRequest, start_assistant: Callable[..., Any], slow_server: ToolServerProcess
) -> Iterator[Api]:
    with start_assistant(
        request.param, SUPPORT_MCP_SERVERS=json.dumps([slow_server.entry("slow")])
    ) as running:
        yield running
    assert asyncio_warnings(running) == []


def asyncio_warnings(api: Api) -> list[str]:
    return [
        line for line in api.log.read_text().splitlines() if any(word in line for word in ASYNCIO_WARNINGS)
    ]


def items_when_stored(person: Person, thread_id: str, length: int) -> list[Any]:
    """Wait until the thread has this number of items, and return them."""
    return eventually(lambda: items_of(person, thread_id), lambda items: len(items) == length)


# --- A client that disconnects --------------------------------------------------------------------


def test_if_the_client_leaves_the_model_stops_and_the_partial_answer_is_stored_once(
    api: Api, person: Person, model: Model
) -> None:
    model.will_answer("Once ", "upon", ending="silence")

    thread_id = disconnect_after(api, person, create("A story"), "upon")

    assert model.calls[0].abandoned.wait(15)
    stored = items_when_stored(person, thread_id, 3)
    assert types_of(stored) == STOPPED
    assert texts_of(stored) == ["A story", "Once upon"]


def test_if_the_client_leaves_a_running_tool_call_stops(
    api: Api, person: Person, model: Model, slow_server: ToolServerProcess
) -> None:
    before = slow_server.printed().count("stopped")
    model.will_answer("Let me see. ", tools=[(LOOK_UP, {})])

    thread_id = disconnect_after(api, person, create("Look it up"), "Let me see. ", "Look it up")

    eventually(lambda: slow_server.printed().count("stopped"), lambda count: count == before + 1)
    stored = items_when_stored(person, thread_id, 3)
    assert types_of(stored) == STOPPED  # the message was complete before the tool call
    assert texts_of(stored) == ["Look it up", "Let me see. "]
    assert len(model.calls) == 1


def test_if_the_client_leaves_the_title_is_not_generated_further(
    api: Api, person: Person, model: Model
) -> None:
    model.will_answer("Once ", ending="silence")
    model.title.ending = "silence"

    thread_id = disconnect_after(api, person, create("A story"), "Once ")

    assert model.title_calls[0].abandoned.wait(15)
    assert model.calls[0].abandoned.wait(15)
    assert texts_of(items_when_stored(person, thread_id, 3)) == ["A story", "Once "]


def test_if_the_client_leaves_before_the_first_word_no_empty_message_is_stored(
    api: Api, person: Person, model: Model
) -> None:
    model.will_answer(ending="silence")
    with api.stream(create("A story"), person.token()) as events:
        thread_id = next(events)[1]["thread"]["id"]
        eventually(lambda: len(model.calls), lambda calls: calls == 1)

    assert model.calls[0].abandoned.wait(15)
    assert types_of(items_when_stored(person, thread_id, 2)) == ["user_message", "sdk_hidden_context"]


def test_a_conversation_goes_on_after_the_client_has_left(api: Api, person: Person, model: Model) -> None:
    model.will_answer("Once ", "upon", ending="silence")
    thread_id = disconnect_after(api, person, create("A story"), "upon")
    items_when_stored(person, thread_id, 3)
    model.will_answer("a time")

    events = api.events(add(thread_id, "Go on"), person.token())

    assert deltas_of(events) == ["a time"]
    conversation = model.calls[0].conversation
    assert conversation[:2] == [("user", "A story"), ("assistant", "Once upon")]
    (stopped, newest) = conversation[2][1].rsplit("\n\n", 1)
    assert ("not shown to the user" in stopped, newest) == (True, "Go on")


def test_a_late_cancellation_does_not_overwrite_a_complete_answer(
    person: Person,
) -> None:
    server, thread = SupportServer(), ThreadMetadata(id="thr_1", created_at=datetime.now())
    common = {"id": "msg_1", "thread_id": "thr_1", "created_at": datetime.now()}
    complete = AssistantMessageItem(**common, content=[AssistantMessageContent(text="Once upon a time")])
    partial = AssistantMessageItem(**common, content=[AssistantMessageContent(text="Once")])

    async def cancel_late() -> None:
        await server.store.save_thread(thread, person)
        await server.store.add_thread_item("thr_1", complete, person)
        await server.handle_stream_cancelled(thread, [partial], person)

    async_to_sync(cancel_late)()

    assert texts_of(items_of(person, "thr_1")) == ["Once upon a time"]


# --- A shutdown -----------------------------------------------------------------------------------


@pytest.mark.parametrize("model_api", APIS)
def test_a_shutdown_stops_models_and_tools_and_stores_partial_answers(
    start_assistant: Callable[..., Any],
    slow_server: ToolServerProcess,
    person: Person,
    model: Model,
    model_api: str,
) -> None:
    token, before = person.token(), slow_server.printed().count("stopped")
    model.will_answer("Let me see. ", tools=[(LOOK_UP, {})]).then("Once ", "upon", ending="silence")
    model.title.ending = "silence"
    servers = json.dumps([slow_server.entry("slow")])
    threads, endings = [], []
    with (
        ThreadPoolExecutor(3) as clients,
        ExitStack() as streams,
        start_assistant(model_api, SUPPORT_MCP_SERVERS=servers) as stopping,
    ):
        for word in ("Look it up", "upon", "upon"):
            events = streams.enter_context(stopping.stream(create("A story"), token))
            threads.append(next(events)[1]["thread"]["id"])
            next(event for _, event in events if deltas_of([event]) == [word] or event.get("text") == word)
            endings.append(clients.submit(list, events))  # reads until the server has stopped

    error = {"type": "error", "code": "stream.error", "allow_retry": True}
    assert [ending.result()[-1][1] for ending in endings] == [error] * 3
    assert all(call.abandoned.wait(15) for call in [*model.calls[1:], *model.title_calls])
    assert slow_server.printed().count("stopped") == before + 1
    for thread_id, text in zip(threads, ["Let me see. ", "Once upon", "Once upon"], strict=True):
        stored = items_of(person, thread_id)
        assert types_of(stored) == STOPPED
        assert texts_of(stored) == ["A story", text]
    assert asyncio_warnings(stopping) == []


# --- Tasks that remain ----------------------------------------------------------------------------


@pytest.fixture(params=APIS)
def in_process(
    request: pytest.FixtureRequest,
    person: Person,
    model: Model,
    slow_server: ToolServerProcess,
    settings: Any,
) -> Any:
    """A context for an answer in the test's own process. Its settings name the model and the tools."""
    settings.OPENAI_BASE_URL, settings.SUPPORT_MODEL = model.base_url, "model-of-the-tests"
    settings.SUPPORT_MODEL_API = request.param
    settings.SUPPORT_MCP_SERVERS = [slow_server.entry("slow")]
    return SimpleNamespace(user_id=person.user_id, user=person, locale="")


@pytest.mark.parametrize("ending", ["silence", "hang up", "tool"])
def test_after_a_disconnect_or_a_failure_no_asyncio_task_remains(
    in_process: Any, model: Model, ending: str
) -> None:
    tool = {"tools": [(LOOK_UP, {})]} if ending == "tool" else {"ending": ending}
    model.will_answer("Once ", **tool)
    model.title.ending = "silence"
    warnings: list[str] = []

    async def answer() -> set[str]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, warning: warnings.append(warning["message"]))
        before = asyncio.all_tasks()
        result = await SupportServer().process(json.dumps(create("A story")), in_process)
        assert isinstance(result, StreamingResult)
        reached = asyncio.Event()
        reading = asyncio.create_task(read(result, reached))
        await reached.wait()
        model.may_go_on.set()
        if ending == "hang up":
            await reading
        reading.cancel()
        await asyncio.wait([reading])
        await client.get_client().close()
        del result, reading
        for _ in range(3):
            await asyncio.sleep(0.05)
            gc.collect()
        return {repr(task) for task in asyncio.all_tasks() - before}

    async def read(result: StreamingResult, reached: asyncio.Event) -> None:
        async for event in result:
            if (b"Look it up" if ending == "tool" else b"Once") in event:
                reached.set()

    remaining = async_to_sync(answer)()

    assert ending != "silence" or model.calls[0].abandoned.wait(15)
    assert warnings == []
    assert remaining == set()


def test_a_stream_that_is_closed_between_two_events_stops_the_model(in_process: Any, model: Model) -> None:
    model.will_answer("Once ", ending="silence")

    async def answer() -> None:
        result = await SupportServer().process(json.dumps(create("A story")), in_process)
        assert isinstance(result, StreamingResult)
        while b"Once" not in await anext(result.json_events):
            pass
        await result.json_events.aclose()
        assert await asyncio.to_thread(model.calls[0].abandoned.wait, 15)
        await client.get_client().close()

    async_to_sync(answer)()
