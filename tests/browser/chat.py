"""The chat page's verbs, for the tests that use it."""

import re
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.browser.pictures import FRONT_DOOR

NOTE = {"name": "note.txt", "mimeType": "text/plain", "buffer": b"Ring twice"}
PICTURE = {"name": "front door.png", "mimeType": "image/png", "buffer": FRONT_DOOR}


def field(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Message")


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def say(page: Page, text: str) -> None:
    field(page).fill(text)
    button(page, "Send").click()


def attach(page: Page, *files: dict[str, Any]) -> None:
    page.get_by_label("Attach files").set_input_files(files)  # type: ignore[arg-type]


def messages(page: Page) -> Locator:
    return page.get_by_role("log", name="Messages").get_by_role("article")


def expect_answer(page: Page, to: str) -> None:
    """Whole, and read to who listens."""
    whole = re.compile(r"^AssistantHello .+ your user id is \w+\.$")  # the local responder's
    expect(messages(page)).to_have_text([f"You{to}", whole])
    expect(button(page, "Send")).to_be_enabled()
