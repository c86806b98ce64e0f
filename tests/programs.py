"""Programs that some tests need. If one is not installed, those tests are skipped."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chatbackend.dev.processes import server

# For each package: the names that its program may have. Chromium's headless shell opens a page in a third of
# the time.
PROGRAMS = {
    "caddy": ["caddy"],
    "chromium-headless-shell": ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"],
    "logrotate": ["logrotate"],
    "nginx": ["nginx"],
}
INSTALLED_BY_CI = {"chromium-headless-shell", "nginx"}  # .ci/run

# Debian installs servers in /usr/sbin, which is only on root's PATH.
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
MISSING = " is not installed here"


def program(package: str) -> str:
    """The program's path. Without it the test is skipped, or fails in CI if CI installs it."""
    found = next((path for name in PROGRAMS[package] if (path := shutil.which(name, path=PATH))), None)
    if found is None:
        refuse = pytest.fail if os.environ.get("CI") and package in INSTALLED_BY_CI else pytest.skip
        refuse(f"{package}{MISSING}")
    return found


def missing_line(skipped: Iterable[Any]) -> str:
    """One line about tests that were skipped because of missing programs; empty if there are none.

    ``skipped``: pytest's reports of skipped tests.
    """
    reasons = [str(report.longrepr[-1]) for report in skipped]
    missing = [reason for reason in reasons if reason.endswith(MISSING)]
    if not missing:
        return ""
    packages = {reason.removeprefix("Skipped: ").removesuffix(MISSING) for reason in missing}
    tests = "1 test was" if len(missing) == 1 else f"{len(missing)} tests were"
    return f"{tests} skipped: programs are missing. To run all: apt install {' '.join(sorted(packages))}"


@contextmanager
def nginx(folder: Path, http_block: str, port: int, path: str = "/") -> Iterator[None]:
    """Run nginx with this ``http`` block. Yields when ``path`` answers at ``port``."""
    names = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    spaces = "".join(f"{name}_temp_path {folder}/{name};\n" for name in names)
    root = "user root;\n" if os.geteuid() == 0 else ""
    whole = f"daemon off;\nevents {{}}\nhttp {{\naccess_log off;\n{spaces}{http_block}\n}}\n"
    (folder / "nginx.conf").write_text(f"{root}pid {folder}/pid;\n{whole}")
    command = [program("nginx"), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    with server("nginx", command, os.environ, port, path, show=False):
        yield
