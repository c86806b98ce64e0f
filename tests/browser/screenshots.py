"""SCREENSHOTS=docs/images pytest tests/browser/test_looks.py takes those of the documentation anew."""

import os
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

FOLDER = os.environ.get("SCREENSHOTS", "")
OF_THE_PAGE = {"sign-in-phone-light", "chat-desktop-light", "chat-phone-dark"}
OF_THE_ADMIN = {"admin-sessions", "admin-user", "admin-chat"}


def keep(page: Page, name: str) -> None:
    """In 256 colours, which is about what there are."""
    if FOLDER and name in OF_THE_PAGE | OF_THE_ADMIN:
        Path(FOLDER).mkdir(parents=True, exist_ok=True)
        picture = Image.open(BytesIO(page.screenshot(animations="disabled")))
        picture.quantize(256, dither=Image.Dither.NONE).save(Path(FOLDER, f"{name}.png"), optimize=True)
