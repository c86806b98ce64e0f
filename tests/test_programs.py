"""The line about missing programs at the end of a run, and the list of slow files."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.fixtures.programs import missing_line
from tests.fixtures.run_order import SLOWEST_FIRST
from tests.fixtures.servers.forkserver import python

WITHOUT_PROGRAMS = """
import pytest
from tests.fixtures import programs

programs.PATH = "/nowhere"
pytest.main(["-q", "--assert=plain", "-p", "no:cacheprovider", *{tests}])
"""
NEEDS_LOGROTATE = "tests/documents/test_deployment.py::test_logrotate_keeps_the_log_of_thirty_days"
NEEDS_CHROMIUM = "tests/browser/test_looks.py"
NEEDS_REDIS = "tests/chatbackend/test_health.py::test_sqlite_and_cookies_are_checked_without_keys"
NEEDS_NONE = "tests/documents/test_deployment.py::test_the_unit_gives_the_server_enough_time_to_shut_down"


def test_the_summary_names_the_missing_programs_and_counts_the_skipped_tests() -> None:
    tests = [NEEDS_LOGROTATE, NEEDS_CHROMIUM, NEEDS_REDIS, NEEDS_NONE]

    done = python(WITHOUT_PROGRAMS.format(tests=tests), CI="", DJANGO_SETTINGS_MODULE="tests.settings")

    assert done.returncode == 0, done.stderr
    *_, summary, last = done.stdout.splitlines()
    skipped = int(last.partition("passed, ")[2].partition(" skipped")[0])
    assert last.startswith("1 passed, ")
    assert summary.startswith(f"{skipped} tests were skipped")
    assert summary.endswith("apt install chromium-headless-shell logrotate redis-server")


def test_the_summary_ignores_tests_that_are_skipped_for_other_reasons() -> None:
    with pytest.raises(pytest.skip.Exception) as skipped:
        pytest.skip("not today")
    report = SimpleNamespace(longrepr=("test_x.py", 1, f"Skipped: {skipped.value}"))

    assert missing_line([report]) == ""


def test_every_file_that_is_named_as_slow_exists() -> None:
    existing = {path.name for path in Path(__file__).parent.rglob("test_*.py")}

    assert set(SLOWEST_FIRST) <= existing
