"""docs/security.md names code and tests for each attack. This test checks that all of them exist."""

import re

import pytest

from tests.fixtures.code_blocks import TOP

PAGE = (TOP / "docs/security.md").read_text()
ATTACKS = PAGE.partition("\n## Who can do what\n")[2].partition("\n## ")[0]
ENTRY = re.compile(
    r"^- \*\*(?P<attack>[^*]+)\*\* [^*]+\n"
    r"  - Code: `(?P<code>\S+)`\n"
    r"  - Tests: (?P<tests>`\w+`(?:,\s+`\w+`)*)\n",
    re.MULTILINE,
)
ENTRIES = [match.groupdict() for match in ENTRY.finditer(ATTACKS)]
TESTS = {
    name
    for path in (TOP / "tests").rglob("test_*.py")
    if "node_modules" not in path.parts
    for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
}


def test_every_entry_is_complete() -> None:
    assert len(ENTRIES) == ATTACKS.count("\n- ") > 30
    assert ATTACKS.count("\n### ") >= 8


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["attack"][:40])
def test_an_entry_names_code_and_tests_that_exist(entry: dict[str, str]) -> None:
    named = re.findall(r"`(\w+)`", entry["tests"])

    assert (TOP / entry["code"]).is_file(), entry["code"]
    assert named
    assert set(named) - TESTS == set()
