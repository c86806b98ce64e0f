"""``make matrix``: which Pythons it finds, which pairs it runs, and how it counts tests."""

import subprocess
import sys
from pathlib import Path

import django
import pytest

from chatbackend.dev import matrix
from chatbackend.dev.matrix import Counts, Interpreter, Pair, Result
from chatbackend.dev.processes import StartError

OURS = sys.version_info[:2]
OUTCOMES = """
import pytest

def test_passes(): pass
def test_passes_too(): pass
def test_fails(): assert False
def test_is_skipped(): pytest.skip("not today")
@pytest.fixture
def broken(): raise RuntimeError
def test_has_an_error(broken): pass
"""


def interpreter(*version: int) -> Interpreter:
    return Interpreter(Path("/opt/python"), version)


def install(folder: Path, series: str, answer: str) -> Path:
    """Create a program python``series`` that answers like an interpreter; return its folder."""
    folder.mkdir(exist_ok=True)
    program = folder / f"python{series}"
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    return folder


def test_the_python_that_runs_the_tests_is_found() -> None:
    found = matrix.interpreters(matrix._search_path())

    assert OURS in [each.version[:2] for each in found]


def test_the_newest_interpreter_of_each_series_is_found_once_and_others_are_left_out(tmp_path: Path) -> None:
    older = install(tmp_path / "older", "3.13", "echo 3 13 2")
    newer = install(tmp_path / "newer", "3.13", "echo 3 13 10")
    install(newer, "3.11", "echo 3 11 7")
    install(newer, "3.10", "echo 3 10 1")  # Django 5.2 supports it, and we do not
    install(newer, "3.14", "exit 127")  # a shim of pyenv for a version that is not chosen
    install(newer, "3.12", "echo 3 11 7")  # a link with a wrong name

    found = matrix.interpreters([tmp_path / "missing", newer, older])

    assert found == [
        Interpreter(newer / "python3.11", (3, 11, 7)),
        Interpreter(newer / "python3.13", (3, 13, 10)),
    ]


def test_a_python_is_paired_only_with_a_django_that_supports_it() -> None:
    pairs = matrix.pairs([interpreter(3, 11, 7), interpreter(3, 12, 1)])

    assert [str(pair) for pair in pairs] == [
        "Python 3.11.7, Django 5.2",
        "Python 3.12.1, Django 5.2",
        "Python 3.12.1, Django 6.0",
        "Python 3.12.1, Django 6.1",
    ]


def test_the_ends_are_the_oldest_and_the_newest_pair_without_the_pair_of_make_test() -> None:
    ours = Pair(interpreter(*OURS, 0), django.VERSION[:2])
    oldest, between, newest = (Pair(interpreter(9, minor, 0), (5, 2)) for minor in (1, 2, 3))

    assert matrix.ends([oldest, between, newest]) == [oldest, newest]
    assert matrix.ends([ours, between, newest]) == [newest]
    assert matrix.ends([oldest]) == [oldest]
    assert matrix.ends([ours]) == []


def test_the_series_of_django_are_those_of_the_requirements() -> None:
    requirements = (matrix.TOP / "requirements.txt").read_text()
    oldest, newest = min(matrix.PYTHONS), max(matrix.PYTHONS)

    assert f"django>={oldest[0]}.{oldest[1]}." in requirements
    assert f",<{newest[0]}.{newest[1] + 1} " in requirements


def test_failures_errors_and_skipped_tests_are_counted(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(OUTCOMES)
    pytest_alone = [sys.executable, "-m", "pytest", "-q", "-p", "no:django", "-p", "no:schemathesis"]

    subprocess.run([*pytest_alone, "--junitxml=report.xml"], cwd=tmp_path, capture_output=True, check=False)

    assert matrix.counts_in(tmp_path / "report.xml") == Counts(passed=2, failed=2, skipped=1)


def test_the_table_shows_each_pair_and_a_run_without_a_report_counts_as_failed(tmp_path: Path) -> None:
    pair = Pair(interpreter(3, 13, 2), (6, 1))
    complete = Result(pair, "6.1.3", Counts(3271, 0, 2), 150.4, succeeded=True)
    broken = Result(pair, "", matrix.counts_in(tmp_path / "none.xml"), 0, succeeded=False)

    assert list(matrix.table([complete, broken]))[2:] == [
        "| 3.13.2 | 6.1.3 | 3271 | 0 | 2 | 150 |",
        "| 3.13.2 |  | 0 | 1 | 0 | 0 |",
    ]


def test_without_another_pair_there_is_nothing_to_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(matrix, "PYTHONS", {django.VERSION[:2]: [OURS]})

    matrix.matrix("--ends")

    assert "only the pair of .venv" in capsys.readouterr().out


def test_a_word_that_no_pair_has_is_an_error() -> None:
    with pytest.raises(StartError, match=r"No pair of Python and Django is left to run here: 2\.7"):
        matrix.matrix("2.7")


def test_a_failed_pair_makes_the_command_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = Interpreter(Path(sys.executable), sys.version_info[:3])
    (tmp_path / "test_it.py").write_text(OUTCOMES)
    monkeypatch.setattr(matrix, "interpreters", lambda _: [python])
    monkeypatch.setattr(matrix, "PYTHONS", {django.VERSION[:2]: [OURS]})
    monkeypatch.setattr(matrix, "FOLDER", tmp_path)
    monkeypatch.setattr(matrix, "_install", lambda pair, venv: _our_packages(venv))
    monkeypatch.setattr(
        matrix, "PYTEST", ["-q", "-p", "no:django", "-p", "no:schemathesis", "-c", "/dev/null"]
    )

    with pytest.raises(StartError, match="The tests failed with Python"):
        matrix.matrix(str(tmp_path / "test_it.py"))


def _our_packages(venv: Path) -> str:
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    return django.get_version()
