"""``make matrix``: runs the core of the tests with each Python of this machine and each Django that it runs.

Each pair has its own virtual environment in .local/matrix/, with the newest packages that requirements.txt
allows. The programs, such as Redis, are those of ``make test``.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import django

from chatbackend.dev.processes import TOP, StartError, child, run_command, say

Version = tuple[int, ...]

# Django's series in requirements.txt, each with its Pythons, as Django's release notes say.
PYTHONS = {
    (5, 2): [(3, 11), (3, 12), (3, 13), (3, 14)],
    (6, 0): [(3, 12), (3, 13), (3, 14)],
    (6, 1): [(3, 12), (3, 13), (3, 14)],
}
# Without the tests of the page, documents, image and benchmarks. They hardly depend on the versions.
CORE = ["tests/authn", "tests/support", "tests/runtime"]
PYTEST = ["-q", "-p", "no:cacheprovider", "-n", "4", "--dist", "loadfile", "--no-loadscope-reorder"]
STRICT = {"PYTHONDEVMODE": "1", "PYTHONMALLOC": "default"}  # as in the Makefile

FOLDER = TOP / ".local" / "matrix"
# Fails in an interpreter that cannot make virtual environments, and in a shim of pyenv that leads nowhere.
PROBE = "import ensurepip, sys, venv; print(*sys.version_info[:3])"


@dataclass(frozen=True)
class Interpreter:
    path: Path
    version: Version


@dataclass(frozen=True)
class Pair:
    python: Interpreter
    django: Version  # a series

    def __str__(self) -> str:
        return f"Python {_dotted(self.python.version)}, Django {_dotted(self.django)}"


@dataclass(frozen=True)
class Counts:
    passed: int
    failed: int
    skipped: int


@dataclass(frozen=True)
class Result:
    pair: Pair
    django: str  # the exact version; empty if it could not be installed
    counts: Counts
    seconds: float
    succeeded: bool


def matrix(*options: str) -> None:
    """Run the tests of each pair, and print a table. Raises ``StartError`` if a test fails.

    ``options``: ``--ends`` runs only the oldest and the newest pair, without the pair of .venv, because `make
    test` runs it. Other options are paths of tests in place of ``CORE``, or words such as ``3.13`` or
    ``Django 6.1`` that the pair must have.
    """
    paths = [each for each in options if (TOP / each.partition("::")[0]).exists()]
    words = [each for each in options if each not in paths and each != "--ends"]
    chosen = pairs(interpreters(_search_path()))
    if "--ends" in options:
        chosen = ends(chosen)
        if not chosen:
            say("The machine has only the pair of .venv, which `make test` runs.")
            return
    chosen = [pair for pair in chosen if all(word in str(pair) for word in words)]
    if not chosen:
        raise StartError(f"No pair of Python and Django is left to run here: {' '.join(options)}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    results = [_run(pair, paths or CORE) for pair in chosen]
    say("", *table(results))
    if failed := [str(each.pair) for each in results if not each.succeeded]:
        raise StartError(f"The tests failed with {'; '.join(failed)}. The logs are in {FOLDER}.")


def interpreters(folders: Iterable[Path]) -> list[Interpreter]:
    """Return the newest interpreter of each series that Django supports, oldest first."""
    supported = {python for pythons in PYTHONS.values() for python in pythons}
    programs = dict.fromkeys(
        path
        for folder in folders
        for series in sorted(supported)
        if os.access(path := folder / f"python{_dotted(series)}", os.X_OK)
    )
    with ThreadPoolExecutor() as threads:
        found = [each for each in threads.map(_interpreter, programs) if each]
    newest: dict[Version, Interpreter] = {}
    for each in found:
        series = each.version[:2]
        if series in supported and (series not in newest or each.version > newest[series].version):
            newest[series] = each
    return [newest[series] for series in sorted(newest)]


def pairs(pythons: Sequence[Interpreter]) -> list[Pair]:
    """Return each Python with each Django that supports it: oldest Python first, then oldest Django."""
    return [
        Pair(python, django)
        for python in pythons
        for django in PYTHONS
        if python.version[:2] in PYTHONS[django]
    ]


def ends(all_pairs: Sequence[Pair]) -> list[Pair]:
    """Return the oldest and the newest pair, without the pair that this process runs with."""
    ours = (sys.version_info[:2], django.VERSION[:2])
    chosen = dict.fromkeys([*all_pairs[:1], *all_pairs[-1:]])
    return [pair for pair in chosen if (pair.python.version[:2], pair.django) != ours]


def table(results: Sequence[Result]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield "| Python | Django | passed | failed | skipped | seconds |"
    yield "|---|---|---|---|---|---|"
    for each in results:
        python, counts = _dotted(each.pair.python.version), each.counts
        cells = [python, each.django, counts.passed, counts.failed, counts.skipped, round(each.seconds)]
        yield f"| {' | '.join(map(str, cells))} |"


def counts_in(report: Path) -> Counts:
    """Return the counts of pytest's JUnit report. If pytest has written none, one test has failed."""
    if not report.exists():
        return Counts(0, 1, 0)
    [suite] = ElementTree.parse(report).getroot()  # noqa: S314 - our own pytest has written it
    total, failures, errors, skipped = (
        int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")
    )
    return Counts(total - failures - errors - skipped, failures + errors, skipped)


def _search_path() -> list[Path]:
    """Return the folders of this Python, of pyenv, and of PATH."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return [Path(sys.base_prefix, "bin"), *pyenv.glob("versions/*/bin"), *map(Path, path)]


def _interpreter(path: Path) -> Interpreter | None:
    probe = [str(path), "-c", PROBE]
    try:
        done = subprocess.run(probe, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return Interpreter(path, tuple(map(int, done.stdout.split())))


def _run(pair: Pair, paths: Sequence[str]) -> Result:
    name = f"python{_dotted(pair.python.version)}-django{_dotted(pair.django)}"
    venv, report, log = FOLDER / name, FOLDER / f"{name}.xml", FOLDER / f"{name}.log"
    report.unlink(missing_ok=True)
    say(f"{pair} …")
    try:
        installed = _install(pair, venv)
    except StartError as exc:
        say(str(exc))
        return Result(pair, "", counts_in(report), 0, succeeded=False)
    began = time.monotonic()
    env = os.environ | STRICT
    command = [str(venv / "bin" / "python"), "-m", "pytest", *PYTEST, f"--junitxml={report}", *paths]
    with log.open("w") as output, child(command, cwd=TOP, env=env, stdout=output) as process:
        process.wait()
    seconds = time.monotonic() - began
    if process.returncode:
        say(*log.read_text().splitlines()[-60:])
    return Result(pair, installed, counts_in(report), seconds, succeeded=process.returncode == 0)


def _install(pair: Pair, venv: Path) -> str:
    """Install the newest packages for the pair. Returns the exact version of Django."""
    python = venv / "bin" / "python"
    if not python.exists():
        shutil.rmtree(venv, ignore_errors=True)
        run_command([str(pair.python.path), "-m", "venv", str(venv)])
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    newest = ["--upgrade", "--upgrade-strategy", "eager"]
    run_command([*pip, *newest, "-r", str(TOP / "requirements-dev.txt"), f"django=={_dotted(pair.django)}.*"])
    return run_command([str(python), "-m", "django", "--version"]).strip()


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
