"""Users who sign in and out on the chat page, and the tokens that the page sends."""

from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, Request, Route, expect

from tests.fixtures.accounts.people import PASSWORD, Person
from tests.fixtures.browser import axe
from tests.fixtures.browser.chat import button, expect_answer, field, messages, say
from tests.fixtures.browser.stack import Stack
from tests.fixtures.oauth.clients import CALLBACK, OAuthClient

OpenPage = Callable[..., Page]
ENDED = "This request has ended. Connect again in your app."


def sign_in(page: Page, email: str) -> None:
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def test_an_app_gets_a_token_only_after_the_user_has_allowed_it(
    open_page: OpenPage, visitor: Person, stack: Stack
) -> None:
    client = OAuthClient.register(stack.auth, client_name="<b>Reader</b>")
    request = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": CALLBACK,
        "resource": f"{stack.api.origin}/support/mcp",
        "scope": "conversations:read todo:write",
        "state": "a-state",
        "code_challenge": "x" * 43,
        "code_challenge_method": "S256",
    }
    question = f"{client.metadata['authorization_endpoint']}?{urlencode(request)}"
    page = open_page()
    page.route(f"{CALLBACK}?**", lambda route: route.fulfill(body="Go back to your app"))

    page.goto(question)
    sign_in(page, visitor.email)

    expect(page.get_by_role("heading")).to_have_text("Connect <b>Reader</b>?")
    expect(page.get_by_role("listitem")).to_have_text(["Read your conversations", "todo:write"])
    expect(page.locator("form")).to_contain_text(f"You are signed in as {visitor.email}.")
    assert axe.faults(page) == []
    changed = page.url.replace("todo%3Awrite", "openid")
    button(page, "Refuse").click()
    page.wait_for_url(f"{CALLBACK}?error=access_denied**")
    page.goto(question)
    button(page, "Allow").click()
    page.wait_for_url(f"{CALLBACK}?code=**")
    page.goto(f"{stack.auth.origin}/consent.html")
    expect(page.get_by_role("alert")).to_have_text(ENDED)
    page.goto(changed)
    button(page, "Allow").click()
    expect(page.locator("#consent-alert")).to_have_text(ENDED)


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

    expect(messages(page).last).to_contain_text(f"Your user id is {bob.user_id}")
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

    def give_forged_token(route: Route) -> None:
        """Until the server has refused it: a request that the reload aborts may have taken it before."""
        if refused:
            route.continue_()
        else:
            route.fulfill(json={"token": forged})

    page.route("**/api/auth/token", give_forged_token)
    with page.expect_response(lambda response: response.status == 401):
        page.reload()
    say(page, "Hello")

    expect_answer(page, to="Hello")
    assert set(refused) == {401}
