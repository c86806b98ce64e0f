"""How the page shows a model's thoughts."""

from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect

from tests.fixtures.accounts.people import Person
from tests.fixtures.browser.chat import button, messages, say
from tests.fixtures.chatkit.talking_server import THINK, THINK_ON, THOUGHTS

OpenPage = Callable[..., Page]


def thoughts(page: Page) -> Locator:
    return page.get_by_text(THOUGHTS)


def test_thoughts_can_be_read_beside_the_answer_and_after_a_reload(
    open_page: OpenPage, visitor: Person
) -> None:
    page = open_page(visitor)

    say(page, THINK)

    for _ in range(2):
        expect(messages(page)).to_have_text([f"You{THINK}", "AssistantHello!"])
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
