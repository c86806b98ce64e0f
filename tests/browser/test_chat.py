"""The use of the chat page, and what it shows when something fails."""

import re
import uuid
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Request, Route, expect

from tests.browser.conftest import Stack
from tests.fixtures.accounts.people import PASSWORD, Person
from tests.fixtures.browser.chat import NOTE, PICTURE, attach, button, expect_answer, field, messages, say
from tests.fixtures.chatkit.talking_server import BREAK_ONCE
from tests.fixtures.servers.api import operation

OpenPage = Callable[..., Page]

# --- Chatting -------------------------------------------------------------------------------------


def test_a_new_user_signs_up_and_gets_an_answer_with_their_name(open_page: OpenPage) -> None:
    page = open_page()

    button(page, "Create an account").click()
    page.get_by_label("Name").fill("Grace Hopper")
    page.get_by_label("E-mail").fill(f"{uuid.uuid4().hex}@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create an account").click()
    say(page, "Hello")

    expect(messages(page)).to_have_text(["YouHello", re.compile("^AssistantHello Grace Hopper!")])


def test_an_answer_grows_on_the_page_and_stop_keeps_what_has_arrived(
    open_page: OpenPage, visitor: Person
) -> None:
    page = open_page(visitor)

    say(page, "for 60 seconds")

    growing = page.locator(".growing")
    expect(growing).to_contain_text("word ")
    expect(growing).to_contain_text("word word word word ")  # it still grows
    button(page, "Stop").click()
    expect(page.get_by_text("Stopped.")).to_be_visible()
    said = messages(page).last.inner_text().split()
    page.reload()
    expect(messages(page)).to_have_text(["Youfor 60 seconds", re.compile("^Assistant(word )+$")])
    kept = messages(page).last.inner_text().split()
    assert kept[: len(said)] == said  # a few words may have arrived after the click


def test_a_screen_reader_reads_an_answer_once_when_it_is_complete(
    open_page: OpenPage, visitor: Person
) -> None:
    page = open_page(visitor)

    say(page, "for 1 second")

    log = page.get_by_role("log")
    expect(page.locator(".growing")).to_contain_text("word")
    expect(page.locator("[aria-live] .growing, [role=log] .growing")).to_have_count(0)
    expect(log).to_have_attribute("aria-busy", "true")
    expect(log).not_to_contain_text("word")
    expect(log).to_contain_text("word " * 5)
    expect(log).to_have_attribute("aria-busy", "false")
    expect(log).to_have_attribute("aria-live", "polite")


def test_attached_files_are_sent_with_a_message_and_shown_after_a_reload(
    open_page: OpenPage, visitor: Person
) -> None:
    page = open_page(visitor)
    attach(page, NOTE, PICTURE)
    expect(button(page, "Send")).to_be_enabled()

    say(page, "Here they are")
    expect(messages(page)).to_have_count(2)
    page.reload()

    sent = messages(page).first
    expect(sent.get_by_role("button", name="Download note.txt")).to_be_visible()
    expect(sent.get_by_role("img", name="front door.png")).to_have_js_property("naturalWidth", 640)
    with page.expect_download() as download:
        sent.get_by_role("button", name="Download note.txt").click()
    assert download.value.path().read_bytes() == NOTE["buffer"]


def test_a_chat_is_shown_after_a_reload_and_can_be_opened_from_the_list(
    open_page: OpenPage, visitor: Person
) -> None:
    page = open_page(visitor)
    say(page, "Remember me")
    expect_answer(page, to="Remember me")

    page.reload()
    expect_answer(page, to="Remember me")
    page.get_by_role("link", name="New chat").click()
    expect(messages(page)).to_have_count(0)
    page.get_by_role("navigation", name="Chats").get_by_role("listitem").click()

    expect_answer(page, to="Remember me")


def test_another_user_cannot_open_a_chat_by_its_url(
    open_page: OpenPage, visitor: Person, stack: Stack
) -> None:
    page = open_page(visitor)
    say(page, "A secret of mine")
    expect_answer(page, to="A secret of mine")

    others = open_page(stack.auth.sign_up(), address=page.url)

    expect(others.get_by_role("alert").filter(has_text="This chat does not exist")).to_be_visible()
    expect(others.get_by_role("heading", name="New chat")).to_be_visible()
    expect(others.get_by_role("navigation").get_by_role("listitem")).to_have_count(0)
    expect(others.locator("body")).not_to_contain_text("secret")


# --- Sessions and tokens --------------------------------------------------------------------------


def test_after_sign_out_the_page_shows_no_chat_until_the_next_sign_in(
    open_page: OpenPage, visitor: Person
) -> None:
    page = open_page(visitor)
    say(page, "Not for the next one here")
    expect_answer(page, to="Not for the next one here")
    chat = page.url

    button(page, "Sign out").click()

    for _ in range(2):
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        expect(page.locator("body")).not_to_contain_text("Not for the next one here")
        page.goto(chat)
        page.reload()
    sign_in(page, visitor.email)
    expect_answer(page, to="Not for the next one here")


def sign_in(page: Page, email: str) -> None:
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def test_the_next_user_of_a_tab_sees_nothing_of_the_user_before(
    open_page: OpenPage, visitor: Person, stack: Stack
) -> None:
    page, bob = open_page(visitor), stack.auth.sign_up("Bob")
    say(page, "Mine alone")
    expect_answer(page, to="Mine alone")
    late: list[Route] = []
    page.route(stack.api.url, lambda route: late.append(route), times=1)
    with page.expect_request(stack.api.url):
        page.goto(page.url.partition("#")[0] + "#/thr_that_takes_long_to_load")

    button(page, "Sign out").click()
    sign_in(page, bob.email)
    expect(field(page)).to_be_visible()
    late[0].fulfill(status=404, json={"message": "No active sessions found for user"})
    say(page, "Who am I?")

    expect(messages(page).last).to_contain_text(f"your user id is {bob.user_id}")
    expect(page.locator("body")).not_to_contain_text("Mine alone")
    expect(page.get_by_role("navigation").get_by_role("listitem")).to_have_count(1)


USES_OF_THE_TAB: dict[str, Callable[[Page], None]] = {
    "send": lambda page: say(page, "From Ada, who thinks she is signed in"),
    "sign out": lambda page: button(page, "Sign out").click(),
    "look": lambda page: page.evaluate("document.dispatchEvent(new Event('visibilitychange'))"),
}


@pytest.mark.parametrize("use_tab", USES_OF_THE_TAB.values(), ids=USES_OF_THE_TAB)
def test_an_open_tab_is_signed_out_when_another_user_signs_in_in_another_tab(
    open_page: OpenPage, visitor: Person, stack: Stack, use_tab: Callable[[Page], None]
) -> None:
    page, bob = open_page(visitor), stack.auth.sign_up("Bob")
    say(page, "Mine alone")
    expect_answer(page, to="Mine alone")
    tab = page.context.new_page()
    tab.goto("/")
    button(tab, "Sign out").click()
    sign_in(tab, bob.email)
    expect(field(tab)).to_be_visible()
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request) if request.url == stack.api.url else None)

    use_tab(page)

    expect(page.get_by_text("Somebody else has signed in with this browser.")).to_be_visible()
    expect(page.locator("body")).not_to_contain_text("Mine alone")
    assert sent == []
    tab.reload()
    expect(tab.get_by_text(bob.email)).to_be_visible()
    expect(tab.locator("#thread-list")).to_have_attribute("aria-busy", "false")
    expect(tab.get_by_role("navigation").get_by_role("listitem")).to_have_count(0)


def test_a_user_who_was_signed_out_elsewhere_signs_in_and_finds_the_unsent_message(
    open_page: OpenPage, visitor: Person
) -> None:
    page = open_page(visitor)
    visitor.sign_out()

    say(page, "Half a thought")

    expect(page.get_by_text("Sign in again to go on.")).to_be_visible()
    sign_in(page, visitor.email)
    expect(field(page)).to_have_value("Half a thought")
    button(page, "Send").click()
    expect_answer(page, to="Half a thought")


def test_another_user_of_the_browser_does_not_see_an_unsent_message(
    open_page: OpenPage, visitor: Person, stack: Stack
) -> None:
    page = open_page(visitor)
    visitor.sign_out()
    say(page, "Half a thought")
    expect(page.get_by_text("Sign in again to go on.")).to_be_visible()

    sign_in(page, stack.auth.sign_up().email)

    expect(field(page)).to_have_value("")


def refused_statuses(page: Page) -> list[int]:
    """A list that gets the status of every response above 400 from now on."""
    statuses: list[int] = []
    page.on("response", lambda response: statuses.append(response.status) if response.status > 400 else None)
    return statuses


def test_an_expired_token_is_replaced_before_the_next_request(open_page: OpenPage, visitor: Person) -> None:
    page = open_page(visitor)
    page.clock.install()
    page.reload()
    say(page, "Before lunch")
    expect_answer(page, to="Before lunch")
    refused = refused_statuses(page)

    page.clock.fast_forward("01:00:00")
    with page.expect_request("**/api/auth/token"):
        say(page, "After lunch")

    expect(messages(page)).to_have_count(4)
    assert refused == []


def test_a_refused_token_is_replaced_and_the_request_is_sent_again(
    open_page: OpenPage, visitor: Person
) -> None:
    page = open_page(visitor)
    refused, forged = refused_statuses(page), visitor.token()[:-8] + "AAAAAAAA"

    page.route("**/api/auth/token", lambda route: route.fulfill(json={"token": forged}), times=1)
    with page.expect_response(lambda response: response.status == 401):
        page.reload()
    say(page, "Hello")

    expect_answer(page, to="Hello")
    assert set(refused) == {401}


# --- Failures -------------------------------------------------------------------------------------


def test_a_message_that_cannot_be_sent_is_kept_and_can_be_sent_later(
    open_page: OpenPage, visitor: Person, stack: Stack
) -> None:
    page = open_page(visitor)
    chat = page.get_by_role("main")
    expect(field(page)).to_be_visible()

    with stack.without_api():
        say(page, "Is anybody there?")
        expect(chat.get_by_text("The chat service cannot be reached.")).to_be_visible()
        expect(field(page)).to_have_value("Is anybody there?")
    chat.get_by_role("button", name="Try again").click()

    expect_answer(page, to="Is anybody there?")


def test_a_chat_that_cannot_be_loaded_can_be_loaded_later(
    open_page: OpenPage, visitor: Person, stack: Stack
) -> None:
    page = open_page(visitor)
    say(page, "Still here?")
    expect_answer(page, to="Still here?")

    page.route(stack.api.url, lambda route: route.fulfill(status=502, body="<h1>Bad Gateway</h1>"))
    page.reload()
    chat, chats = page.get_by_role("main"), page.get_by_role("navigation")
    expect(chat.get_by_text("The chat service does not work at the moment (502).")).to_be_visible()
    expect(chats.get_by_text("The chat service does not work at the moment (502).")).to_be_visible()
    page.unroute_all()
    chats.get_by_role("button", name="Try again").click()
    chat.get_by_role("button", name="Try again").click()

    expect_answer(page, to="Still here?")
    expect(chats.get_by_role("listitem")).to_have_count(1)
    expect(button(page, "Try again")).to_have_count(0)


def test_a_user_can_ask_again_for_an_answer_that_broke_off(open_page: OpenPage, visitor: Person) -> None:
    page = open_page(visitor)

    say(page, BREAK_ONCE)
    expect(page.get_by_role("alert").filter(has_text="went wrong")).to_be_visible()
    expect(messages(page).last).to_have_text(re.compile("^AssistantHello Ada Lovelace! No( model)?"))
    button(page, "Try again").click()

    expect_answer(page, to=BREAK_ONCE)
    page.reload()
    expect_answer(page, to=BREAK_ONCE)


def test_a_user_over_the_rate_limit_is_told_how_long_to_wait(
    open_page: OpenPage, visitor: Person, stack: Stack
) -> None:
    page = open_page(visitor)
    token = visitor.token()
    while stack.api.post(operation("threads.list", limit=1), token).status_code != 429:
        pass

    say(page, "And another thing")

    expect(
        page.get_by_text(re.compile(r"a lot in a short time\. Try again in \d+ seconds?\."))
    ).to_be_visible()
    expect(field(page)).to_have_value("And another thing")
    expect(button(page, "Try again")).to_be_visible()


def test_the_page_names_a_rejected_file_and_sends_the_others(open_page: OpenPage, visitor: Person) -> None:
    page = open_page(visitor)
    alert = page.locator("#composer").get_by_role("alert")

    attach(page, NOTE)
    attach(
        page, {"name": "film.png", "mimeType": "image/png", "buffer": PICTURE["buffer"] + bytes(1_000_000)}
    )
    expect(alert).to_have_text("film.png: The file is larger than 1 MB.")
    attach(page, {"name": "page.html", "mimeType": "text/html", "buffer": b"<h1>Hello</h1>"})
    expect(alert).to_have_text(re.compile("^page.html: Files of this type are not accepted, only PNG, .*PDF"))

    say(page, "Only this one")
    expect(messages(page).first.get_by_role("listitem")).to_have_text(["note.txt"])


def test_an_offline_user_is_told_so_and_can_send_when_online_again(
    open_page: OpenPage, visitor: Person
) -> None:
    page = open_page(visitor)

    page.context.set_offline(True)
    say(page, "Through the tunnel")
    expect(page.get_by_text("You are offline. Try again when you are connected.")).to_be_visible()
    page.context.set_offline(False)
    button(page, "Try again").click()

    expect_answer(page, to="Through the tunnel")
