"""Which faults in the code would no test notice? One at a time; see mutants.py for which.

    python -m tests.mutation                                     all of them
    python -m tests.mutation authn/jwt/keys.py authn/jwt/tokens.py:120   those of a file, and of a line

Says how many were noticed, and shows those that were not, with the reason why nobody can where
explained.toml gives one. Fails when one has none, and when an explanation has no such fault any more.
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

# What is changed, and the tests that are asked.
TESTS = {
    "authn/jwt/tokens.py": [
        "tests/authn/jwt/test_tokens.py",
        "tests/authn/test_attacks.py",
        "tests/authn/jwt/test_token_cache.py",
        "tests/authn/jwt/test_algorithms.py",
        "tests/authn/jwt/test_secret.py",
        "tests/authn/jwt/test_keys.py",
        "tests/authn/diagnosis/test_error_reports.py",
    ],
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
OPTIONS += ["--tb=native"]  # nobody sees it, and pytest's own takes longer than most tests
OPTIONS += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what is imported before pytest begins


class MutationRun:
    """A plugin that runs the tests in its own way."""

    def __init__(self, asked: list[str]) -> None:
        self.asked = [(file, int(line or 0)) for file, _, line in (each.partition(":") for each in asked)]
        self.files = list(dict.fromkeys(file for file, _ in self.asked))
        self.failed = False

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        runs, score = Runs(session), []
        runs.watch(self.files)
        for file, line in self.asked:
            found = [each for each in mutants(Path(file)) if line in (0, *each.lines)]
            explained = _explained(file)
            left: list[str] = []
            for number, mutant in enumerate(found, 1):
                print(f"\r{file} {number}/{len(found)} ", end="", flush=True, file=sys.stderr)
                if runs.survives(mutant):
                    left.append(mutant.diff)
                    self._tell(mutant, explained.get(mutant.diff, ""))
            for diff in () if line else explained.keys() - {*left}:
                self.failed = True
                print(f"\n\n{file}  EXPLAINED, BUT NOTICED OR GONE\n{diff}")
            score.append(f"{file}: {len(found) - len(left)} of {len(found)} noticed")
        print("\n\n" + "\n".join(score))
        return True

    def _tell(self, mutant: Mutant, why: str) -> None:
        self.failed |= not why
        place = f"{mutant.file}:{mutant.lines.start}"
        print(f"\n\n{place}  {why or 'NO TEST NOTICES'}\n{mutant.diff}", flush=True)


def _explained(file: str) -> dict[str, str]:
    """The reasons by what is changed, whatever line it stands on now."""
    entries = tomllib.loads(EXPLAINED.read_text())["explained"]
    return {diff.strip(): each["why"] for each in entries if each["file"] == file for diff in each["faults"]}


def main(asked: list[str]) -> int:
    began, hunt = time.monotonic(), MutationRun(asked or list(TESTS))
    tests = [test for file in hunt.files for test in TESTS[file]]
    with start_servers() as shared:
        status = pytest.main([*OPTIONS, *dict.fromkeys(tests)], plugins=[SharedServers(shared), hunt])
    print(f"{time.monotonic() - began:.0f} s")
    return int(hunt.failed or status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
