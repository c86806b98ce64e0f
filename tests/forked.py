"""Our server and our programs in processes of their own, forked from one that has imported what is heavy.

Those imports are nine tenths of what a start costs, and the suite has some eighty of them.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from chatbackend.dev.processes import TOP, wait_until_it_answers
from tests.environment import of_a_process

PATIENCE_SECONDS = 180

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.heavy"])


class Forked:
    """A process of multiprocessing's, in the words of subprocess."""

    def __init__(self, process: BaseProcess) -> None:
        self._process = process

    def poll(self) -> int | None:
        return self._process.exitcode

    @property
    def returncode(self) -> int:
        return self._process.exitcode or 0

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


@contextmanager
def uvicorn(arguments: Sequence[str], env: Mapping[str, str], port: int, log: Path) -> Iterator[None]:
    """``python -m uvicorn`` with these arguments, until the end of the block. It writes to ``log``."""
    with _server(_serve, arguments, env, port, "/support/health", log):
        yield


@contextmanager
def runserver(env: Mapping[str, str], port: int, log: Path) -> Iterator[None]:
    """``python manage.py runserver``, but that it would not start again when a file has changed."""
    with _server(_manage, ["runserver", "--noreload", str(port)], env, port, "/support/health", log):
        yield


@contextmanager
def module(name: str, env: Mapping[str, str], port: int, log: Path) -> Iterator[Forked]:
    """``python -m`` with this module of ours, a server that needs no time to end, and its port."""
    with _server(_run_module, [f"tests.{name}", str(port)], env, port, "/", log) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def _server(
    target: Callable[[list[str]], Any],
    arguments: Sequence[str],
    env: Mapping[str, str],
    port: int,
    path: str,
    log: Path,
) -> Iterator[Forked]:
    process = _forked(target, [*arguments], env=env, output=[log])
    forked = Forked(process)
    try:
        wait_until_it_answers(forked, port, path, f"[{arguments[0]}]", log.read_text)
        yield forked
    finally:
        process.terminate()
        process.join(10)
        _end(process)


def manage(*arguments: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """``python manage.py`` with these arguments and variables, until it ends."""
    return _run_until_it_ends(_manage, [*arguments], stdin, env)


def python(program: str, **env: str) -> subprocess.CompletedProcess[str]:
    """``python -c`` with this program and these variables, until it ends.

    It finds imported what heavy.py imports: what it shows of ``sys.modules`` is of the rest.
    """
    return _run_until_it_ends(_execute, [program], "", env)


def _run_until_it_ends(
    target: Callable[[list[str]], Any], arguments: list[str], stdin: str, env: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    with TemporaryDirectory() as folder:
        given, *output = (Path(folder, name) for name in ("stdin", "stdout", "stderr"))
        given.write_text(stdin)
        process = _forked(target, arguments, env=of_a_process(**env), output=output, stdin=given)
        try:
            process.join(PATIENCE_SECONDS)
            if process.exitcode is None:
                raise subprocess.TimeoutExpired(arguments, PATIENCE_SECONDS)
            said = [file.read_text() for file in output]
            return subprocess.CompletedProcess(arguments, process.exitcode, *said)
        finally:
            _end(process)


def _forked(
    target: Callable[[list[str]], Any],
    arguments: list[str],
    *,
    env: Mapping[str, str],
    output: list[Path],
    stdin: Path | None = None,
) -> BaseProcess:
    """``output``: files for stdout and stderr, or one for both."""
    files = [str(stdin or os.devnull), str(output[0]), str(output[-1])]
    process = _forks.Process(target=_begin, args=(target, arguments, dict(env), files), daemon=True)
    process.start()
    return process


def _end(process: BaseProcess) -> None:
    if process.is_alive():
        process.kill()
    process.join()
    process.close()


# --- In the fork ----------------------------------------------------------------------------------


def _begin(
    target: Callable[[list[str]], Any], arguments: list[str], env: dict[str, str], files: list[str]
) -> None:
    os.setsid()  # the terminal's Ctrl-C is for the tests
    os.chdir(TOP)
    for number, file in enumerate(files):
        opened = os.open(file, os.O_RDWR | os.O_CREAT | (os.O_APPEND if number else 0))
        os.dup2(opened, number)
        os.close(opened)
    # multiprocessing is silent if an import in heavy.py has failed, and each fork would import everything
    # again.
    assert "tests.heavy" in sys.modules
    sys.stdin = open(0)  # noqa: SIM115  # multiprocessing has closed it
    os.environ.clear()
    os.environ |= env
    sys.path[:0] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    target(arguments)


def _serve(arguments: list[str]) -> None:
    from uvicorn import _subprocess
    from uvicorn.main import main

    # Where there are several workers they are forks in their turn: spawned, each would import all anew.
    multiprocessing.current_process().daemon = False
    _subprocess.spawn = multiprocessing.get_context("fork")  # type: ignore[assignment]
    main(arguments)


def _manage(arguments: list[str]) -> None:
    sys.argv = ["manage.py", *arguments]
    runpy.run_path("manage.py", run_name="__main__")


def _run_module(arguments: list[str]) -> None:
    sys.argv = [*arguments]
    runpy.run_module(arguments[0], run_name="__main__")


def _execute(arguments: list[str]) -> None:
    exec(arguments[0], {"__name__": "__main__"})
