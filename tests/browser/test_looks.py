"""The layout and the accessibility of the page and the admin."""

import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Page, Request, expect

from tests.fixtures.accounts.people import Person
from tests.fixtures.browser import axe
from tests.fixtures.browser.chat import NOTE, PICTURE, attach, button, field, messages, say
from tests.fixtures.browser.screenshots import save_screenshot
from tests.fixtures.browser.stack import DESKTOP, Stack
from tests.fixtures.chatkit.talking_server import ANSWERS, BREAK_ONCE, THINK, WIDGETS
from tests.fixtures.servers.api import create, operation

OpenPage = Callable[..., Page]

# --- The admin ------------------------------------------------------------------------------------

LAPTOP, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
PEOPLE = {
    "Ada Lovelace": "(Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/18.3 Safari/605.1.15",
    "Grace Hopper": "(X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Alan Turing": "(Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/142.0.0.0 Safari/537.36",
}
ADD_USER = """
    INSERT INTO "user" ("id", "name", "email", "emailVerified", "createdAt", "updatedAt")
    VALUES (%(id)s, %(name)s, %(id)s || '@example.com', %(id)s <> 'alan', now(), now())
"""
# Some addresses are IPv6, which is the longest text of the list.
ADD_SESSIONS = """
    INSERT INTO "session"
        ("id", "userId", "token", "ipAddress", "userAgent", "createdAt", "updatedAt", "expiresAt")
    SELECT md5(%(id)s || days), %(id)s, gen_random_uuid(),
        CASE days WHEN 5 THEN '2001:db8:85a3:8d3:1319:8a2e:370:7348' ELSE '203.0.113.' || days END,
        'Mozilla/5.0 ' || %(agent)s, now() - days * interval '31 hours', now() - days * interval '7 hours',
        now() + (7 - days) * interval '1 day'
    FROM generate_series(1, 9, 4) AS days
"""
TOOL_CALL = {
    "type": "client_tool_call",
    "name": "find_order",
    "arguments": {"number": 4711},
    "output": {"state": "on its way", "due": "2026-11-27"},
}
ANSWER = """\
### Two ways to change it

1. Tell **the driver**, who reads `leave_at`
2. Or move it to *another day*:

```python
def move(order, day):
    if order.state == "on its way":
        order.due = day
```

| Day | Free |
| --- | --- |
| Saturday | yes |
| Monday | no |

[Your order](https://shop.example/orders/4711) <script>alert(1)</script>"""
ADD_ITEM = """
    INSERT INTO support_item (thread_id, item_id, type, created_at, data)
    SELECT id, %(id)s, %(data)s::jsonb ->> 'type', now(), %(data)s
    FROM support_thread ORDER BY id DESC LIMIT 1 RETURNING id
"""
THREAD_OF_ADDED_ITEM = "SELECT thread_id FROM support_item WHERE item_id = 'added_0'"
ADD_FEEDBACK = "INSERT INTO support_feedback VALUES (%s, 'negative', now(), now())"


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
        page = new_page(base_url=stack.api.origin, viewport=LAPTOP, device_scale_factor=1.5)
        cookie: Any = {"name": "sessionid", "value": staff_cookie, "url": stack.api.origin}
        page.context.add_cookies([cookie])
        page.goto(f"/admin/{path}")
        return page

    return open_admin


# What is wider than the window or its own box. A table of a list scrolls in a box.
CUT_OFF = """() => [document.documentElement, ...document.querySelectorAll(".results, #transcript")]
  .filter((box) => box.scrollWidth > box.clientWidth)
  .map((box) => `${box.tagName}.${box.className} ${box.scrollWidth} > ${box.clientWidth}`)"""
SHOW_TRANSCRIPT = "() => document.querySelector('#transcript')?.scrollIntoView()"
HEADINGS = "#result_list thead th .text"
LISTS = {
    "admin-sessions": ["Person", "State", "Device", "Address", "Last seen", "Expires", "Id"],
    "admin-users": ["Person", "State", "Signed up", "Active sessions", "Id"],
    "admin-chats": ["Title", "Person", "Messages", "Feedback", "Last activity", "Id"],
}
PAGES = {
    "admin-sessions": "authn/session/",
    "admin-users": "authn/user/",
    "admin-user": "authn/user/ada/change/",
    "admin-chats": "support/thread/",
    "admin-chat": "support/thread/",
    "admin-start": "",
}


# The chats come after the users: they sign up a user, who would otherwise appear on the other screenshots.
@pytest.mark.usefixtures("people_with_sessions")
@pytest.mark.parametrize("name", PAGES)
def test_the_admin_fits_the_screen_and_axe_finds_no_serious_fault(
    open_admin: OpenPage, open_page: OpenPage, stack: Stack, database_url: str, name: str
) -> None:
    if name == "admin-chats":
        chat_with_attachments(open_page(stack.auth.sign_up()), stack)
        with psycopg.connect(database_url) as database:
            for number, data in enumerate(
                [TOOL_CALL, {"type": "assistant_message", "content": [{"text": ANSWER}]}]
            ):
                row = {"id": f"added_{number}", "data": json.dumps(data)}
                [item] = database.execute(ADD_ITEM, row).fetchone() or [None]
            database.execute(ADD_FEEDBACK, [item])
    path = PAGES[name]
    if name == "admin-chat":
        with psycopg.connect(database_url) as database:
            [thread] = database.execute(THREAD_OF_ADDED_ITEM).fetchone() or [None]
        path += f"{thread}/change/"
    page = open_admin(path)
    if name == "admin-chat":
        picture = page.locator("#transcript img")
        expect(picture).to_have_js_property("naturalWidth", 640)
    expect(page.get_by_role("main").get_by_role("heading").first).to_be_visible()

    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.reload()  # otherwise a transition still runs between the colours of both schemes
        page.evaluate(SHOW_TRANSCRIPT)
        save_screenshot(page, name if scheme == "light" else f"{name}-dark")
        rules = None if scheme == "light" else ["color-contrast"]  # the schemes differ only in colours
        assert axe.faults(page, rules=rules, impacts={"serious", "critical"}) == [], scheme
    if name in LISTS:
        headings = list(filter(None, page.locator(HEADINGS).all_inner_texts()))  # one is a checkbox
        assert headings == [each.upper() for each in LISTS[name]]
    assert page.evaluate(CUT_OFF) == []
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.evaluate(SHOW_TRANSCRIPT)
    save_screenshot(page, f"{name}-phone")
    assert not page.evaluate(TOO_WIDE)
    if name in LISTS:
        search = page.get_by_role("textbox", name="Search").bounding_box()
        assert search is not None
        assert search["width"] > 180
        heights = page.locator("#result_list time").evaluate_all(
            "all => all.map((time) => time.offsetHeight)"
        )
        assert max(heights) < 30  # one line


def test_a_session_is_revoked_with_the_keyboard_alone(
    open_admin: OpenPage, people_with_sessions: None, stack: Stack
) -> None:
    page = open_admin("authn/session/?q=grace@example.com")

    tab_to(page, "Grace Hopper")
    page.keyboard.press("Enter")
    page.wait_for_url("**/change/**")
    tab_to(page, "Revoke")
    page.keyboard.press("Enter")
    page.wait_for_url("**/revoke/")
    tab_to(page, "Yes, revoke")
    page.keyboard.press("Enter")

    expect(page.get_by_text("1 session revoked.")).to_be_visible()
    expect(page.locator("#result_list tbody tr")).to_have_count(2)


def tab_to(page: Page, text: str) -> None:
    """Press Tab until an element with this text has the focus."""
    focused = "(document.activeElement.innerText || document.activeElement.value || '')"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(f"(text) => {focused}.toLowerCase().startsWith(text.toLowerCase())", text):
            return
    pytest.fail(f"Tab does not reach {text!r}")


# --- The page in each of its states ---------------------------------------------------------------

SIZES = {"desktop": DESKTOP, "phone": PHONE}

# Elements for a finger that are lower than 44 pixels. A link in a text is as high as its line. The input for
# files is hidden behind its label, and a checkbox has a label that is high enough.
SMALL_TARGETS = """() =>
  [...document.querySelectorAll("button, a:not(.markdown a), input, textarea, select")]
  .map((each) => (each.id === "attach" ? each.nextElementSibling : each.closest("label") ?? each))
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


def show_thoughts_and_widgets(page: Page, stack: Stack) -> None:
    say(page, THINK)
    page.get_by_text("Thought for 3 seconds").click()
    expect(button(page, "Send")).to_be_enabled()
    say(page, WIDGETS)
    expect(messages(page)).to_have_count(6)
    expect(button(page, "Send")).to_be_enabled()
    page.locator("#scroll").evaluate("scroll => scroll.scrollTo(0, 0)")
    expect(button(page, "To the newest message")).to_be_visible()


STATES = {  # name -> the function that leads to this state, and whether a user is signed in
    "sign-in": (show_sign_in, False),
    "sign-up": (fail_to_sign_up, False),
    "new-chat": (show_new_chat, True),
    "chat": (chat_with_attachments, True),
    "widgets": (show_thoughts_and_widgets, True),
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
    page.evaluate("document.activeElement.blur()")  # as when the focused button disappears
    page.keyboard.press("Escape")
    expect(messages(page)).to_have_count(2)
    expect(messages(page).first).to_have_text("Youfor 60 seconds\nplease")
    field(page).focus()
    focused = [page.evaluate(FOCUSED)]
    for _ in range(14):
        page.keyboard.press("Shift+Tab")
        focused.append(page.evaluate(FOCUSED))

    names = [name for name, _ in reversed(focused)]
    newest, chats = names[2], ["Invoice for October", "Change of address"]
    assert names[:2] == ["Sign out", "New chat"]
    assert names[2:8] == [text for title in [newest, *chats] for text in (title, f"Rename or delete {title}")]
    assert names[8:13] == ["Messages", "Copy", "Good answer", "Bad answer", "Try again"]
    assert names[13:] == ["Attach files", "Message"]
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


def test_the_page_and_its_libraries_weigh_less_than_200_kilobytes(open_page: OpenPage, stack: Stack) -> None:
    page = open_page()
    loaded: list[Request] = []
    page.on("requestfinished", lambda request: loaded.append(request))

    page.reload(wait_until="networkidle")

    files = {request.url: request.sizes()["responseBodySize"] for request in loaded}
    assert {f"{stack.auth.origin}/{name}" for name in ("app.js", "libraries/marked.js")} < files.keys()
    assert sum(files.values()) < 200_000
