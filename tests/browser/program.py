"""The browser. Chromium's headless program alone opens a page in a third of the time."""

import os
import shutil

import pytest

PROGRAMS = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"]


def chromium() -> str:
    """Its path. Where there is none the test is skipped, and fails in CI."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("There is no Chromium here: apt install chromium-headless-shell, or chromium.")
    return str(found)
