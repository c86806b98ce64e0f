"""A model's thoughts are shown as a workflow. They are not in the answer, the title or the history."""

from datetime import datetime
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from chatkit.types import AssistantMessageContent, AssistantMessageItem
from hypothesis import given
from hypothesis import strategies as st

from support.assistant import history
from support.assistant.provider import reasoning_events, thoughts
from support.storage.store import Store
from tests.fixtures.accounts.people import Person
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
from tests.fixtures.model.server import Model
from tests.fixtures.model.turn import Turn
from tests.fixtures.servers.api import Api, add, create, eventually, operation

TEXTS_WITH_THOUGHTS = [
    ("<think>She greets me.</think>Hello!", "She greets me.", "Hello!"),
    ("\n <THINK>\nShe greets me.\n</Think>\n\nHello!", "\nShe greets me.\n", "Hello!"),
    ("<thinking>She greets me.</thinking>Hello!", "She greets me.", "Hello!"),
    ("<thought>She greets me.</thoughts>Hello!", "She greets me.", "Hello!"),
    ("<reasoning>She greets me.</reasoning>Hello!", "She greets me.", "Hello!"),
    ("[THINK]She greets me.[/THINK]Hello!", "She greets me.", "Hello!"),
    ("◁think▷She greets me.◁/think▷Hello!", "She greets me.", "Hello!"),
    ("<think>Once.</think>\n<think>Twice.</think>Hello!", "Once.Twice.", "Hello!"),
    ("<think></think>Hello!", "", "Hello!"),
    ("<think>She greets me. And", "She greets me. And", ""),
    ("<think>What does a < b mean, or </ b?</think>Hello!", "What does a < b mean, or </ b?", "Hello!"),
    # Without an opening tag.
    ("She greets me.</think>Hello!", "She greets me.", "Hello!"),
    ("She greets me.\n</think>\n\nHello!", "She greets me.\n", "Hello!"),
    ("She greets me </think> Hello!", "She greets me ", "Hello!"),
    ("</think>Hello!", "", "Hello!"),
    ("She greets me.</think>", "She greets me.", ""),
]
TEXTS_WITHOUT_THOUGHTS = [
    "Hello!",
    "  Hello, 1 < 2",
    "<thin air>",
    "<think",
    "What does <think> mean? It opens thoughts, and </think> ends them.",
    "Thoughts end with `</think>`, and then the answer begins.",
    "Like this:\n```\nHm.\n</think>\nHello!\n```\nThat is all.",
    "They end with “</think>” in most models.",
    "Most models write </think> when they are done.",
    "Most models write </think>.",
]


def split(pieces: list[str]) -> tuple[str, str]:
    """The thoughts and the answer in a text that comes in these pieces."""
    splitter = thoughts.Splitter()
    thought = answer = ""
    for part in [*(part for piece in pieces for part in splitter.feed(piece)), *splitter.finish()]:
        match part:
            case thoughts.Thought(text):
                thought += text
            case thoughts.Answer(text):
                answer += text
            case thoughts.AnswerWasThought():
                thought, answer = thought + answer, ""
    return thought, answer


@pytest.mark.parametrize(("text", "thought", "answer"), TEXTS_WITH_THOUGHTS)
def test_thoughts_at_the_beginning_of_an_answer_are_split_from_it(
    text: str, thought: str, answer: str
) -> None:
    assert split([text]) == split(list(text)) == thoughts.split(text) == (thought, answer)


@pytest.mark.parametrize("text", TEXTS_WITHOUT_THOUGHTS)
def test_an_answer_that_mentions_tags_is_not_changed(text: str) -> None:
    assert split([text]) == split(list(text)) == thoughts.split(text) == ("", text)


TAGS = ["<think>", "</think>", "<THINKING>", "</thinking>", "[THINK]", "[/think]"]
OTHERS = ["<", "</", "think", ">", "`", "```", "\n", " ", '"', "Hello", " she ", ".", "İ", "K"]
PIECES = st.sampled_from(TAGS + OTHERS)


@given(st.lists(PIECES, max_size=12).map("".join), st.data())
def test_the_length_of_the_pieces_does_not_change_the_result(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    assert split(pieces) == thoughts.split(text)
    assert "".join(pieces) == text


@given(st.lists(PIECES, max_size=12).map("".join))
def test_text_is_held_back_only_if_it_may_become_a_tag(text: str) -> None:
    splitter = thoughts.Splitter()

    parts = [*splitter.feed("Hello. "), *splitter.feed(text), *splitter.feed(" And so on, and on.")]

    assert isinstance(parts[-1], thoughts.Answer | thoughts.Thought)
    assert parts[-1].text.endswith("on.")


@pytest.mark.parametrize("blanks", [thoughts.MAX_BLANKS - 1, thoughts.MAX_BLANKS])
def test_only_a_limited_number_of_blanks_after_a_tag_is_held_back(blanks: int) -> None:
    text = f"The tag is </think>{' ' * blanks}"
    splitter = thoughts.Splitter()

    parts = [piece for character in text for piece in splitter.feed(character)]

    is_decided = blanks == thoughts.MAX_BLANKS
    assert (thoughts.AnswerWasThought() in parts) == is_decided
    assert split([*text, ", no more"]) == split([f"{text}, no more"])
    assert bool(split([f"{text}, no more"])[0]) == is_decided


# --- On a real server -----------------------------------------------------------------------------


def thoughts_in(events: list[dict[str, Any]]) -> list[str]:
    """The thoughts that the client has at the end. Checks that all of them have ended."""
    done = [event["item"] for event in events_of_type(events, "thread.item.done")]
    workflows = [item["workflow"] for item in done if item["type"] == "workflow"]
    assert all(each["type"] == "reasoning" and each["summary"]["duration"] >= 0 for each in workflows)
    return [task["content"] for each in workflows for task in each["tasks"]]


TURNS_WITH_THOUGHTS = [
    {"tokens": ["<th", "ink>She ", "greets me.", "</thi", "nk>\n\n", "Hello ", "there!"]},
    {"tokens": ["Hello ", "there!"], "reasoning": ["She ", "greets me."]},
    {"tokens": ["Hello ", "there!"], "reasoning": ["She ", "greets me."], "reasoning_field": "reasoning"},
]


@pytest.mark.django_db
@pytest.mark.parametrize("turn", TURNS_WITH_THOUGHTS, ids=["in tags", "reasoning_content", "reasoning"])
def test_thoughts_are_shown_as_a_workflow_and_not_in_the_answer(
    assistant: Api, person: Person, model: Model, turn: dict[str, Any]
) -> None:
    model.turns = [Turn(**turn)]

    events = assistant.events(create("Hi"), person.token())

    assert deltas_of(events) == ["Hello ", "there!"]
    assert thoughts_in(events) == ["She greets me."]
    [updates, answers] = [
        [number for number, event in enumerate(events) if kind in str(event.get("update"))]
        for kind in ("workflow.task", "text_delta")
    ]
    assert max(updates) < min(answers)
    stored = items_of(person, thread_id_of(events))
    assert types_of(stored) == ["user_message", "workflow", "assistant_message"]
    assert texts_of(stored) == ["Hi", "Hello there!"]

    assistant.events(add(thread_id_of(events), "And now?"), person.token())
    assert "greets" not in str(model.calls[1].body)


@pytest.mark.django_db
def test_text_that_was_a_thought_is_removed_from_the_answer(
    assistant: Api, person: Person, model: Model
) -> None:
    model.will_answer("She ", "greets me.", "</think>", "Hello ", "there!")

    events = assistant.events(create("Hi"), person.token())

    [removed, answer] = (
        events_of_type(events, "thread.item.added")[0],
        events_of_type(events, "thread.item.added")[-1],
    )
    assert events_of_type(events, "thread.item.removed") == [
        {"type": "thread.item.removed", "item_id": removed["item"]["id"]}
    ]
    assert answer["item"]["id"] != removed["item"]["id"]
    assert thoughts_in(events) == ["She greets me."]
    stored = items_of(person, thread_id_of(events))
    assert types_of(stored) == ["user_message", "workflow", "assistant_message"]
    assert texts_of(stored) == ["Hi", "Hello there!"]
    assert stored[-1].id == answer["item"]["id"]


@pytest.mark.django_db
def test_thoughts_without_an_answer_end_and_a_retry_replaces_them(
    assistant: Api, person: Person, model: Model
) -> None:
    model.will_answer("<think>", "Hmm")
    events = assistant.events(create("A story"), person.token())
    thread_id, message_id = thread_id_of(events), events[1]["item"]["id"]
    model.will_answer("Once ", "upon")

    retry = operation("threads.retry_after_item", thread_id=thread_id, item_id=message_id)
    assistant.events(retry, person.token())

    assert thoughts_in(events) == ["Hmm"]
    stored = items_of(person, thread_id)
    assert types_of(stored) == ["user_message", "assistant_message"]
    assert texts_of(stored) == ["A story", "Once upon"]


@pytest.mark.django_db
def test_thoughts_before_a_tool_call_are_not_sent_to_the_model_again(
    assistant: Api, person: Person, model: Model
) -> None:
    model.will_answer("<think>I need it.</think>Let me see. ", tools=[("no_such_tool", {})])
    model.then("<think>Found.</think>Here ", "it is.")

    events = assistant.events(create("Look it up"), person.token())

    assert texts_of(items_of(person, thread_id_of(events))) == ["Look it up", "Let me see. ", "Here it is."]
    assert model.calls[1].conversation == [("user", "Look it up"), ("assistant", "Let me see. ")]
    assert "I need it" not in str(model.calls[1].body)
    assert thoughts_in(events) == ["I need it.", "Found."]


@pytest.mark.django_db(transaction=True)
def test_thoughts_in_answers_of_earlier_versions_are_not_sent_again(
    assistant: Api, person: Person, model: Model
) -> None:
    thread_id = thread_id_of(assistant.events(create("Hi"), person.token()))
    for number, text in enumerate(["<think>She greets me.</think>Hello!", "<think>Only thoughts"]):
        item = AssistantMessageItem(
            id=f"msg_{number}",
            thread_id=thread_id,
            created_at=datetime.now(),
            content=[AssistantMessageContent(text=text)],
        )
        async_to_sync(Store[Person]().add_thread_item)(thread_id, item, person)
    model.will_answer("Yes")

    assistant.events(add(thread_id, "And now?"), person.token())

    texts = [text for _, text in model.calls[0].conversation]
    assert texts == ["Hi", "Good morning!\n\nHello!", "And now?"]  # neighbours of one role are merged


@pytest.mark.django_db
def test_long_thoughts_do_not_count_for_the_length_of_the_history(
    assistant: Api, person: Person, model: Model
) -> None:
    model.will_answer("Good morning", reasoning=["word " * (history.MAX_LENGTH // 5)])
    thread_id = thread_id_of(assistant.events(create("Hi"), person.token()))
    model.will_answer("Yes")

    assistant.events(add(thread_id, "And now?"), person.token())

    texts = [text for _, text in model.calls[0].conversation]
    assert texts == ["Hi", "Good morning", "And now?"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "turn",
    [
        Turn(["<think>\nShe has lost it.\n</think>\n\nLost parcel"]),
        Turn(["<THINKING></THINKING>Lost parcel"]),
        Turn(["She has lost it.\n</think>\n\nLost parcel"]),
        Turn(["Lost parcel"], reasoning=["She has lost it."]),
    ],
    ids=["in tags", "empty", "without an opening tag", "reasoning_content"],
)
def test_a_title_has_no_thoughts(assistant: Api, person: Person, model: Model, turn: Turn) -> None:
    model.title = turn

    events = assistant.events(create("Where is my parcel?"), person.token())

    assert title_of(person, thread_id_of(events)) == "Lost parcel"


@pytest.mark.django_db
def test_if_the_client_leaves_after_the_thoughts_the_partial_answer_is_stored(
    assistant: Api, person: Person, model: Model
) -> None:
    model.will_answer("<think>She greets me.</think>", "Hello", ending="silence")

    thread_id = disconnect_after(assistant, person, create("Hi"), "Hello")

    assert model.calls[0].abandoned.wait(15)
    texts = eventually(lambda: texts_of(items_of(person, thread_id)), lambda texts: len(texts) > 1)
    assert texts == ["Hi", "Hello"]


def test_a_long_thought_is_sent_in_a_limited_number_of_updates() -> None:
    reasoning, length, sent = reasoning_events.ReasoningRewriter(), 0, 0

    for _ in range(5000):
        length += len("word ")
        # ChatKit sends the whole thought with each update.
        sent += length * len(list(reasoning.add_from_text("word ")))

    assert sent < 30 * length
