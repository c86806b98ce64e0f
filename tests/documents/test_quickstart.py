"""Runs the commands of docs/quickstart.md one by one, beside ``make run`` in a copy of the project."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from threading import Timer
from typing import Any

import pytest
from django.core.management import call_command

from chatbackend.dev.processes import free_port
from tests.fixtures.accounts.people import BetterAuth
from tests.fixtures.code_blocks import TOP, blocks, every_block

PAGE = "docs/quickstart.md"
NOT_COPIED = (".git", ".venv", ".local", ".env", "node_modules", ".*_cache")
MANAGE = ". .local/env && .venv/bin/python manage.py "
ANSWERS = {  # arguments in place of a command's questions
    "createsuperuser": {"interactive": False, "username": "staff", "email": "staff@example.com"}
}
[SETTINGS] = [block for block in every_block() if block.document == PAGE and "BETTER_AUTH_URL" in block.text]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project that uses the packages of this virtual environment."""
    clone = tmp_path_factory.mktemp("quickstart") / "clone"
    shutil.copytree(TOP, clone, ignore=shutil.ignore_patterns(*NOT_COPIED))
    packages = clone / ".venv"
    packages.mkdir()
    for name in ("bin", "lib"):
        (packages / name).symlink_to(Path(sys.prefix) / name)
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", packages)
    (packages / ".installed").touch()
    return clone


@pytest.fixture(scope="module")
def running(clone: Path, addresses: dict[str, str]) -> Iterator[str]:
    """Run ``make run`` with the variables of the page's second step; yield what it printed. Ends with Ctrl-C.

    Without these variables it starts a PostgreSQL and a Better Auth. This step uses those of the tests.
    """
    (clone / ".env").write_text(with_our_addresses(SETTINGS.text, addresses))
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    env["PORT"] = addresses["http://localhost:8000"].rpartition(":")[2]
    options: dict[str, Any] = {"stdout": PIPE, "stderr": STDOUT, "text": True, "start_new_session": True}
    with Popen(["make", "run"], cwd=clone, env=env, **options) as make:
        time_limit = Timer(120, os.killpg, (make.pid, signal.SIGKILL))
        time_limit.start()
        lines = iter(make.stdout or [])
        printed = "".join(takewhile(lambda line: "Ctrl-C" not in line, lines))
        try:
            yield printed
        finally:
            with suppress(ProcessLookupError):
                os.killpg(make.pid, signal.SIGINT)
            deque(lines, maxlen=0)
            time_limit.cancel()


@pytest.fixture(scope="module")
def addresses(auth: BetterAuth, database_url: str) -> dict[str, str]:
    """The addresses of the page, each with the one that replaces it in this test."""
    return {
        "postgresql://user:password@localhost:5432/name": database_url,
        "http://localhost:3000": auth.origin,
        "http://localhost:8000": f"http://localhost:{free_port()}",
    }


def with_our_addresses(text: str, addresses: dict[str, str]) -> str:
    for documented, actual in addresses.items():
        text = text.replace(documented, actual)
    return text


@pytest.mark.django_db
def test_every_command_prints_what_the_page_shows(
    clone: Path, running: str, addresses: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "a-password-of-the-tests")
    dialogue = [turn for block in blocks("test_quickstart.py", "console") for turn in block.dialogue]
    assert addresses["http://localhost:8000"] in running, running

    for command, answer in dialogue:
        printed = output_of(clone, with_our_addresses(command, addresses))

        for part in re.split("…|\n", answer):  # an ellipsis stands for text that varies
            assert part.strip() in printed, (command, printed)


def output_of(clone: Path, command: str) -> str:
    if command == "make run":
        return ""
    if command.startswith(MANAGE):  # in this process, because a new one imports everything again
        assert (clone / ".local/env").exists()
        name, *arguments = command.removeprefix(MANAGE).split()
        with suppress(SystemExit):
            call_command(name, *arguments, **ANSWERS.get(name, {}))
        return ""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=clone, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def test_make_clean_removes_what_was_installed(clone: Path) -> None:
    subprocess.run(["make", "clean"], cwd=clone, check=True, timeout=60)

    assert not {".venv", ".local"} & {path.name for path in clone.iterdir()}
