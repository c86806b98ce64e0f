"""Answers on the chat page: Markdown, widgets, steps, and what a user does with an answer or a chat."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Request, expect

from chatbackend.dev.processes import StartError
from tests.fixtures.accounts.people import Person
from tests.fixtures.browser.chat import NOTE, button, expect_answer, field, messages, say
from tests.fixtures.browser.stack import Stack
from tests.fixtures.chatkit.shown_answers import HALF_READ, HOSTILE
from tests.fixtures.chatkit.talking_server import CLEAR, LOCATE, MARKDOWN, THOUGHTS, WIDGETS, WORK
from tests.fixtures.chatkit.talking_server import HOSTILE as SAY_HOSTILE
from tests.fixtures.model.server import Model

OpenPage = Callable[..., Page]

# --- Markdown -------------------------------------------------------------------------------------

# Records each text that a growing answer shows outside of code, and each element that is removed from it.
WATCH_GROWTH = """() => {
  window.shown = new Set();
  window.removed = [];
  new MutationObserver((records) => {
    const blocks = document.querySelectorAll(".growing .markdown > :not(:has(pre))");
    for (const block of blocks) window.shown.add(block.innerText);
    for (const { target, removedNodes } of records) {
      if (!target.closest?.(".growing .markdown")) continue;
      for (const node of removedNodes) if (node.outerHTML) window.removed.push(node.outerHTML);
    }
  }).observe(document.getElementById("scroll"), { subtree: true, childList: true, characterData: true });
}"""


def test_markdown_grows_without_flicker_or_half_read_tags_and_becomes_headings_lists_tables_and_code(
    open_page: OpenPage, visitor: Person, stack: Stack
) -> None:
    page = open_page(visitor)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=stack.auth.origin)
    page.evaluate(WATCH_GROWTH)

    say(page, MARKDOWN)

    for _ in range(2):
        answer = messages(page).last
        expect(answer.get_by_role("heading", name="Moving house")).to_be_visible()
        expect(answer.locator("strong").first).to_have_text("keep")
        expect(answer.locator("ol > li")).to_have_count(2)
        expect(answer.locator("ol ul > li")).to_have_text(["mornings", "afternoons"])
        expect(answer.get_by_role("row")).to_have_text(
            [re.compile(r"what\s+how long\s+price"), re.compile(r"line\s+2 days\s+0"), re.compile("router")]
        )
        expect(answer.locator("pre code")).to_contain_text('print(f"<b>{to}</b>")  # **not** bold')
        expect(answer.locator("blockquote")).to_have_text("Call us on the day.")
        expect(answer).to_contain_text("3 < 4, use the <form> tag.")
        expect(answer.get_by_role("link")).to_have_text(["the terms", "the router"])
        for attribute, value in {"target": "_blank", "rel": "noopener noreferrer nofollow"}.items():
            expect(answer.get_by_role("link").first).to_have_attribute(attribute, value)
        expect(answer.locator("img")).to_have_count(0)
        answer.get_by_role("button", name="Copy", exact=True).first.click()
        expect(answer.get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()").startswith("def move(to: str) -> None:\n")
        if shown := page.evaluate("[...(window.shown ?? [])]"):
            assert len(shown) > 10
            assert [text for text in shown if HALF_READ.search(text)] == []
            assert page.evaluate("window.removed") == []
        page.reload()


# Shows the HTML without the parser, which makes text of HTML before the sanitizer sees it.
SANITIZE = """async (html) => {
  const { safeElements } = await import("/conversation/markdown.js");
  const body = document.createElement("div");
  body.className = "markdown";
  body.append(safeElements(html));
  document.body.append(body);
}"""
ATTRIBUTES = "all => all.flatMap((each) => each.getAttributeNames())"
FORBIDDEN = "script, style, iframe, form, input, object, link, meta, base, svg, math, template"


def test_hostile_markdown_runs_nothing_loads_nothing_and_looks_like_no_part_of_the_page(
    open_page: OpenPage, visitor: Person, stack: Stack
) -> None:
    page = open_page(visitor)
    # The browser reports each handler that the sanitizer reads. So the sanitizer has a console of its own.
    sanitizer = page.context.new_page()
    sanitizer.goto("/")
    expect(sanitizer.locator("#thread-list")).to_have_attribute("aria-busy", "false")
    requests: list[Request] = []
    for each in (page, sanitizer):
        each.on("request", lambda request: requests.append(request))
        each.on("dialog", lambda dialog: requests.append(dialog))  # type: ignore[arg-type]

    say(page, SAY_HOSTILE)
    answers = messages(page).and_(page.locator(".assistant_message"))
    expect(answers).to_have_count(len(HOSTILE))
    expect(button(page, "Send")).to_be_enabled()
    for html in HOSTILE:
        sanitizer.evaluate(SANITIZE, html)

    for text in ("<script>window.hacked = 1</script>", "<style>* { display: none !important }</style>"):
        expect(answers.filter(has_text=text).first).to_be_visible()  # nothing of an answer is hidden
    assert {request.url for request in requests} <= {stack.api.url, f"{stack.auth.origin}/api/auth/token"}
    assert page.evaluate("[window.hacked, location.hash.length > 10]") == [None, True]
    for each in (page, sanitizer):
        bodies = each.locator(".markdown")
        assert bodies.count() == len(HOSTILE)
        expect(bodies.locator(FORBIDDEN)).to_have_count(0)
        attributes = bodies.locator("*").evaluate_all(
            "all => all.flatMap((each) => each.getAttributeNames())"
        )
        ours = {"class", "tabindex", "role", "aria-label", "type", "data-language", "data-depth"}
        assert set(attributes) <= {"href", "target", "rel"} | ours
        targets = bodies.locator("a").evaluate_all("links => links.map((link) => link.href)")
        assert targets
        assert all(re.match(r"https?://|mailto:", target) for target in targets)
        assert [target for target in targets if target.startswith(stack.auth.origin)] == []


# --- Widgets, tools and steps ---------------------------------------------------------------------


def posted(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(request.post_data or "{}")
    return body


def test_widgets_can_be_used_and_their_actions_go_to_the_server(open_page: OpenPage, visitor: Person) -> None:
    page = open_page(visitor)
    say(page, WIDGETS)
    expect(messages(page)).to_have_count(4)
    approval, address, orders = (messages(page).nth(index) for index in (1, 2, 3))
    expect(orders.get_by_role("listitem").first).to_have_text("Picture 4711Order 4711on its way")
    expect(orders.get_by_role("listitem")).to_have_count(2)
    orders.get_by_role("button", name="Show more").click()
    expect(orders.get_by_role("listitem")).to_have_count(3)

    button(page, "Move").click()  # the required city is missing, so nothing is sent
    with page.expect_request(lambda request: "custom_action" in (request.post_data or "")) as sent:
        address.get_by_label("City").fill("Zürich")
        address.get_by_label("Monday").or_(address.locator("select")).select_option("Tuesday")
        address.get_by_label("City").press("Enter")
    assert posted(sent.value)["params"]["action"] == {
        "type": "move",
        "payload": {"order": 7, "address": {"city": "Zürich"}, "day": "tue", "keep": True},
    }
    expect(messages(page)).to_have_count(5)
    expect(button(page, "Send")).to_be_enabled()
    button(page, "Allow").focus()
    page.keyboard.press("Enter")

    for _ in range(2):
        expect(approval).to_have_text(re.compile("You said yes."))
        expect(button(page, "Allow")).to_have_count(0)
        expect(messages(page).last).to_contain_text("decide {'answer': 'yes'}")
        page.reload()


def test_a_tool_runs_only_after_the_user_has_approved_it(
    open_page: OpenPage, visitor: Person, model: Model
) -> None:
    reason = "A ![picture](https://evil.example/x.png)\n<b>of</b> spring"
    model.will_answer(tools=[("clear_todos", {"reason": reason})]).then("Your list is empty.")
    page = open_page(visitor)

    say(page, CLEAR)
    question = messages(page).nth(1)
    for _ in range(2):
        expect(question).to_contain_text("May the assistant do this?Empty the to-do listreasonA ![picture](")
        expect(button(page, "Send")).to_be_enabled()
        expect(question.locator("img, a, b")).to_have_count(0)
        assert len(model.calls) == 1
        page.reload()
    button(page, "Approve").click()

    for _ in range(2):
        expect(messages(page).last).to_have_text("AssistantYour list is empty.")
        expect(question).to_contain_text("<b>of</b> springYou approved this.")
        expect(question.get_by_role("button")).to_have_count(0)
        page.reload()
    assert model.calls[1].tool_outputs == ["Deleted 0."]


def test_a_tool_call_for_the_page_is_answered_and_all_steps_are_one_line(
    open_page: OpenPage, visitor: Person
) -> None:
    page = open_page(visitor)

    with page.expect_request(lambda request: "add_client_tool_output" in (request.post_data or "")) as sent:
        say(page, LOCATE)
    expect(messages(page)).to_have_text([f"You{LOCATE}", "AssistantThen I go on without it."])
    expect(button(page, "Send")).to_be_enabled()
    say(page, WORK)

    assert posted(sent.value)["params"]["result"] == {"error": "This page has no tool with the name locate."}
    expect(messages(page).last).to_have_text("AssistantIt comes today.")
    lines = page.locator("summary")
    expect(lines).to_have_text(["Asked the page for locate", "Thought for 2 seconds · 2 steps: Order 4711"])
    expect(page.get_by_text(THOUGHTS)).not_to_be_visible()
    lines.last.press("Enter")
    for step in (THOUGHTS, "Looking up the order", "It is on its way."):
        expect(page.get_by_text(step)).to_be_visible()


# --- What a user does with an answer or a chat ----------------------------------------------------


# The user looks at the tab again, some milliseconds later.
LOOK = """(later) => {
  Date.now = () => new Date().getTime() + later;
  window.dispatchEvent(new Event("focus"));
}"""


def entry(page: Page, title: str) -> Locator:
    return page.get_by_role("navigation").get_by_role("listitem").filter(has_text=title)


COLOR = "button => getComputedStyle(button).color"


def test_answers_are_rated_copied_and_replaced_and_chats_renamed_and_deleted_with_mouse_and_keyboard(
    open_page: OpenPage, visitor: Person, stack: Stack
) -> None:
    page = open_page(visitor)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=stack.auth.origin)
    other = page.context.new_page()
    say(page, "First")
    expect_answer(page, to="First")
    other.goto(page.url)
    expect_answer(other, to="First")

    with page.expect_request(lambda request: "items.feedback" in (request.post_data or "")) as rated:
        button(page, "Good answer").click()
    expect(button(page, "Good answer")).to_have_attribute("aria-pressed", "true")
    assert posted(rated.value)["params"]["kind"] == "positive"
    page.reload()
    expect(button(page, "Good answer")).to_have_attribute("aria-pressed", "true")
    colors = [button(page, name).evaluate(COLOR) for name in ("Good answer", "Bad answer")]
    button(page, "Copy").click()
    expect(button(page, "Copied").locator("use")).to_have_attribute("href", "#icon-done")
    colors.append(button(page, "Copied").evaluate(COLOR))
    assert len(set(colors)) == 3, "a pressed thumb and a finished copy look like other buttons"
    assert page.evaluate("navigator.clipboard.readText()").startswith("Hello Ada Lovelace! No model")
    with page.expect_request(lambda request: "threads.retry_after_item" in (request.post_data or "")):
        button(page, "Another answer").click()
    expect(page.get_by_role("region", name="First")).to_be_focused()
    expect(button(page, "Good answer")).to_have_attribute("aria-pressed", "false")
    expect(messages(page).first.locator(".speaker")).to_have_attribute("title", re.compile(r"\d{4}"))

    entry(page, "First").hover()
    button(page, "Rename or delete First").click()
    button(page, "Rename").click()
    page.keyboard.type("Second")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Second")).to_be_visible()
    say(page, "And in this tab")
    expect(messages(page)).to_have_count(4)
    expect(button(page, "Send")).to_be_enabled()
    other.evaluate(LOOK, 60_000)
    expect(messages(other)).to_have_count(4)
    expect(other.get_by_role("heading", name="Second")).to_be_visible()

    link = page.get_by_role("link", name="Second")
    link.press("F2")
    page.keyboard.type("Not this")
    page.keyboard.press("Escape")
    expect(link).to_be_focused()
    link.press("Delete")
    expect(page.get_by_role("dialog", name="Delete “Second”?")).to_be_visible()
    page.keyboard.press("Escape")
    expect(link).to_be_visible()
    link.press("Delete")
    page.get_by_role("dialog").get_by_role("button", name="Delete").press("Enter")
    expect(page.get_by_role("navigation").get_by_role("listitem")).to_have_count(0)
    expect(page.get_by_role("heading", name="New chat")).to_be_visible()
    other.evaluate(LOOK, 120_000)
    expect(other.get_by_text("This chat has been deleted.")).to_be_visible()


DROP = """(target, text) => {
  const files = new DataTransfer();
  files.items.add(new File([text], "dropped.txt", { type: "text/plain" }));
  for (const type of ["dragenter", "dragover", "drop"]) {
    target.dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: files }));
  }
}"""
PASTE = """(target, text) => {
  const clipboardData = new DataTransfer();
  clipboardData.items.add(new File([text], "pasted.txt", { type: "text/plain" }));
  target.dispatchEvent(new ClipboardEvent("paste", { bubbles: true, cancelable: true, clipboardData }));
}"""


def test_a_new_chat_offers_suggestions_models_dictation_and_takes_dropped_and_pasted_files(
    open_page: OpenPage, visitor: Person, stack: Stack
) -> None:
    page = open_page(visitor)
    page.context.grant_permissions(["microphone"], origin=stack.auth.origin)
    suggestions = page.get_by_role("list", name="Suggestions").get_by_role("button")
    expect(suggestions).to_have_text(["What can you do?", "What is my user id?", "List my conversations"])

    button(page, "Dictate").click()
    button(page, "Stop dictation").click()
    expect(field(page)).to_have_value("audio/webm, True")
    page.locator("#conversation").evaluate(DROP, NOTE["buffer"].decode())
    field(page).evaluate(PASTE, NOTE["buffer"].decode())
    expect(page.get_by_role("list", name="Attached files").get_by_role("listitem")).to_have_count(2)
    expect(button(page, "Send")).to_be_enabled()
    page.get_by_label("Model").select_option("gpt-5")
    with page.expect_request(lambda request: "threads.create" in (request.post_data or "")) as sent:
        button(page, "Send").click()

    given = posted(sent.value)["params"]["input"]
    assert (given["inference_options"], len(given["attachments"])) == ({"model": "gpt-5"}, 2)
    expect(button(page, "Good answer")).to_be_visible()
    page.get_by_role("link", name="New chat").click()
    suggestions.nth(1).click()
    expect(messages(page).last).to_contain_text(f"Your user id is {visitor.user_id}.")
    expect(page.get_by_role("heading", name="What is my user id?")).to_be_visible()
    page.get_by_role("link", name="New chat").click()
    suggestions.nth(2).click()
    expect(messages(page).last.get_by_role("listitem")).to_have_count(3)
    expect(messages(page).last).to_contain_text("(this one)")


def test_suggestions_that_are_no_list_stop_the_pages_server(start_better_auth: Callable[..., Any]) -> None:
    with (
        pytest.raises(StartError, match="PAGE_SUGGESTIONS should be a JSON list of texts"),
        start_better_auth(PAGE_SUGGESTIONS="Where is my parcel?"),
    ):
        pass


def test_a_message_without_an_answer_offers_one_and_a_button_leads_down_to_the_newest(
    open_page: OpenPage, visitor: Person, stack: Stack
) -> None:
    page = open_page(visitor, viewport={"width": 700, "height": 400})
    for text in ("One", "Two", "Three"):
        say(page, text)
        expect(button(page, "Send")).to_be_enabled()
    down = button(page, "To the newest message")
    expect(messages(page)).to_have_count(6)
    expect(down).to_be_hidden()

    page.locator("#scroll").evaluate("scroll => scroll.scrollTo(0, 0)")
    down.click()
    expect(messages(page).last).to_be_in_viewport()
    expect(down).to_be_hidden()
    page.route(stack.api.url, _without_answers)
    page.reload()

    expect(page.get_by_text("This message has no answer yet.")).to_be_visible()
    page.unroute_all()
    button(page, "Get an answer").click()
    expect(messages(page)).to_have_count(6)
    expect(page.get_by_text("This message has no answer yet.")).to_have_count(0)


def _without_answers(route: Any) -> None:
    """As if the server had been killed before it stored the last answer."""
    response = route.fetch()
    if "threads.get_by_id" not in (route.request.post_data or ""):
        route.fulfill(response=response)
        return
    thread = response.json()
    thread["items"]["data"].pop()
    route.fulfill(response=response, json=thread)
