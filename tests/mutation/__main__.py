"""Mutation testing: finds small changes of the code that no test notices. mutants.py lists the changes.

    python -m tests.mutation                                             all files of TESTS
    python -m tests.mutation authn/jwt/keys.py authn/jwt/tokens.py:120   one file, and one line

Prints how many mutants the tests noticed, and each one that they did not notice, with its reason from
explained.toml. Fails if such a mutant has no reason, or if a reason is for a mutant that is noticed or gone.
"""

import sys
import time
import tomllib
from pathlib import Path

import pytest

from chatbackend.dev.processes import TOP
from tests.mutation.mutants import Mutant, mutants
from tests.mutation.runs import Runs, SharedServers, start_servers

STORE = [
    "tests/support/storage/test_store.py",
    "tests/support/storage/test_pages.py",
    "tests/support/storage/test_round_trips.py",
    "tests/support/attachments/test_attachment_store.py",
    "tests/support/storage/test_costs.py",
]

TOKENS = [
    "tests/authn/jwt/test_tokens.py",
    "tests/authn/test_attacks.py",
    "tests/authn/jwt/test_token_cache.py",
    "tests/authn/jwt/test_algorithms.py",
    "tests/authn/jwt/test_secret.py",
    "tests/authn/jwt/test_keys.py",
    "tests/authn/diagnosis/test_error_reports.py",
]

# Each changed file, and the tests that run for it.
TESTS = {
    "authn/jwt/signed.py": [*TOKENS, "tests/authn/jwt/test_access_tokens.py"],
    "authn/jwt/tokens.py": TOKENS,
    "authn/jwt/access_tokens.py": ["tests/authn/jwt/test_access_tokens.py"],
    "authn/sessions.py": [
        "tests/authn/test_sessions.py",
        "tests/authn/test_refusals.py",
        "tests/authn/test_attacks.py",
        "tests/authn/credentials/test_credentials.py",
        "tests/authn/credentials/test_secondary_storage.py",
        "tests/authn/diagnosis/test_error_reports.py",
    ],
    "authn/jwt/keys.py": [
        "tests/authn/jwt/test_keys.py",
        "tests/authn/jwt/test_algorithms.py",
        "tests/authn/jwt/test_secret.py",
    ],
    "authn/jwt/jwks.py": ["tests/authn/jwt/test_keys.py"],
    "support/storage/store.py": STORE,
    "support/storage/known_thread.py": STORE,
    "support/storage/threads.py": STORE,
    "support/storage/items.py": STORE,
    "support/storage/attachments.py": STORE,
    "support/storage/reads.py": STORE,
}
EXPLAINED = Path(__file__).with_name("explained.toml")
OPTIONS = ["-q", "-s", "--no-header", "--rootdir", str(TOP), "-p", "no:cacheprovider", "-p", "no:xdist"]
OPTIONS += ["--tb=native"]  # nobody reads the tracebacks, and pytest's own take longer than most tests
OPTIONS += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # modules are imported before pytest starts


class MutationRun:
    """A pytest plugin that runs the tests once for each mutant."""

    def __init__(self, arguments: list[str]) -> None:
        split = (each.partition(":") for each in arguments)
        self.places = [(file, int(line or 0)) for file, _, line in split]
        self.files = list(dict.fromkeys(file for file, _ in self.places))
        self.failed = False

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        runs, score = Runs(session), []
        runs.watch(self.files)
        for file, line in self.places:
            found = [each for each in mutants(Path(file)) if line in (0, *each.lines)]
            explained = _explained(file)
            survivors: list[str] = []
            for number, mutant in enumerate(found, 1):
                print(f"\r{file} {number}/{len(found)} ", end="", flush=True, file=sys.stderr)
                if runs.survives(mutant):
                    survivors.append(mutant.diff)
                    self._print(mutant, explained.get(mutant.diff, ""))
            for diff in () if line else explained.keys() - {*survivors}:
                self.failed = True
                print(f"\n\n{file}  EXPLAINED, BUT NOTICED OR NOT GENERATED\n{diff}")
            score.append(f"{file}: {len(found) - len(survivors)} of {len(found)} noticed")
        print("\n\n" + "\n".join(score))
        return True

    def _print(self, mutant: Mutant, why: str) -> None:
        self.failed |= not why
        place = f"{mutant.file}:{mutant.lines.start}"
        print(f"\n\n{place}  {why or 'NO TEST NOTICES'}\n{mutant.diff}", flush=True)


def _explained(file: str) -> dict[str, str]:
    """The reason for each diff. Diffs contain no line numbers, so that they stay valid when lines move."""
    entries = tomllib.loads(EXPLAINED.read_text())["explained"]
    return {diff.strip(): each["why"] for each in entries if each["file"] == file for diff in each["faults"]}


def main(arguments: list[str]) -> int:
    started_at, run = time.monotonic(), MutationRun(arguments or list(TESTS))
    tests = [test for file in run.files for test in TESTS[file]]
    with start_servers() as servers:
        status = pytest.main([*OPTIONS, *dict.fromkeys(tests)], plugins=[SharedServers(servers), run])
    print(f"{time.monotonic() - started_at:.0f} s")
    return int(run.failed or status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
