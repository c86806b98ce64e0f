"""docs/security.md names guards and tests: all of them are there, and every line has both."""

import re

import pytest

from tests.fixtures.code_blocks import TOP

PAGE = (TOP / "docs/security.md").read_text()
TABLES = PAGE.partition("## Who can do what")[2].partition("## What is not defended")[0]
ROWS = [line.strip("| ").split(" | ") for line in TABLES.splitlines() if line.startswith("| ")]
LINES = [row for row in ROWS if row[0] != "may try to"]
TESTS = {
    name
    for path in (TOP / "tests").rglob("test_*.py")
    if "node_modules" not in path.parts
    for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
}


def test_there_are_lines_for_everybody() -> None:
    assert TABLES.count("\n### ") == TABLES.count("| may try to |") >= 8
    assert len(LINES) > 30


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0][:40])
def test_a_line_names_a_guard_and_the_tests_that_show_it(line: list[str]) -> None:
    _attempt, _guard, place, shown = line
    named = re.findall(r"`(\w+)`", shown)

    assert (TOP / place.strip("`")).is_file(), place
    assert named
    assert set(named) - TESTS == set()
