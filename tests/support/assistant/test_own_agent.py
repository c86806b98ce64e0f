"""A team's own agent, on a real server and over both APIs. tests/fixtures/shop/agents.py has the agents."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import pytest
from agents import (
    Agent,
    ApplyPatchTool,
    GuardrailFunctionOutput,
    InputGuardrail,
    InputGuardrailResult,
    InputGuardrailTripwireTriggered,
    LocalShellTool,
    RunContextWrapper,
    ShellTool,
    WebSearchTool,
    function_tool,
    get_current_trace,
    handoff,
)
from asgiref.sync import async_to_sync

from support.assistant import configured_agent, guardrails
from support.assistant.answer import RunEvents
from support.assistant.mcp_servers.connections import Connection
from support.assistant.mcp_servers.servers import ToolServer
from support.assistant.provider import failure_messages
from support.checks import agent as checks
from tests.fixtures.accounts.people import Person
from tests.fixtures.assistant import APIS
from tests.fixtures.conversations import (
    deltas_of,
    disconnect_after,
    events_of_type,
    items_of,
    texts_of,
    thread_id_of,
    title_of,
    types_of,
)
from tests.fixtures.model.server import MAX_WAIT_SECONDS, Model
from tests.fixtures.model.turn import Turn
from tests.fixtures.servers.api import Api, add, create, eventually
from tests.fixtures.shop import agents as shop

pytestmark = pytest.mark.django_db(transaction=True)

SHOP = "tests.fixtures.shop.agents"
# Each API with another kind of function.
FUNCTIONS = dict(zip(APIS, ["choose", "choose_in_a_thread"], strict=True))


@pytest.fixture(scope="module")
def servers(start_assistant: Callable[..., Any]) -> Iterator[Callable[[str], Api]]:
    tools = "tests.fixtures.shop.tools"

    def start(model_api: str) -> Any:
        path = f"{SHOP}.{FUNCTIONS[model_api]}"
        return start_assistant(model_api, SUPPORT_AGENT=path, SUPPORT_TOOLS=tools)

    with ExitStack() as running:
        yield cache(lambda model_api: running.enter_context(start(model_api)))


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest, servers: Callable[[str], Api]) -> Api:
    """The server over each API, for what the API may change."""
    return servers(request.param)


@pytest.fixture
def any_api(servers: Callable[[str], Api]) -> Api:
    return servers("responses")


def ask(api: Api, person: Person, body: Any, which: str = "support") -> list[dict[str, Any]]:
    with api.stream(body, person.token(), Accept_Language=which) as events:
        return [event for _, event in events]


def picking(body: dict[str, Any], **options: Any) -> dict[str, Any]:
    body["params"]["input"]["inference_options"] = options
    return body


# --- The agent ------------------------------------------------------------------------------------


def test_the_agent_answers_with_its_own_model_instructions_and_tools(
    api: Api, person: Person, model: Model
) -> None:
    calls = [("my_orders", {}), ("who_am_i", {}), ("ask_plain", {"input": "Kettles?"})]
    model.will_answer("Wait, ", tools=calls).then("one kettle")

    events = ask(api, person, create("What did I order?"))

    first, second = model.calls
    assert (first.body["model"], first.body["temperature"]) == ("model-of-the-team", 0.5)
    assert first.instructions == f"Help {person.user_id}."
    assert {"my_orders", "look_up", "add_todo", "transfer_to_billing"} <= set(first.tools)
    assert second.tool_outputs[0] == f"The orders of {person.user_id}: a kettle"
    assert person.user_id in second.tool_outputs[1]  # a tool of SUPPORT_TOOLS
    assert second.tool_outputs[2] == "A title"  # what the model says to all requests without a stream
    assert "model-of-the-tests" in [call.body["model"] for call in model.title_calls]
    assert first.headers["authorization"] == "Bearer the-key-of-the-model"
    assert deltas_of(events) == ["Wait, ", "one kettle"]
    thread_id = thread_id_of(events)
    assert texts_of(items_of(person, thread_id)) == ["What did I order?", "Wait, ", "one kettle"]
    assert title_of(person, thread_id) == "A title"


def test_an_agent_without_model_and_instructions_gets_those_of_the_settings(
    api: Api, person: Person, model: Model
) -> None:
    ask(api, person, create("Hello"), "plain")

    (call,) = model.calls
    assert call.body["model"] == "model-of-the-tests"
    assert call.instructions.startswith("Be kind.")
    assert not call.body.keys() & {"reasoning", "reasoning_effort", "verbosity", "text"}


def test_after_a_handoff_the_other_agent_speaks_and_the_next_message_goes_to_the_first(
    api: Api, person: Person, model: Model
) -> None:
    model.will_answer("One moment.", tools=[("transfer_to_billing", {})]).then("Two ", "bills").then("Bye")
    model.quirks = {"strings-only", "stores-nothing"}

    events = ask(api, person, create("My bills?"))
    ask(api, person, add(thread_id_of(events), "Thanks"))

    first, second, third = model.calls
    assert deltas_of(events) == ["One moment.", "Two ", "bills"]
    assert events_of_type(events, "error") == events_of_type(events, "notice") == []
    assert len({event["item"]["id"] for event in events_of_type(events, "thread.item.added")}) == 2
    assert (second.body["model"], second.instructions) == ("model-of-the-tests", "You know bills.")
    assert not second.body.keys() & {"reasoning", "reasoning_effort", "verbosity", "text"}
    assert third.instructions == first.instructions
    assert third.conversation[-1] == ("user", "Thanks")
    assert texts_of(items_of(person, thread_id_of(events)))[1:3] == ["One moment.", "Two bills"]


@pytest.mark.parametrize(
    ("to", "model_after"), [("billing", "another-model"), ("returns", "model-of-the-team")]
)
def test_the_picked_model_replaces_that_of_the_first_agent_and_of_agents_that_name_none(
    any_api: Api, person: Person, model: Model, to: str, model_after: str
) -> None:
    model.will_answer(tools=[(f"transfer_to_{to}", {})]).then("Done")

    ask(any_api, person, picking(create(), model="another-model"))

    assert [call.body["model"] for call in model.calls] == ["another-model", model_after]


def test_a_picked_tool_is_called_first_and_only_for_that_message(
    any_api: Api, person: Person, model: Model
) -> None:
    model.will_answer(tools=[("my_orders", {})]).then("Done")

    events = ask(any_api, person, picking(create(), tool_choice={"id": "my_orders"}))
    ask(any_api, person, add(thread_id_of(events)))

    chosen = [call.body.get("tool_choice") for call in model.calls]
    assert "my_orders" in json.dumps(chosen[0])
    assert chosen[1:] == [None, None]


def test_two_users_at_once_do_not_mix(
    any_api: Api, person: Person, other_person: Person, model: Model
) -> None:
    model.will_answer(tools=[("my_orders", {})], pause=0.05).then(tools=[("my_orders", {})], pause=0.05)
    model.then("Done")
    people = [person, other_person]

    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda each: ask(any_api, each, create()), people))

    for call in model.calls[2:]:
        (output,) = call.tool_outputs
        (asked_by,) = [each.user_id for each in people if each.user_id in output]
        assert call.instructions == f"Help {asked_by}."


def test_the_model_is_stopped_when_the_user_leaves(any_api: Api, person: Person, model: Model) -> None:
    model.will_answer("Good ", "mor", ending="silence")

    thread_id = disconnect_after(any_api, person, create("Hello"), "mor")

    assert model.calls[0].abandoned.wait(10)
    stored = eventually(lambda: items_of(person, thread_id), lambda items: len(items) == 3)
    assert texts_of(stored) == ["Hello", "Good mor"]


# --- Guardrails -----------------------------------------------------------------------------------

LONG = {"tokens": [*"A long answer about the candidates. "] * 10}  # the guardrail cuts it off
STOPPED: list[Any] = [
    pytest.param("How is the weather?", {}, "no_weather", guardrails.INPUT_STOPPED, id="input"),
    pytest.param("The next election?", LONG, "no_politics", "We only talk about orders.", id="parallel"),
    pytest.param(
        "The next election?", {"waits": True}, "no_politics", "We only talk about orders.", id="no-word-yet"
    ),
    pytest.param(
        "The next election?", {"ending": "silence"}, "no_politics", "We only talk about orders.", id="silence"
    ),
    pytest.param("Tell me", {}, "no_secrets", guardrails.OUTPUT_STOPPED, id="output"),
    pytest.param(
        "Look", {"tools": [("look_up", {"article": "gold"})]}, "no_gold", "We do not sell gold.", id="tool"
    ),
    pytest.param(
        "Look",
        {"tools": [("look_up", {"article": "price"})]},
        "no_prices",
        guardrails.TOOL_STOPPED,
        id="tool-output",
    ),
]


@pytest.mark.parametrize(("question", "turn", "guardrail", "message"), STOPPED)
def test_a_guardrail_removes_the_answer_and_the_next_message_works(
    api: Api, person: Person, model: Model, question: str, turn: Any, guardrail: str, message: str
) -> None:
    scripted = Turn(**{"tokens": ["My ", "secret"], "pause": 0.05} | turn)
    model.will_answer().turns = [scripted]
    started = time.monotonic()

    events = ask(api, person, create(question), "guarded")
    took = time.monotonic() - started

    thread_id = thread_id_of(events)
    [error] = events_of_type(events, "error")
    assert (error["message"], error["allow_retry"]) == (message, False)
    added = [event["item"]["id"] for event in events_of_type(events, "thread.item.added")]
    removed = [event["item_id"] for event in events_of_type(events, "thread.item.removed")]
    assert removed == added
    # no_weather runs before the model. no_politics runs beside it, and may be quicker.
    assert guardrail == "no_politics" or bool(added) is (guardrail != "no_weather")
    # Without the guardrail, the answer of the model would take longer.
    assert turn is not LONG or took < 0.5 * len(scripted.tokens) * scripted.pause
    assert not scripted.waits or took < 0.5 * MAX_WAIT_SECONDS
    stored = items_of(person, thread_id)
    assert types_of(stored) == ["user_message", "sdk_hidden_context"]
    log = api.log.read_text()
    assert f"The guardrail {guardrail} stopped an answer" in log
    assert "the secret of the shop" not in log + json.dumps(events)

    model.will_answer("Good ", "morning")
    events = ask(api, person, add(thread_id, "Hello"), "guarded")

    assert deltas_of(events) == ["Good ", "morning"]
    assert model.calls[0].conversation == [("user", "Hello")]
    assert "never retrieved" not in api.log.read_text()  # asyncio would quote the exception


class SilentRun:
    """A run of the Agents SDK whose model sends some events, and then nothing more."""

    def __init__(self, *events: str) -> None:
        self.events = events

    async def stream_events(self) -> AsyncIterator[str]:
        for event in self.events:
            yield event
        await asyncio.Event().wait()


def test_a_guardrail_that_trips_between_two_events_stops_the_answer_at_once() -> None:
    output = GuardrailFunctionOutput(None, tripwire_triggered=True)
    tripped = InputGuardrailTripwireTriggered(InputGuardrailResult(shop.no_politics, output))

    async def scenario() -> None:
        run_events = RunEvents().of(cast(Any, SilentRun("the first event")))
        await anext(run_events)
        run_events.stop(tripped)
        with pytest.raises(guardrails.Stopped):
            await asyncio.wait_for(anext(run_events), 10)

    async_to_sync(scenario)()


def test_two_guardrails_may_trip_while_the_model_is_silent() -> None:
    async def scenario() -> None:
        run_events = RunEvents()
        two = guardrails.watched([shop.no_politics, shop.no_politics], run_events.stop)
        waiting = asyncio.ensure_future(anext(run_events.of(cast(Any, SilentRun()))))
        for each in two:
            await asyncio.sleep(0)  # at the second trip, the wait is already being ended
            result = await each.run(shop.plain, "The last election?", RunContextWrapper(None))
            assert result.output.tripwire_triggered
        with pytest.raises(guardrails.Stopped):
            await asyncio.wait_for(waiting, 10)

    async_to_sync(scenario)()


class OwnGuardrail(InputGuardrail[Any]):
    async def run(self, *_: Any) -> InputGuardrailResult:
        return InputGuardrailResult(self, GuardrailFunctionOutput(None, tripwire_triggered=True))


def test_a_guardrail_of_a_team_s_own_class_is_watched_and_not_changed() -> None:
    own, tripped = OwnGuardrail(shop.no_politics.guardrail_function), list[Exception]()

    [watched] = guardrails.watched([own], tripped.append)
    async_to_sync(watched.run)(shop.plain, "Hello", RunContextWrapper(None))
    async_to_sync(own.run)(shop.plain, "Hello", RunContextWrapper(None))

    assert [type(each) for each in tripped] == [InputGuardrailTripwireTriggered]


def test_a_guardrail_is_told_even_if_the_model_has_failed_before(
    any_api: Api, person: Person, model: Model
) -> None:
    model.will_answer(status=400)

    events = ask(any_api, person, create("The next election?"), "guarded")

    assert events_of_type(events, "error")[0]["message"] == "We only talk about orders."


def test_a_guardrail_that_fails_also_removes_the_answer(any_api: Api, person: Person, model: Model) -> None:
    model.will_answer("A ", "crash", pause=0.05)

    events = ask(any_api, person, create(), "guarded")

    [error] = events_of_type(events, "error")
    assert (error.get("message"), error["allow_retry"]) == (None, True)
    assert len(events_of_type(events, "thread.item.removed")) == 1
    assert types_of(items_of(person, thread_id_of(events))) == ["user_message"]
    assert "RuntimeError: The guardrail has failed" in any_api.log.read_text()


def test_a_guardrail_can_ask_a_model_through_our_client(any_api: Api, person: Person, model: Model) -> None:
    model.title = Turn(["rude"])  # the answer to every request without a stream

    events = ask(any_api, person, create("You!"), "asking")

    assert events_of_type(events, "error")[0]["message"] == guardrails.INPUT_STOPPED
    assert "model-of-the-tests" in {call.body["model"] for call in model.title_calls}
    assert model.tunnels == []  # no trace was sent to OpenAI


def test_a_stopped_message_is_counted(settings: Any) -> None:
    kinds: list[str] = []

    def count(kind: str, **_: Any) -> None:
        kinds.append(kind)

    failure_messages.model_failed.connect(count)
    result = SimpleNamespace(
        guardrail=shop.no_secrets, output=SimpleNamespace(output_info={"user_message": 5})
    )
    error = guardrails.error_for_user(
        guardrails.Stopped(guardrails.OutputGuardrailTripwireTriggered(result))  # type: ignore[arg-type]
    )
    failure_messages.model_failed.disconnect(count)

    assert error is not None
    assert (error.message, kinds) == (guardrails.OUTPUT_STOPPED, ["guardrail"])


# --- A function that gives no agent ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "message", "logged"),
    [
        ("fail", None, "RuntimeError: the secret of the shop"),
        ("nothing", None, "returned a str, not an Agent."),
        ("refuse", "Your plan has no assistant.", "PermissionDenied"),
    ],
)
def test_a_function_that_fails_is_an_error_event_and_is_logged(
    api: Api, person: Person, model: Model, which: str, message: str | None, logged: str
) -> None:
    events = ask(api, person, create(), which)

    [error] = events_of_type(events, "error")
    assert (error.get("message"), error["allow_retry"]) == (message, message is None)
    assert "the secret of the shop" not in json.dumps(events)
    assert logged in api.log.read_text()
    assert texts_of(items_of(person, thread_id_of(events))) == ["Hello"]
    assert model.calls == []


# --- The team's object ----------------------------------------------------------------------------


def connection() -> Connection:
    """A connection to an MCP server that nobody has opened."""
    context: Any = SimpleNamespace(user_id="user-id", organization=None)
    return Connection(ToolServer("todo", "http://localhost/mcp"), context, None)  # type: ignore[arg-type]


def make(settings: Any, path: str = f"{SHOP}.support", servers: Any = (), chosen: str = "") -> Agent[Any]:
    settings.SUPPORT_AGENT, settings.SUPPORT_TOOLS = path, ["tests.fixtures.shop.tools"]
    settings.OPENAI_API_KEY, settings.SUPPORT_MODEL = "key", "model-of-the-tests"
    context: Any = SimpleNamespace(user=SimpleNamespace(name="Ada"), locale="de")
    return async_to_sync(configured_agent.make)(context, [*servers], chosen)


def test_the_teams_agent_is_never_changed(settings: Any) -> None:
    server = connection()
    before = shop.support.clone(tools=[*shop.support.tools])

    copy = make(settings, servers=[server], chosen="another-model")
    copy.model_settings.tool_choice = "my_orders"

    assert copy.mcp_servers == [server]
    assert copy.mcp_config["include_server_in_tool_names"] is True
    assert copy.model == "another-model"
    assert copy.instructions is shop.support.instructions
    assert {"my_orders", "add_todo"} <= {tool.name for tool in copy.tools}
    assert shop.support == before
    assert shop.support.model_settings.tool_choice is None


traces: list[Any] = []


def note_trace(context: Any) -> Agent[Any]:
    traces.append(get_current_trace())
    return shop.returns


def test_an_agent_that_the_function_runs_sends_no_trace(settings: Any) -> None:
    make(settings, path=f"{__name__}.note_trace")

    assert traces.pop().export() is None  # what the Agents SDK would send to OpenAI


# --- System checks --------------------------------------------------------------------------------

clashing = Agent(
    name="Clashing", model="a-model", tools=[function_tool(lambda: "", name_override="add_todo")]
)
searching = Agent(name="Searching", model="a-model", tools=[WebSearchTool()])
leading_to_search = Agent(name="Leading", model="a-model", handoffs=[handoff(searching)])
calling = Agent(name="Calling", model="a-model", tools=[shop.plain.as_tool("ask", "Ask.")])
local = Agent(
    name="Local",
    model="a-model",
    tools=[
        LocalShellTool(executor=lambda request: ""),
        ShellTool(environment={"type": "container_auto"}),  # OpenAI runs this one
        ApplyPatchTool(editor=None),  # type: ignore[arg-type]
    ],
)
structured = Agent(name="Structured", model="a-model", output_type=list[str], instructions="Be short.")
connected = Agent(name="Connected", model="a-model", mcp_servers=[connection()])


def found(settings: Any, path: str, **changes: Any) -> list[str | None]:
    known = {"OPENAI_API_KEY": "key", "SUPPORT_TITLE_MODEL": "small-model"}
    for name, value in (known | changes | {"SUPPORT_AGENT": path}).items():
        setattr(settings, name, value)
    messages = [message for check in checks.CHECKS for message in check()]
    assert all(message.hint for message in messages)
    return [message.id for message in messages]


@pytest.mark.parametrize(
    ("path", "changes", "ids"),
    [
        ("", {}, []),
        (f"{SHOP}.support", {"SUPPORT_MODEL": "a-model"}, []),
        (f"{SHOP}.returns", {}, []),
        (f"{SHOP}.choose", {}, []),
        (f"{SHOP}.choose_in_a_thread", {}, []),
        ("nowhere.agents.support", {}, ["support.E020"]),
        (f"{SHOP}.missing", {}, ["support.E020"]),
        (f"{SHOP}.AGENTS", {}, ["support.E021"]),
        (f"{SHOP}.two", {}, ["support.E021"]),
        (f"{SHOP}.Agent", {}, ["support.E021"]),
        (f"{__name__}.searching", {}, []),
        (f"{__name__}.searching", {"SUPPORT_MODEL_API": "chat_completions"}, ["support.E022"]),
        (f"{__name__}.leading_to_search", {"SUPPORT_MODEL_API": "chat_completions"}, ["support.E022"]),
        (f"{__name__}.clashing", {"SUPPORT_TOOLS": ["tests.fixtures.shop.tools"]}, ["support.E023"]),
        (f"{__name__}.clashing", {}, []),
        (f"{SHOP}.support", {}, ["support.E024"]),  # its handoff has no model
        (f"{__name__}.calling", {}, ["support.E024"]),
        (f"{SHOP}.returns", {"OPENAI_API_KEY": ""}, ["support.E024"]),
        (f"{__name__}.local", {}, ["support.W020", "support.W020"]),
        (f"{__name__}.structured", {}, ["support.W021"]),
        (f"{__name__}.connected", {}, ["support.W022"]),
        (f"{SHOP}.returns", {"SUPPORT_TITLE_MODEL": ""}, ["support.W023"]),
        (f"{__name__}.searching", {"SUPPORT_INSTRUCTIONS": "Be kind."}, []),
        (f"{__name__}.structured", {"SUPPORT_INSTRUCTIONS": "Be kind."}, ["support.W021", "support.W024"]),
    ],
)
def test_the_checks_name_what_is_wrong_with_the_agent(
    settings: Any, path: str, changes: dict[str, Any], ids: list[str]
) -> None:
    assert found(settings, path, **changes) == ids


def test_an_agent_that_cannot_answer_is_refused_when_a_function_returns_it(settings: Any) -> None:
    with pytest.raises(configured_agent.ImproperlyConfigured, match="both have add_todo"):
        make(settings, path=f"{__name__}.clashing")
