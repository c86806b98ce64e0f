"""Test runs, each in a fork of one pytest process that has imported and collected all tests."""

import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import coverage
import environ
import pytest
from django.core.management import call_command
from django.db import connections
from pytest_django.plugin import blocking_manager_key

from chatbackend.dev.frontend import FRONTEND, TEST_BETTER_AUTH, better_auth, install_packages, node_server
from chatbackend.dev.postgres import postgres
from chatbackend.dev.processes import TOP, free_port
from tests.fixtures import environment
from tests.fixtures.accounts.people import BetterAuth
from tests.fixtures.servers.redis import redis_server
from tests.mutation.apply import apply
from tests.mutation.mutants import Mutant

# Tests that start servers are slow, and their servers would not contain the mutant.
STARTING_FIXTURES = ("start_api", "start_better_auth", "start_other_better_auth")
NAME = re.compile(r"^\s*(?:async )?(?:def |class )?(?P<name>\w+)", re.MULTILINE)
EXTRA_SECONDS = 15  # a test may take ten times as long as without a mutant, plus this: a mutant may deadlock
TIMED_OUT = 3, ""

forks = get_context("fork")


@dataclass(frozen=True)
class Servers:
    """The servers that all runs share."""

    postgres_url: str
    redis_url: str
    other_better_auth: str


@contextmanager
def start_servers() -> Iterator[Servers]:
    install_packages(FRONTEND, TEST_BETTER_AUTH)
    folder = Path(tempfile.mkdtemp(prefix="mutation-"))
    port = free_port()
    secret = {"BETTER_AUTH_SECRET": environment.BETTER_AUTH_SECRET}
    try:
        with postgres(folder / "postgres", throwaway=True) as url, redis_server() as redis_url:
            own = {
                "DATABASE_URL": url,
                "BETTER_AUTH_URL": environment.BETTER_AUTH_URL,
                "BETTER_AUTH_CHANGE_EMAIL": "1",
                "BETTER_AUTH_DELETE_USER": "1",
            }
            other = {
                "DATABASE_URL": url,
                "SECONDARY_STORAGE_URL": redis_url,
                "PORT": str(port),
                "BETTER_AUTH_URL": f"http://localhost:{port}",
            }
            with (
                better_auth(secret | own, environment.BETTER_AUTH_PORT),
                node_server("better-auth", TEST_BETTER_AUTH, os.environ | secret | other, port, show=False),
            ):
                yield Servers(url, redis_url, f"http://localhost:{port}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class SharedServers:
    """A pytest plugin that replaces the fixtures of tests/conftest.py which would start these servers."""

    def __init__(self, servers: Servers) -> None:
        self.servers = servers
        self.auths = BetterAuth(environment.BETTER_AUTH_URL), BetterAuth(servers.other_better_auth)
        self.values = {
            ("postgres_url", "tests"): servers.postgres_url,
            ("redis_url", "tests"): servers.redis_url,
            ("django_db_setup", "tests"): True,
            ("auth", "tests"): self.auths[0],
            ("auth", "tests/authn/credentials/test_secondary_storage.py"): self.auths[1],
        } | {(name, "tests"): _skip for name in STARTING_FIXTURES}

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Any:
        value = self.values.get((fixturedef.argname, fixturedef.baseid))
        if value is not None:
            fixturedef.cached_result = (value, fixturedef.cache_key(request), None)
        return value

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        address = environ.Env.db_url_config(self.servers.postgres_url)
        connections.settings["default"].update(address | {"ENGINE": "runtime.postgresql"})
        with session.config.stash[blocking_manager_key].unblock():
            call_command("migrate", verbosity=0)
            connections.close_all()  # forks must not share a connection


def _skip(*args: Any, **kwargs: Any) -> Any:
    pytest.skip("starts a server")


# If fewer tests run a line, run all tests: the line's result may be cached for the others, like a compiled
# statement.
FEW_TESTS = 8


class Runs:
    """Runs the tests that ``session`` has collected."""

    def __init__(self, session: pytest.Session) -> None:
        self.session = session
        self.items = {item.nodeid: item for item in session.items}
        self.seconds: dict[str, float] = {}
        self._lines: dict[str, dict[int, set[str]]] = {}
        self._found = Counter[str]()  # test: how many mutants it noticed first
        self._latest = ""  # the last of these tests, which probably covers the next line too

    def watch(self, files: Sequence[str]) -> None:
        """Run all tests once without a mutant, and record which lines each test runs.

        A test that fails is not used: the machine may be too slow for it.
        """
        _, (failed, self.seconds, self._lines) = _forked(lambda: self._run_all(files))
        for test in failed:
            print(f"\nFails without a mutant, and is not used: {test}")
            del self.items[test]
        for file in map(Path, files):  # applying an unchanged module must not fail a test
            same = Mutant(file, range(0), (TOP / file).read_text(), "")
            if noticed_by := self._notice(same):
                pytest.exit(f"{noticed_by} fails when {file} is replaced by itself", 1)

    def survives(self, mutant: Mutant) -> bool:
        """Whether all tests pass. A test that times out twice counts as failed."""
        return not self._notice(mutant)

    def _notice(self, mutant: Mutant) -> str:
        """The test that fails, or another reason; empty if all pass."""
        chosen = self._tests_for(mutant)
        result = _forked(lambda: self._run_with(mutant, chosen))
        if result == TIMED_OUT:  # try again: the machine may have been busy
            result = _forked(lambda: self._run_with(mutant, chosen))
        status, noticed_by = result
        if noticed_by in self.items:
            self._found[noticed_by] += 1
            self._latest = noticed_by
        return noticed_by or "timeout" if status else ""

    def _tests_for(self, mutant: Mutant) -> list[str]:
        """The tests that run the changed statement.

        For a statement that runs only at import: the tests that run a line with its name. The order is the
        test that noticed the last mutant, those that noticed most, and then the fastest.
        """
        lines, text = self._lines[str(mutant.file)], (TOP / mutant.file).read_text().splitlines()
        places = {*mutant.lines}
        if not text[mutant.lines.start - 1].startswith(" ") or places.isdisjoint(lines):
            name = NAME.search("\n".join(text[line - 1] for line in mutant.lines))
            named = re.compile(rf"\b{name['name'] if name else ''}\b")
            places |= {number for number, line in enumerate(text, 1) if named.search(line)}
        found = {test for line in places for test in lines.get(line, ())}
        if len(found) < FEW_TESTS:
            found = set().union(*lines.values())
        return sorted(found, key=lambda test: (test != self._latest, -self._found[test], self.seconds[test]))

    def _run_all(self, files: Sequence[str]) -> tuple[int, Any]:
        paths = {str(TOP / file): file for file in files}
        coverage_run = coverage.Coverage(data_file=None, config_file=False, include=[*paths])
        coverage_run.start()
        failed: list[str] = []
        seconds: dict[str, float] = {}
        for test, following in pairwise([*self.items, ""]):
            coverage_run.switch_context(test)
            started_at = time.perf_counter()
            if self._fails(test, following):
                failed.append(test)
            seconds[test] = time.perf_counter() - started_at
        coverage_run.stop()
        data = coverage_run.get_data()
        passed = seconds.keys() - {*failed}
        lines = {
            file: {line: passed & {*tests} for line, tests in data.contexts_by_lineno(path).items()}
            for path, file in paths.items()
        }
        return 0, (failed, seconds, lines)

    def _run_with(self, mutant: Mutant, chosen: Sequence[str]) -> tuple[int, Any]:
        try:
            apply(mutant)
        except Exception:
            traceback.print_exc()
            return 2, "at the import"
        for test, following in pairwise([*chosen, ""]):
            signal.alarm(EXTRA_SECONDS + int(10 * self.seconds[test]))  # SIGALRM ends this process
            if self._fails(test, following):
                return 1, test
        return 0, ""

    def _fails(self, test: str, following: str) -> bool:
        """Whether the test fails twice: on a busy machine it may fail once."""
        return not (self._passes(test, following) or self._passes(test, following))

    def _passes(self, test: str, following: str) -> bool:
        failed, item = self.session.testsfailed, self.items[test]
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=self.items.get(following))
        return self.session.testsfailed == failed


def _forked(run: Any) -> tuple[int, Any]:
    """The result of ``run`` in a fork, or ``TIMED_OUT``."""
    receiver, sender = forks.Pipe(duplex=False)
    process = forks.Process(target=_isolated, args=[run, sender])
    process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        result = TIMED_OUT
    if process.pid:
        os.killpg(process.pid, signal.SIGKILL)
    process.join()
    receiver.close()
    return result


def _isolated(run: Any, sender: Any) -> None:
    os.setsid()
    if not os.environ.get("MUTATION_SHOWS"):
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
    try:
        sender.send(run())
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(0)  # also ends all threads
