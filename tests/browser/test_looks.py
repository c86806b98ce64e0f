"""The layout and the accessibility of the page and the admin."""

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Page, expect

from tests.fixtures.accounts.people import Person
from tests.fixtures.browser import axe
from tests.fixtures.browser.chat import NOTE, PICTURE, attach, button, field, messages, say
from tests.fixtures.browser.screenshots import save_screenshot
from tests.fixtures.browser.stack import DESKTOP, Stack
from tests.fixtures.chatkit.talking_server import ANSWERS, BREAK_ONCE, THINK
from tests.fixtures.servers.api import create, operation

OpenPage = Callable[..., Page]

# --- The admin ------------------------------------------------------------------------------------

WIDE = {"width": 1440, "height": 760}
PEOPLE = {
    "Ada Lovelace": "(Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/18.3 Safari/605.1.15",
    "Grace Hopper": "(X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Alan Turing": "(Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/142.0.0.0 Safari/537.36",
}
ADD_USER = """
    INSERT INTO "user" ("id", "name", "email", "emailVerified", "createdAt", "updatedAt")
    VALUES (%(id)s, %(name)s, %(id)s || '@example.com', true, now(), now())
"""
ADD_SESSIONS = """
    INSERT INTO "session"
        ("id", "userId", "token", "ipAddress", "userAgent", "createdAt", "updatedAt", "expiresAt")
    SELECT md5(%(id)s || days), %(id)s, gen_random_uuid(), '203.0.113.' || days, 'Mozilla/5.0 ' || %(agent)s,
        now() - days * interval '31 hours', now(), now() + (7 - days) * interval '1 day'
    FROM generate_series(1, 9, 4) AS days
"""


@pytest.fixture(scope="module")
def people_with_sessions(stack: Stack, database_url: str) -> Iterator[None]:
    """Three users with three sessions each. One session of each user has expired."""
    with psycopg.connect(database_url, autocommit=True) as database:
        for name, agent in PEOPLE.items():
            row = {"id": name.split()[0].lower(), "name": name, "agent": agent}
            database.execute(ADD_USER, row)
            database.execute(ADD_SESSIONS, row)
        yield
        # This deletes their sessions as well.
        database.execute('DELETE FROM "user" WHERE "name" = ANY(%s)', [list(PEOPLE)])


@pytest.fixture
def open_admin(new_page: OpenPage, stack: Stack, staff_cookie: str) -> OpenPage:
    def open_admin(path: str) -> Page:
        page = new_page(base_url=stack.api.origin, viewport=WIDE, device_scale_factor=1.5)
        cookie: Any = {"name": "sessionid", "value": staff_cookie, "url": stack.api.origin}
        page.context.add_cookies([cookie])
        page.goto(f"/admin/{path}")
        return page

    return open_admin


# admin-chat comes last: it signs up a user, who would otherwise appear on the other screenshots.
@pytest.mark.usefixtures("people_with_sessions")
@pytest.mark.parametrize("name", ["admin-sessions", "admin-user", "admin-chat"])
def test_axe_finds_no_serious_fault_in_the_admin(
    open_admin: OpenPage, open_page: OpenPage, stack: Stack, name: str
) -> None:
    match name:
        case "admin-sessions":
            page = open_admin("authn/session/")
        case "admin-user":
            page = open_admin("authn/user/ada/change/")
        case _:
            chat_with_attachments(open_page(stack.auth.sign_up()), stack)
            page = open_admin("support/thread/")
            page.locator("#result_list tbody th a").first.click()
            page.wait_for_url("**/change/**")
    expect(page.get_by_role("main").get_by_role("heading").first).to_be_visible()

    save_screenshot(page, name)

    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.reload()  # otherwise a transition still runs between the colours of both schemes
        assert axe.faults(page, impacts={"serious", "critical"}) == [], scheme


# --- The page in each of its states ---------------------------------------------------------------

PHONE = {"width": 390, "height": 844}
SIZES = {"desktop": DESKTOP, "phone": PHONE}

# Elements for a finger that are lower than 44 pixels. The input for files is hidden behind its label.
SMALL_TARGETS = """() => [...document.querySelectorAll("button, a, input, textarea")]
  .map((element) => (element.id === "attach" ? element.nextElementSibling : element))
  .filter((element) => element.checkVisibility() && element.getBoundingClientRect().height < 44)
  .map((element) => element.outerHTML)"""
TOO_WIDE = "() => document.documentElement.scrollWidth > innerWidth"
FOCUSED = """() => {
  const { activeElement: element } = document;
  const name = element.getAttribute("aria-label") ?? element.labels?.[0]?.innerText ?? element.innerText;
  const others = { attach: element.nextElementSibling, message: element.parentElement };
  const ringed = others[element.id] ?? element;
  const { outlineStyle, outlineWidth } = getComputedStyle(ringed);
  const hasRing = outlineStyle === "solid" && parseFloat(outlineWidth) >= 2;
  return [element.id === "scroll" ? "Messages" : name, hasRing];
}"""


def show_sign_in(page: Page, stack: Stack) -> None:
    page.get_by_role("heading", name="Sign in").wait_for()


def fail_to_sign_up(page: Page, stack: Stack) -> None:
    button(page, "Create an account").click()
    page.get_by_label("Name").fill("Ada")
    page.get_by_label("E-mail").fill(stack.auth.sign_up().email)
    page.get_by_label("Password").fill("long enough")
    page.locator("#sign-in-submit").click()
    expect(page.get_by_role("alert").filter(has_text="already exists")).to_be_visible()


def show_new_chat(page: Page, stack: Stack) -> None:
    page.get_by_role("heading", name="New chat").wait_for()


def chat_with_attachments(page: Page, stack: Stack) -> None:
    first, second = ANSWERS
    say(page, first)
    expect(messages(page)).to_have_count(2)
    attach(page, NOTE, PICTURE)
    say(page, second)
    expect(messages(page)).to_have_count(4)
    expect(page.get_by_role("img", name="front door.png")).to_have_js_property("naturalWidth", 640)
    expect(button(page, "Send")).to_be_enabled()


def break_an_answer(page: Page, stack: Stack) -> None:
    say(page, BREAK_ONCE)
    attach(page, NOTE, {"name": "page.html", "mimeType": "text/html", "buffer": b"<h1>Hello</h1>"})
    expect(button(page, "Try again")).to_be_visible()
    expect(page.get_by_role("alert").filter(has_text="page.html")).to_be_visible()
    expect(page.get_by_role("button", name="Remove note.txt")).to_be_visible()


def send_long_words(page: Page, stack: Stack) -> None:
    say(page, "for (let i=0;i<1;i++){" + "donaudampfschifffahrtsgesellschaft" * 9)
    attach(page, NOTE | {"name": "word" * 25 + ".txt"})
    expect(page.get_by_role("button", name="Remove word")).to_be_visible()
    expect(messages(page)).to_have_count(1)


def show_thoughts(page: Page, stack: Stack) -> None:
    say(page, THINK)
    page.get_by_text("Thought for 3 seconds").click()
    expect(button(page, "Send")).to_be_enabled()


STATES = {  # name -> the function that leads to this state, and whether a user is signed in
    "sign-in": (show_sign_in, False),
    "sign-up": (fail_to_sign_up, False),
    "new-chat": (show_new_chat, True),
    "chat": (chat_with_attachments, True),
    "thinking": (show_thoughts, True),
    "failed-chat": (break_an_answer, True),
    "long-words": (send_long_words, True),
}


@pytest.mark.parametrize("state", STATES)
def test_the_page_is_accessible_in_every_state_size_and_colour_scheme(
    open_page: OpenPage, stack: Stack, state: str
) -> None:
    lead_to_state, signed_in = STATES[state]
    person = _user_with_two_chats(stack, f"ada.{secrets.token_hex(2)}@example.com") if signed_in else None
    page = open_page(person, device_scale_factor=2)

    lead_to_state(page, stack)

    for size, viewport in SIZES.items():
        page.set_viewport_size(viewport)  # type: ignore[arg-type]
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            save_screenshot(page, f"{state}-{size}-{scheme}")
            rules = None if scheme == "light" else ["color-contrast"]  # the schemes differ only in colours
            assert axe.faults(page, rules=rules) == [], (size, scheme)
        assert not page.evaluate(TOO_WIDE)
        if signed_in:
            expect(field(page)).to_be_in_viewport(ratio=1)
            expect(button(page, "Send").or_(button(page, "Stop"))).to_be_in_viewport(ratio=1)
    assert page.evaluate(SMALL_TARGETS) == []


def _user_with_two_chats(stack: Stack, email: str = "") -> Person:
    person = stack.auth.sign_up(email=email)
    for title in ("Change of address", "Invoice for October"):
        [created, *_] = stack.api.events(create(), person.token())
        thread_id = created["thread"]["id"]
        stack.api.post(operation("threads.update", thread_id=thread_id, title=title), person.token())
    return person


def test_on_a_phone_the_list_of_chats_replaces_the_chat(open_page: OpenPage, stack: Stack) -> None:
    page = open_page(_user_with_two_chats(stack), viewport=PHONE)
    toggle, chats = button(page, "Chats"), page.get_by_role("navigation", name="Chats")
    expect(chats).to_be_hidden()

    toggle.click()
    expect(chats.get_by_role("listitem")).to_have_text(["Invoice for October", "Change of address"])
    expect(field(page)).to_be_hidden()
    assert (axe.faults(page), page.evaluate(SMALL_TARGETS)) == ([], [])
    page.keyboard.press("Escape")
    expect(toggle).to_be_focused()
    expect(chats).to_be_hidden()
    toggle.click()
    chats.get_by_role("link", name="Change of address").click()

    expect(page.get_by_role("heading", name="Change of address")).to_be_visible()
    expect(messages(page)).to_have_count(2)
    expect(chats).to_be_hidden()


def test_the_page_can_be_used_with_the_keyboard_alone(open_page: OpenPage, stack: Stack) -> None:
    page = open_page(_user_with_two_chats(stack))
    expect(field(page)).to_be_focused()

    page.keyboard.type("for 60 seconds")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("please")
    page.keyboard.press("Enter")
    expect(page.locator(".growing")).to_contain_text("word")
    expect(field(page)).to_have_accessible_description("Esc stops the answer.")
    page.keyboard.press("Escape")
    expect(messages(page)).to_have_count(2)
    expect(messages(page).first).to_have_text("Youfor 60 seconds\nplease")
    focused = [page.evaluate(FOCUSED)]
    for _ in range(7):
        page.keyboard.press("Shift+Tab")
        focused.append(page.evaluate(FOCUSED))

    names = [name for name, _ in reversed(focused)]
    assert names[:2] == ["Sign out", "New chat"]
    assert names[3:] == ["Invoice for October", "Change of address", "Messages", "Attach files", "Message"]
    assert all(has_ring for _, has_ring in focused), focused


def test_a_user_who_prefers_reduced_motion_sees_no_animation(open_page: OpenPage, stack: Stack) -> None:
    page = open_page(stack.auth.sign_up())
    page.route(stack.api.url, lambda route: None)  # the request gets no response
    say(page, "Hello")
    expect(page.get_by_text("Thinking…")).to_be_visible()
    animations = "document.getAnimations().length"

    moving = page.evaluate(animations)
    page.emulate_media(reduced_motion="reduce")

    assert (moving, page.evaluate(animations)) == (1, 0)
