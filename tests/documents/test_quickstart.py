"""docs/quickstart.md, typed line by line: ``make run`` in a copy of the tree, and what is said to it."""

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
UNASKED = {"createsuperuser": {"interactive": False, "username": "staff", "email": "staff@example.com"}}
[SETTINGS] = [block for block in every_block() if block.document == PAGE and "BETTER_AUTH_URL" in block.text]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, with the packages of whoever runs the tests."""
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
    """``make run`` with the variables of the second step, until Ctrl-C; yields what it printed.

    With those of the first it would start a PostgreSQL and a Better Auth, as every other test has done.
    """
    (clone / ".env").write_text(here(SETTINGS.text, addresses))
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    env["PORT"] = addresses["http://localhost:8000"].rpartition(":")[2]
    options: dict[str, Any] = {"stdout": PIPE, "stderr": STDOUT, "text": True, "start_new_session": True}
    with Popen(["make", "run"], cwd=clone, env=env, **options) as make:
        impatience = Timer(120, os.killpg, (make.pid, signal.SIGKILL))
        impatience.start()
        lines = iter(make.stdout or [])
        printed = "".join(takewhile(lambda line: "Ctrl-C" not in line, lines))
        try:
            yield printed
        finally:
            with suppress(ProcessLookupError):
                os.killpg(make.pid, signal.SIGINT)
            deque(lines, maxlen=0)
            impatience.cancel()


@pytest.fixture(scope="module")
def addresses(auth: BetterAuth, database_url: str) -> dict[str, str]:
    """Those of the page, and what is there in this test."""
    return {
        "postgresql://user:password@localhost:5432/name": database_url,
        "http://localhost:3000": auth.origin,
        "http://localhost:8000": f"http://localhost:{free_port()}",
    }


def here(text: str, addresses: dict[str, str]) -> str:
    for documented, actual in addresses.items():
        text = text.replace(documented, actual)
    return text


@pytest.mark.django_db
def test_every_step_answers_as_the_page_says(
    clone: Path, running: str, addresses: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "as-somebody-types-it")
    dialogue = [turn for block in blocks("test_quickstart.py", "console") for turn in block.dialogue]
    assert addresses["http://localhost:8000"] in running, running

    for command, answer in dialogue:
        said = answered(clone, here(command, addresses))

        for part in re.split("…|\n", answer):  # an ellipsis stands for what is another each time
            assert part.strip() in said, (command, said)


def answered(clone: Path, command: str) -> str:
    if command == "make run":
        return ""
    if command.startswith(MANAGE):  # in this process, which has everything imported
        assert (clone / ".local/env").exists()
        name, *arguments = command.removeprefix(MANAGE).split()
        with suppress(SystemExit):
            call_command(name, *arguments, **UNASKED.get(name, {}))
        return ""
    typed = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=clone, capture_output=True, text=True, timeout=60
    )
    assert typed.returncode == 0, (command, typed.stderr)
    return typed.stdout


def test_make_clean_forgets_it_all(clone: Path) -> None:
    subprocess.run(["make", "clean"], cwd=clone, check=True, timeout=60)

    assert not {".venv", ".local"} & {path.name for path in clone.iterdir()}
