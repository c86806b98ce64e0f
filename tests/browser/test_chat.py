"""The use of the chat page, and what it shows when something fails."""

import re
import uuid
from collections.abc import Callable

from playwright.sync_api import Locator, Page, Route, expect

from tests.fixtures.accounts.people import PASSWORD, Person
from tests.fixtures.browser.chat import NOTE, PICTURE, attach, button, expect_answer, field, messages, say
from tests.fixtures.browser.stack import Stack
from tests.fixtures.chatkit.talking_server import AFTER_THOUGHTS, BREAK_ONCE, THINK, THINK_ON, THOUGHTS
from tests.fixtures.servers.api import create, operation

OpenPage = Callable[..., Page]

# --- Chatting -------------------------------------------------------------------------------------


def test_a_new_user_signs_up_and_gets_an_answer_with_their_name(open_page: OpenPage) -> None:
    page = open_page()

    button(page, "Create an account").click()
    expect(page.get_by_label("Name")).to_be_focused()
    page.keyboard.type("Grace Hopper")
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
    expect(page.get_by_role("heading", name="for 60 seconds")).to_be_visible()  # a title from the first words
    expect(growing).to_contain_text("word word word word ")  # it still grows
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.get_by_text("Another tab receives the answer…")).to_be_visible()
    button(page, "Stop").click()
    expect(page.get_by_text("Stopped.")).to_be_visible()
    expect(messages(other)).to_have_count(2)  # the other tab waits for the answer, and then shows it
    expect(other.get_by_role("heading", name="for 60 seconds")).to_be_visible()
    said = messages(page).last.inner_text().split()
    page.reload()
    expect(messages(page)).to_have_text(["Youfor 60 seconds", re.compile("^Assistant(word ?)+$")])
    kept = messages(page).last.inner_text().split()
    assert kept[: len(said)] == said  # a few words may have arrived after the click
    expect(page.get_by_text("Stopped.")).to_be_visible()
    expect(button(page, "Try again")).to_be_visible()


def test_a_message_to_a_chat_beyond_the_end_of_the_list_does_not_rename_it(
    open_page: OpenPage, visitor: Person, stack: Stack
) -> None:
    [created, *_] = stack.api.events(create(), visitor.token())
    thread_id = created["thread"]["id"]
    renaming = operation("threads.update", thread_id=thread_id, title="Invoice for October")
    stack.api.post(renaming, visitor.token())
    page = open_page(visitor)
    page.route(stack.api.url, _without_chats)
    page.goto(f"/#/{thread_id}")
    page.reload()

    say(page, "And for November?")
    expect(messages(page)).to_have_count(4)
    expect(button(page, "Send")).to_be_enabled()
    page.unroute_all()
    page.reload()

    expect(page.get_by_role("heading", name="Invoice for October")).to_be_visible()


def _without_chats(route: Route) -> None:
    if "threads.list" in (route.request.post_data or ""):
        route.fulfill(json={"data": [], "has_more": False})
    else:
        route.continue_()


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
    widths = sent.locator(".text, img").evaluate_all("all => all.map((each) => each.offsetWidth)")
    assert widths[0] < widths[1]  # the bubble is as wide as its text, and not as the picture
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


# --- Thoughts of the model ------------------------------------------------------------------------


def thoughts(page: Page) -> Locator:
    return page.get_by_text(THOUGHTS)


def test_thoughts_can_be_read_beside_the_answer_and_after_a_reload(
    open_page: OpenPage, visitor: Person
) -> None:
    page = open_page(visitor)

    say(page, THINK)

    for _ in range(2):
        expect(messages(page)).to_have_text([f"You{THINK}", f"Assistant{AFTER_THOUGHTS}"])
        expect(thoughts(page)).to_have_count(1)
        expect(thoughts(page)).not_to_be_visible()
        page.get_by_text("Thought for 3 seconds").click()
        expect(thoughts(page)).to_be_visible()
        page.reload()


def test_text_that_turns_out_to_be_thoughts_is_removed_and_the_page_still_waits_for_an_answer(
    open_page: OpenPage, visitor: Person
) -> None:
    page = open_page(visitor)

    say(page, THINK_ON)

    page.get_by_text("Thoughts", exact=True).click()
    expect(thoughts(page)).to_be_visible()
    expect(page.get_by_text("Assistant", exact=True)).to_have_count(0)
    expect(page.get_by_role("status").filter(has_text="Thinking…")).to_be_visible()


def test_after_stop_unfinished_thoughts_disappear(open_page: OpenPage, visitor: Person) -> None:
    page = open_page(visitor)
    say(page, THINK_ON)
    expect(page.get_by_text("Thoughts", exact=True)).to_be_visible()

    button(page, "Stop").click()

    expect(page.get_by_text("Stopped.")).to_be_visible()
    expect(page.get_by_text("Thoughts", exact=True)).to_have_count(0)
    expect(messages(page)).to_have_text([f"You{THINK_ON}"])


# --- Failures -------------------------------------------------------------------------------------


def test_while_the_server_is_down_nothing_that_was_said_or_written_is_lost(
    open_page: OpenPage, visitor: Person, stack: Stack
) -> None:
    page, other = open_page(visitor), open_page(visitor)
    chat, partial = page.get_by_role("main"), re.compile("^Assistant(word ?)+$")
    say(page, "for 60 seconds")
    expect(page.locator(".growing")).to_contain_text("word ")

    with stack.without_api():
        again = button(page, "Try again")
        again.click()
        expect(chat.get_by_text("The chat service cannot be reached.")).to_be_visible()
        expect(messages(page)).to_have_text(["Youfor 60 seconds", partial])
        expect(page.get_by_text("The answer broke off here.")).to_be_visible()
        other.route("**/api/auth/**", lambda route: route.abort())  # the sign-in service is down too
        say(other, "Is anybody there?")
        expect(other.get_by_text("The sign-in service cannot be reached.")).to_be_visible()
        expect(other.get_by_text("It may be restarting.")).to_be_visible()
        expect(field(other)).to_have_value("Is anybody there?")
        other.unroute_all()
    expect(page.get_by_text("The connection is back.")).to_be_visible()
    page.reload()
    expect(messages(page)).to_have_text(["Youfor 60 seconds", partial])
    expect(page.get_by_text("The answer broke off here.")).to_be_visible()
    again.click()
    expect(page.locator(".growing")).to_contain_text("word ")
    expect(page.locator(".log .assistant_message")).to_have_count(0)  # the new answer has replaced it
    other.get_by_role("main").get_by_role("button", name="Try again").click()

    expect_answer(other, to="Is anybody there?")


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
    for part in (chats, chat):
        part.get_by_role("button", name="Try again").click()
        expect(part.get_by_role("button", name="Try again")).to_be_visible()
    page.unroute_all()

    expect_answer(page, to="Still here?")  # the page looks by itself whether the server is back
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
    expect(page.get_by_role("button", name=re.compile(r"^Try again in \d+ s$"))).to_be_disabled()


def test_the_page_names_each_rejected_file_and_sends_the_others(open_page: OpenPage, visitor: Person) -> None:
    page = open_page(visitor)
    alert = page.locator("#composer").get_by_role("alert")

    film = {"name": "film.png", "mimeType": "image/png", "buffer": PICTURE["buffer"] + bytes(1_000_000)}
    web_page = {"name": "page.html", "mimeType": "text/html", "buffer": b"<h1>Hello</h1>"}
    attach(page, NOTE, film, web_page)
    expect(alert).to_contain_text("film.png: The file is larger than 1 MB.")
    accepted = re.compile("page.html: Files of this type are not accepted, only PNG, .*PDF")
    expect(alert).to_contain_text(accepted)

    say(page, "Only this one")
    expect(messages(page).first.get_by_role("listitem")).to_have_text(["note.txt"])
    expect(alert).to_be_empty()  # the sentence was about a file that this message does not have


def test_an_offline_user_is_told_so_and_can_send_when_online_again(
    open_page: OpenPage, visitor: Person
) -> None:
    page = open_page(visitor)

    page.context.set_offline(True)
    expect(page.get_by_text("You are offline.")).to_be_visible()
    say(page, "Through the tunnel")
    expect(page.get_by_text("Your message was not sent. There was no connection.")).to_be_visible()
    page.context.set_offline(False)
    expect(page.get_by_text("The connection is back.")).to_be_visible()
    button(page, "Try again").click()

    expect_answer(page, to="Through the tunnel")
