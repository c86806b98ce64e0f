"""The user's approval of calls of tools, on real servers, over both APIs."""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from chatkit.store import NotFoundError
from chatkit.types import ClosedStatus, WidgetItem
from chatkit.widgets import Card
from django.conf import settings
from django.core.management import call_command
from django.db.models import F
from django.utils import timezone

from authn.sessions import Organization
from support.assistant.approvals import decisions, requests, widgets
from support.assistant.approvals.widgets import Call
from support.assistant.provider.simpler_requests import HISTORY_NOT_READ
from support.context import Owner
from support.models import Approval, ApprovalStatus
from support.storage import approvals
from tests.fixtures.accounts.people import Person
from tests.fixtures.conversations import STORE, deltas_of, events_of_type, items_of, texts_of, thread_id_of
from tests.fixtures.model.quirks import SHORT_CONTEXT
from tests.fixtures.model.server import Model
from tests.fixtures.servers.api import Api, add, create, eventually, operation
from tests.fixtures.shop import tools as shop
from tests.fixtures.shop.tools import todos

pytestmark = pytest.mark.django_db(transaction=True)

CLEAR = ("clear_todos", {"reason": "Spring cleaning"})
NOT_RUN = "Tool execution was not approved."  # the Agents SDK says it to the model


@dataclass
class Question:
    """A widget that asks ``person`` for an approval, as the client has it."""

    person: Person
    thread_id: str
    item: dict[str, Any]

    @property
    def buttons(self) -> dict[str, Any]:
        row = self.item["widget"]["children"][-1]
        return {each["label"]: each["onClickAction"] for each in row["children"]}

    def action(self, label: str, **changes: Any) -> dict[str, Any]:
        """The request that the client sends when the user presses this button."""
        pressed = {name: self.buttons[label][name] for name in ("type", "payload")}
        params = {"thread_id": self.thread_id, "item_id": self.item["id"], "action": pressed}
        return operation("threads.custom_action", **params | changes)

    def press(self, label: str, api: Api) -> list[dict[str, Any]]:
        return api.events(self.action(label), self.person.token())

    @property
    def approval(self) -> Approval:
        return Approval.objects.get(item__item_id=self.item["id"])

    @property
    def stored(self) -> str:
        """The text of the widget after a reload."""
        [item] = [each for each in items_of(self.person, self.thread_id) if each.id == self.item["id"]]
        assert isinstance(item, WidgetItem)
        return item.widget.model_dump_json()


def asked(api: Api, person: Person, model: Model, *calls: tuple[str, Any]) -> Question:
    """Let the model call these tools, and return the question that the client gets."""
    model.will_answer("Wait.", tools=list(calls) or [CLEAR]).then("Done.")
    return question_in(api.events(create("Clear it"), person.token()), person)


def question_in(events: list[dict[str, Any]], person: Person, thread_id: str = "") -> Question:
    assert events_of_type(events, "error") == []
    item = events_of_type(events, "thread.item.done")[-1]["item"]
    assert item["type"] == "widget"
    return Question(person, thread_id or thread_id_of(events), item)


@pytest.fixture
def listed(person: Person) -> list[str]:
    """A to-do list with one entry, which CLEAR would delete."""
    shop.add_todo(person, "Milk")  # type: ignore[arg-type]
    return ["Milk"]


@pytest.fixture
def api(assistants: Callable[[str], Api]) -> Api:
    return assistants("responses")


@pytest.fixture
def other_replica(assistants: Callable[[str], Api]) -> Api:
    return assistants("chat_completions")


def audited(api: Api, person: Person) -> list[tuple[str, str, str | None]]:
    """The message, the outcome and ``via`` of the user's audit records about tools."""
    lines = [line for line in api.log.read_text().splitlines() if '"authn.audit.tools"' in line]
    own = map(json.loads, lines)
    return [
        (each["message"], each["outcome"], each.get("via"))
        for each in own
        if each["user_id"] == person.user_id
    ]


def refusal(events: list[dict[str, Any]]) -> tuple[str, bool]:
    [error] = events_of_type(events, "error")
    return error["message"], error["allow_retry"]


# --- Approve and deny -----------------------------------------------------------------------------


def test_an_approved_tool_runs_once_and_the_model_goes_on(
    assistant: Api, person: Person, model: Model, listed: list[str]
) -> None:
    question = asked(assistant, person, model)
    before, state = todos(person.user_id), question.approval.state

    events = question.press("Approve", assistant)
    again = question.press("Approve", assistant)
    assistant.events(add(question.thread_id, "Thank you"), person.token())

    assert before == listed
    assert "Spring cleaning" in json.dumps(question.item)
    assert [event["type"] for event in events[:2]] == ["stream_options", "thread.item.replaced"]
    assert (deltas_of(events), todos(person.user_id)) == (["Done."], [])
    assert model.calls[1].tool_outputs == ["Deleted 1."]
    assert "You approved this." in question.stored
    assert "Approve" not in question.stored
    assert refusal(again) == (decisions.DECIDED, False)
    assert audited(assistant, person) == [
        ("tool_approval: clear_todos", "granted", None),
        ("tool_call: clear_todos", "ok", "approval"),
        ("tool_approval: clear_todos", "replayed", None),
    ]
    # The model of a later answer reads a sentence in place of the widget.
    [told] = [text for _, text in model.calls[-1].conversation if "approve" in text]
    assert told.startswith("The assistant asked the user to approve: Empty the to-do list (clear_todos).")
    assert "\nThe user approved this." in told
    # Nothing that identifies the user or the operator is in the state, and nothing is left of it.
    secrets = [person.name, person.email, person.user_id, person.session_id, person.session_token]
    secrets += ["the-key-of-the-model", settings.SECRET_KEY, "eyJ"]
    assert "Clear it" in state
    assert [each for each in secrets if each in state] == []
    assert question.approval.state == ""
    assert "Spring cleaning" not in assistant.log.read_text()


def test_a_denied_tool_does_not_run_and_the_model_is_told(
    assistant: Api, person: Person, model: Model, listed: list[str]
) -> None:
    question = asked(assistant, person, model)

    events = question.press("Deny", assistant)
    again = question.press("Approve", assistant)

    assert deltas_of(events) == ["Done."]
    assert model.calls[1].tool_outputs == [NOT_RUN]
    assert "You denied this." in question.stored
    assert refusal(again) == (decisions.DECIDED, False)
    assert todos(person.user_id) == listed
    outcomes = [outcome for _, outcome, _ in audited(assistant, person)]
    assert outcomes == ["denied", "replayed"]


@pytest.mark.parametrize(("label", "runs"), [("Approve", 2), ("Deny", 0)])
def test_all_calls_of_an_answer_are_one_question(
    api: Api, person: Person, model: Model, listed: list[str], label: str, runs: int
) -> None:
    calls = [CLEAR, ("show_todos", {}), ("clear_todos", {"reason": "Twice is better"})]

    question = asked(api, person, model, *calls)
    question.press(label, api)

    assert all(reason in json.dumps(question.item) for reason in ("Spring cleaning", "Twice is better"))
    made = [message for message, _, via in audited(api, person) if via == "approval"]
    assert len(made) == runs
    assert len(model.calls[-1].tool_outputs) == 3
    assert [via for message, _, via in audited(api, person) if "show_todos" in message] == ["chat"]


def test_each_new_call_is_a_new_question(api: Api, person: Person, model: Model, listed: list[str]) -> None:
    first = asked(api, person, model)
    model.will_answer(tools=[("clear_todos", {"reason": "More"})]).then("Done.")

    second = question_in(first.press("Approve", api), person, first.thread_id)
    shop.add_todo(person, "Bread")  # type: ignore[arg-type]
    crossed = api.events(first.action("Approve", item_id=second.item["id"]), person.token())

    assert refusal(crossed) == (decisions.UNKNOWN, False)
    assert todos(person.user_id) == ["Bread"]
    assert deltas_of(second.press("Approve", api)) == ["Done."]
    assert todos(person.user_id) == []


def test_the_rest_of_an_answer_has_the_conversation_and_drops_its_beginning_if_the_model_refuses_it(
    assistant: Api, person: Person, model: Model
) -> None:
    story = "once " * SHORT_CONTEXT
    thread_id = thread_id_of(assistant.events(create(story), person.token()))
    model.will_answer("Wait.", tools=[CLEAR]).then(tools=[CLEAR]).then("Done.")
    first = question_in(assistant.events(add(thread_id, "Clear it"), person.token()), person, thread_id)

    second = question_in(first.press("Approve", assistant), person, thread_id)
    whole = model.calls[-1].conversation
    model.quirks = {"short-context"}
    events = second.press("Approve", assistant)

    assert whole[:2] == [("user", story), ("assistant", "Good morning!")]
    assert whole[2:] == model.calls[-1].conversation == [("user", "Clear it"), ("assistant", "Wait.")]
    assert len(model.calls[-1].tool_outputs) == 2
    assert [each["message"] for each in events_of_type(events, "notice")] == [HISTORY_NOT_READ]
    assert deltas_of(events) == ["Done."]


def test_too_many_calls_at_once_are_an_error_and_no_question(api: Api, person: Person, model: Model) -> None:
    model.will_answer(tools=[CLEAR] * (requests.MAX_CALLS + 1))

    events = api.events(create("Clear it"), person.token())

    assert refusal(events) == (requests.TOO_MANY, True)
    assert not Approval.objects.filter(item__thread__user_id=person.user_id).exists()


# --- Good once, for these arguments, for this user, for an hour -----------------------------------


def test_of_several_clicks_at_once_on_two_replicas_one_runs_the_tool(
    api: Api, other_replica: Api, person: Person, model: Model
) -> None:
    question, token = asked(api, person, model), person.token()

    with ThreadPoolExecutor(4) as clicks:
        answers = list(
            clicks.map(
                lambda replica: replica.events(question.action("Approve"), token), [api, other_replica] * 2
            )
        )

    outcomes = [outcome for each in (api, other_replica) for _, outcome, _ in audited(each, person)]
    assert sorted(outcomes) == ["granted", "ok", "replayed", "replayed", "replayed"]
    assert len([each for each in answers if not events_of_type(each, "error")]) == 1
    assert "You approved this." in question.stored


def test_an_approval_is_decided_once_in_time_and_found_by_its_owner(
    api: Api, person: Person, other_person: Person, model: Model
) -> None:
    questions = [asked(api, person, model), asked(api, person, model)]
    first, late = (question.approval for question in questions)
    Approval.objects.filter(pk=late.pk).update(expires_at=timezone.now())

    async def decide() -> list[bool]:
        return [await approvals.decide(each, ApprovalStatus.APPROVED) for each in (first, first, late)]

    assert asyncio.run(decide()) == [True, False, False]
    for owner, thread_id in ((other_person, questions[0].thread_id), (person, questions[1].thread_id)):
        with pytest.raises(NotFoundError):
            async_to_sync(approvals.find)(Owner(owner.user_id), thread_id, questions[0].item["id"])


@pytest.mark.parametrize("forgery", ["payload", "none", "no sender", "another chat", "another user"])
def test_a_forged_decision_gets_one_answer_and_nothing_runs(
    api: Api, person: Person, other_person: Person, model: Model, listed: list[str], forgery: str
) -> None:
    question = asked(api, person, model)
    foreign = asked(api, other_person if forgery == "another user" else person, model)
    approve = question.action("Approve")
    action = approve["params"]["action"]
    match forgery:
        case "payload":
            action["payload"] = action["payload"] | {"arguments": {"reason": "Another"}}
        case "none":
            action["payload"] = {"approval": "msg_0"}
        case "no sender":
            del approve["params"]["item_id"]
        case _:
            action["payload"] = {"approval": foreign.item["id"]}

    events = api.events(approve, person.token())

    assert refusal(events) == ("There is nothing to approve here.", False)
    assert todos(person.user_id) == listed
    assert audited(api, person)[-1] == ("tool_approval: unknown", "refused", None)
    assert {question.approval.status, foreign.approval.status} == {"open"}


def test_another_users_approval_is_not_found_and_ends_with_the_session(
    api: Api, person: Person, other_person: Person, model: Model, listed: list[str]
) -> None:
    question, token = asked(api, person, model), person.token()
    missing = question.action("Approve", thread_id="thr_0")

    foreign = api.post(question.action("Approve"), other_person.token())
    unknown = api.post(missing, other_person.token())
    person.sign_out()
    signed_out = api.post(question.action("Approve"), token)

    assert (foreign.status_code, foreign.json()) == (404, unknown.json())
    assert signed_out.json()["error"] == "No active sessions found for user"
    assert question.approval.status == "open"
    assert todos(person.user_id) == listed


@pytest.mark.parametrize(("minutes", "is_done"), [(59, True), (60, False)])
def test_an_approval_is_good_for_an_hour(
    api: Api, person: Person, model: Model, listed: list[str], minutes: int, is_done: bool
) -> None:
    question = asked(api, person, model)
    Approval.objects.update(expires_at=F("expires_at") - timedelta(minutes=minutes))

    events = question.press("Approve", api)

    if is_done:
        assert (deltas_of(events), todos(person.user_id)) == (["Done."], [])
        return
    assert refusal(events) == (decisions.EXPIRED, False)
    assert todos(person.user_id) == listed
    assert "You did not approve this in time." in question.stored
    assert (question.approval.status, question.approval.state) == ("expired", "")
    assert audited(api, person) == [("tool_approval: clear_todos", "expired", None)]


def test_in_a_closed_conversation_nothing_can_be_approved(
    api: Api, person: Person, model: Model, listed: list[str]
) -> None:
    question = asked(api, person, model)
    thread = async_to_sync(STORE.load_thread)(question.thread_id, person)
    thread.status = ClosedStatus()
    async_to_sync(STORE.save_thread)(thread, person)

    assert refusal(question.press("Approve", api)) == ("This conversation is closed.", False)
    assert todos(person.user_id) == listed


def test_a_new_message_withdraws_the_question_and_the_model_is_told(
    assistant: Api, person: Person, model: Model, listed: list[str]
) -> None:
    question = asked(assistant, person, model)

    events = assistant.events(add(question.thread_id, "What is on it?"), person.token())
    late = question.press("Approve", assistant)

    [replaced] = events_of_type(events, "thread.item.replaced")
    assert "You wrote a new message instead." in json.dumps(replaced)
    assert deltas_of(events) == ["Done."]
    assert "The user wrote a new message instead, and it was not done." in json.dumps(model.calls[1].body)
    assert refusal(late) == (decisions.DECIDED, False)
    assert "You wrote a new message instead." in question.stored
    assert todos(person.user_id) == listed
    assert [outcome for _, outcome, _ in audited(assistant, person)] == ["withdrawn", "replayed"]


def test_a_client_that_leaves_after_the_tool_has_run_cannot_run_it_again(
    api: Api, person: Person, model: Model
) -> None:
    question = asked(api, person, model)
    model.will_answer("Done", ".", ending="silence")
    with api.stream(question.action("Approve"), person.token()) as events:
        next(event for _, event in events if deltas_of([event]) == ["Done"])

    eventually(
        lambda: texts_of(items_of(person, question.thread_id)), lambda texts: texts[-1].startswith("Done")
    )
    again = question.press("Approve", api)

    assert refusal(again) == (decisions.DECIDED, False)
    assert [outcome for _, outcome, _ in audited(api, person)] == ["granted", "ok", "replayed"]


# --- Another process, another version -------------------------------------------------------------


def test_an_approval_survives_a_restart_and_a_tool_that_changed_meanwhile_does_not_run(
    start_assistant: Callable[..., Any], other_replica: Api, person: Person, model: Model, listed: list[str]
) -> None:
    with start_assistant(SUPPORT_TOOLS="tests.fixtures.shop.earlier_tools") as earlier:
        kept = asked(earlier, person, model)
        changed = asked(earlier, person, model, ("add_todo", {"text": "Bread"}))
        removed = asked(earlier, person, model, ("forget_everything", {}))

    for question in (changed, removed):
        assert refusal(question.press("Approve", other_replica)) == (decisions.OUTDATED, False)
        assert "This can no longer be done as it was asked." in question.stored
        assert (question.approval.status, question.approval.state) == ("outdated", "")
    assert todos(person.user_id) == listed
    assert deltas_of(kept.press("Approve", other_replica)) == ["Done."]
    assert todos(person.user_id) == []


def test_a_state_of_another_version_of_the_sdk_is_not_read(
    api: Api, person: Person, model: Model, listed: list[str]
) -> None:
    question = asked(api, person, model)
    Approval.objects.update(version="0.23.0 1.20", state="not readable")

    events = question.press("Approve", api)

    assert refusal(events) == (decisions.OUTDATED, False)
    assert todos(person.user_id) == listed
    assert [outcome for _, outcome, _ in audited(api, person)] == ["outdated"]


def test_an_approval_is_for_the_organization_that_was_active() -> None:
    def digest(organization: Organization | None) -> str:
        context: Any = SimpleNamespace(request_context=SimpleNamespace(organization=organization))
        return asyncio.run(requests.digest([], context))

    organizations = [None, Organization("o1", "owner"), Organization("o2", "owner")]
    assert len({digest(each) for each in organizations}) == 3


# --- Deleted --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["chat", "answer", "user"])
def test_an_approval_is_deleted_with_its_conversation(
    api: Api, person: Person, model: Model, listed: list[str], how: str
) -> None:
    question, token = asked(api, person, model), person.token()
    message = items_of(person, question.thread_id)[0]

    if how == "chat":
        api.post(operation("threads.delete", thread_id=question.thread_id), token)
    elif how == "answer":
        api.events(
            operation("threads.retry_after_item", thread_id=question.thread_id, item_id=message.id), token
        )
    else:
        call_command("erase_user", person.user_id, "--yes", stdout=StringIO())

    assert not Approval.objects.exists()
    assert api.post(question.action("Approve"), token).status_code == 404
    assert todos(person.user_id) == listed


def test_the_states_of_expired_approvals_are_swept(
    api: Api, person: Person, model: Model, listed: list[str]
) -> None:
    expired, current = asked(api, person, model), asked(api, person, model)
    Approval.objects.filter(pk=expired.approval.pk).update(expires_at=timezone.now())

    outputs = [StringIO(), StringIO()]
    call_command("sweep_attachments", "--dry-run", stdout=outputs[0])
    still_there = expired.approval.state
    call_command("sweep_attachments", stdout=outputs[1])

    assert all("states of expired approvals 1." in output.getvalue() for output in outputs)
    assert (bool(still_there), expired.approval.state, bool(current.approval.state)) == (True, "", True)
    assert refusal(expired.press("Approve", api)) == (decisions.EXPIRED, False)
    assert deltas_of(current.press("Approve", api)) == ["Done."]


# --- The widget -----------------------------------------------------------------------------------

HOSTILE = {
    "text": "![x](https://evil.example/?q=1) [Approve](https://evil.example) <b>bold</b>",
    "bidi": "pay \u202e100 to Eve\u2066",
    "empty lines": "Milk\n \n\n\n\n\nand bread",
    "nested": {"![x](y)": ["\u200b"]},
    "![name](https://evil.example)": 1,
    "long": "a" * 10_000,
}


def texts_in(widget: Any) -> list[str]:
    """The texts that the client shows unchanged. There is nothing else but titles, boxes and buttons."""
    texts = []
    for component in widget["children"]:
        assert component["type"] in ("Title", "Text", "Caption", "Row", "Col", "Button"), component
        texts += texts_in(component) if component.get("children") else [component.get("value", "")]
    return texts


def test_a_widget_shows_hostile_arguments_as_plain_and_bounded_text() -> None:
    call = Call("clear_todos", "Empty the to-do list", json.dumps(HOSTILE))

    texts = texts_in(widgets.make("msg_1", [call]).model_dump(mode="json"))

    assert HOSTILE["text"] in texts
    assert "pay \\u202e100 to Eve\\u2066" in texts
    assert "Milk\n\nand bread" in texts
    assert '{"![x](y)": ["\\u200b"]}' in texts
    assert "a" * widgets.MAX_LENGTH + " … (8000 more characters are not shown)" in texts


@pytest.mark.parametrize("status", [None, ApprovalStatus.APPROVED])
def test_a_widget_has_only_components_and_properties_that_chatkit_knows(
    status: ApprovalStatus | None,
) -> None:
    widget = widgets.make("msg_1", [Call("t", "T", json.dumps(HOSTILE))])
    made = (widgets.close(widget, status) if status else widget).model_dump_json(exclude_none=True)

    known = Card.model_validate_json(made).model_dump_json(exclude_none=True)

    assert json.loads(known) == json.loads(made)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [("", []), ("{}", []), ("[1]", ["arguments", "[1]"]), ("{not", ["arguments", "{not"])],
)
def test_a_widget_shows_arguments_that_are_no_object(arguments: str, shown: list[str]) -> None:
    texts = texts_in(widgets.make("msg_1", [Call("t", "T", arguments)]).model_dump(mode="json"))

    assert texts == ["May the assistant do this?", "T", *shown, "", ""]


def test_a_widget_says_how_many_arguments_it_does_not_show() -> None:
    arguments = json.dumps({f"a{number}": number for number in range(widgets.MAX_ARGUMENTS + 2)})

    texts = texts_in(widgets.make("msg_1", [Call("t", "T", arguments)]).model_dump(mode="json"))

    assert "… and 2 more that are not shown" in texts
