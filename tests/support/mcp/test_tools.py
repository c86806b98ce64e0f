"""The tools that the endpoint offers, with a team's own ChatKit server and context."""

from typing import Any, Literal

import pytest
from chatkit.types import FileAttachment

from support.mcp import conversations
from support.mcp.ask import NEEDS_CHAT
from support.tools.calls import CUT_OFF
from tests.fixtures.accounts.people import Person
from tests.fixtures.oauth.mcp_requests import Send, message, tool_call
from tests.fixtures.owner import Owner, answer
from tests.fixtures.owner import message as user_message

pytestmark = pytest.mark.django_db(transaction=True)

SERVERS = "tests.fixtures.chatkit.servers"


def result_of(send: Send, name: str, /, **arguments: Any) -> Any:
    result = send(tool_call(name, **arguments)).json()["result"]
    return result.get("structuredContent") or result["content"][0]["text"]


def names(send: Send) -> set[str]:
    return {tool["name"] for tool in send(message("tools/list")).json()["result"]["tools"]}


@pytest.mark.parametrize("chosen", [[], ["list_conversations"]])
def test_a_team_chooses_which_of_our_tools_are_offered(send: Send, settings: Any, chosen: list[str]) -> None:
    settings.SUPPORT_TOOLS = ["tests.fixtures.shop.tools.show_todos"]
    settings.SUPPORT_MCP_TOOLS = chosen

    assert names(send) == {"show_todos", *chosen}
    assert send(tool_call("ask_assistant", message="Hi")).json()["error"]["code"] == -32602


@pytest.mark.parametrize("text", ["show", "locate", "ask"])
def test_an_answer_that_waits_for_the_user_says_so(send: Send, settings: Any, text: str) -> None:
    settings.CHATKIT_SERVER = f"{SERVERS}.ShopServer"

    result = result_of(send, "ask_assistant", message=text)

    assert (result["answer"], result["notes"]) == ("", [NEEDS_CHAT])
    assert result["conversation_id"].startswith("thr_")


def test_a_message_that_is_too_long_is_refused(send: Send, settings: Any) -> None:
    settings.SUPPORT_MESSAGE_LENGTH = 10

    too_long = result_of(send, "ask_assistant", message="x" * 11)

    assert too_long == "params.input is longer than 10 characters"


def unusual_context(request: Any) -> dict[str, Any]:
    """As of a team whose own server and store need no ``user_id`` attribute."""
    return {"user": request.user_id}


def test_a_tool_gets_a_teams_own_context(send: Send, settings: Any, caller: Person) -> None:
    settings.CHATKIT_CONTEXT = f"{__name__}.unusual_context"
    settings.SUPPORT_TOOLS = [f"{__name__}.name_of_the_context"]

    assert result_of(send, "name_of_the_context") == f"dict of {caller.user_id}"


def name_of_the_context(context: Any) -> str:
    """Name the class of the context."""
    return f"{type(context).__name__} of {context['user']}"


def give(context: Any, kind: Literal["surrogate", "deep", "object", "broken"]) -> Any:
    """Return an unusual result."""
    objects = {"object": {"a": "b"}, "surrogate": "a\ud800"}
    return objects.get(kind, '{"a":' * 3000 if kind == "deep" else "{a}")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("object", {"a": "b"}), ("surrogate", "a?"), ("broken", "{a}"), ("deep", '{"a":' * 3000)],
)
def test_any_result_reaches_the_client(send: Send, settings: Any, kind: str, expected: Any) -> None:
    settings.SUPPORT_TOOLS = [f"{__name__}.give"]

    assert result_of(send, "give", kind=kind) == expected


# --- Long conversations ---------------------------------------------------------------------------


def test_a_page_of_long_messages_fits_into_a_result(send: Send, caller: Person) -> None:
    owner = Owner(caller.user_id)
    owner.starts("thr_long")
    for number in range(8):
        owner.add_thread_item("thr_long", answer(f"msg_{number}", '"' * 6000, "thr_long"))

    seen, after, pages = [], "", 0
    while after is not None:
        page = result_of(send, "read_conversation", conversation_id="thr_long", after=after)
        seen += page["messages"]
        after, pages = page["next_page"], pages + 1

    assert [each["id"] for each in seen] == [f"msg_{number}" for number in reversed(range(8))]
    assert {each["text"] for each in seen} == {'"' * conversations.MAX_TEXT_LENGTH + CUT_OFF}
    assert pages > 1


def test_files_are_named_and_hidden_items_are_left_out(send: Send, caller: Person) -> None:
    owner = Owner(caller.user_id)
    owner.starts("thr_files")
    with_file = user_message("msg_f", "Look", "thr_files")
    with_file.attachments = [FileAttachment(id="atc_1", name="bill.pdf", mime_type="application/pdf")]
    owner.add_thread_item("thr_files", with_file)

    (read,) = result_of(send, "read_conversation", conversation_id="thr_files")["messages"]

    assert (read["from"], read["text"], read["attachments"]) == ("user", "Look", ["bill.pdf"])
    assert "url" not in str(read)
