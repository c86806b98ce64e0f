"""docs/moving-from-agent-builder.md with a real server: the files and settings are those of the guide."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.accounts.people import Person
from tests.fixtures.conversations import deltas_of, items_of, texts_of, thread_id_of
from tests.fixtures.model.server import Model
from tests.fixtures.servers.api import Api, add, create

pytestmark = pytest.mark.django_db

GUIDE = (Path(__file__).parents[2] / "docs/moving-from-agent-builder.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", GUIDE, re.DOTALL))
TOOLS = re.findall(r"```python\n(# Tool definitions\n.*?)```", GUIDE, re.DOTALL)[0]
SETTINGS = dict(
    re.findall(r"^(\w+)=(\S+)", re.findall(r"```shell\n(.*?)```", GUIDE, re.DOTALL)[0], re.MULTILINE)
)


@pytest.fixture(scope="module")
def chat(start_assistant: Callable[..., Any], running_model: Model, tmp_path_factory: Any) -> Iterator[Api]:
    """A server with the guide's settings, so without SUPPORT_MODEL. Only the key is another one."""
    folder = tmp_path_factory.mktemp("team")
    stub = re.compile(r"# Tool definitions\n.*?\n    pass\n", re.DOTALL)
    workflow, replaced = stub.subn(lambda _: TOOLS, FILES["workflow.py"])
    assert replaced == 1
    (folder / "workflow.py").write_text(workflow)
    (folder / "moved.py").write_text(FILES["moved.py"])
    key = {"OPENAI_API_KEY": "the-key-of-the-model"}
    unset = dict.fromkeys(("SUPPORT_MODEL", "SUPPORT_MODELS", "SUPPORT_INSTRUCTIONS"), "")
    with start_assistant(PYTHONPATH=str(folder), **unset | SETTINGS | key) as running:
        yield running


def test_the_chat_takes_five_lines() -> None:
    written = [line for line in FILES["moved.py"].splitlines() if line]

    assert len(written) + len(SETTINGS) == 5


def test_the_exported_agents_answer_as_the_user_who_asks(chat: Api, person: Person, model: Model) -> None:
    model.will_answer(tools=[("transfer_to_orders", {})])
    model.then(tools=[("order_status", {"order_number": "7"})]).then("It is ", "on its way")

    events = chat.events(create("Where is order 7?"), person.token())

    first, second, third = model.calls
    assert [call.body["model"] for call in model.calls] == ["gpt-4.1-mini", "gpt-4.1", "gpt-4.1"]
    assert (first.body["temperature"], second.body["store"]) == (0, True)
    assert first.instructions == "Hand off to an agent."
    assert third.tool_outputs[-1] == f"Order 7 of the user {person.user_id} is on its way."
    assert deltas_of(events) == ["It is ", "on its way"]
    assert {call.body["model"] for call in model.title_calls} == {"gpt-4.1-mini"}


def test_the_next_message_has_the_history_and_may_go_to_the_other_agent(
    chat: Api, person: Person, model: Model
) -> None:
    model.will_answer("Hello!")
    thread_id = thread_id_of(chat.events(create("Hi"), person.token()))
    model.will_answer(tools=[("transfer_to_returns", {})]).then("Use the box")

    chat.events(add(thread_id, "How do I return it?"), person.token())

    assert model.calls[1].instructions == "Explain how to send things back."
    assert model.calls[1].conversation[:3] == [
        ("user", "Hi"),
        ("assistant", "Hello!"),
        ("user", "How do I return it?"),
    ]
    assert texts_of(items_of(person, thread_id)) == ["Hi", "Hello!", "How do I return it?", "Use the box"]
