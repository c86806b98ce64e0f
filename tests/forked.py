"""Our server in a process of its own, forked from one that has imported what is heavy already.

Those imports are four fifths of its start, and the suite starts it some thirty times.
"""

import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

from chatbackend.dev.processes import wait_until_it_answers

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.heavy"])


class _Server:
    """A process of multiprocessing's, in the words of subprocess."""

    def __init__(self, process: BaseProcess) -> None:
        self._process = process

    def poll(self) -> int | None:
        return self._process.exitcode

    @property
    def returncode(self) -> int:
        return self._process.exitcode or 0


@contextmanager
def uvicorn(arguments: Sequence[str], env: Mapping[str, str], port: int, log: Path) -> Iterator[None]:
    """``python -m uvicorn`` with these arguments, until the end of the block. It writes to ``log``."""
    process = _forks.Process(target=_serve, args=([*arguments], dict(env), str(log)), daemon=True)
    process.start()
    try:
        wait_until_it_answers(_Server(process), port, "/support/health", "[api]", log.read_text)
        yield
    finally:
        process.terminate()
        process.join(10)
        if process.is_alive():
            process.kill()
        process.join()
        process.close()


def _serve(arguments: list[str], env: dict[str, str], log: str) -> None:
    os.setsid()  # the terminal's Ctrl-C is for the tests
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.environ.clear()
    os.environ |= env
    sys.path[:0] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    from uvicorn.main import main

    main(arguments)
