"""Programs we start: steps that finish, and servers that end with us."""

import fcntl
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from subprocess import Popen
from threading import Thread
from typing import Any, Protocol

TOP = Path(__file__).resolve().parents[2]

# Should we be killed outright, Linux ends our children with us. (Strictly, when the thread that
# started them ends: start them from the main thread.)
DIE_WITH_PARENT = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []


class StartError(RuntimeError):
    """Something could not be started; the message is for the person at the terminal."""


def say(*lines: str) -> None:
    """Print, at once, even into a pipe."""
    print(*lines, sep="\n", flush=True)


def run_command(command: Sequence[str], **options: Any) -> str:
    """Run a step and return what it printed, which is worth showing only when it fails."""
    options |= {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    step = subprocess.run(command, text=True, errors="replace", check=False, **options)
    if step.returncode:
        raise StartError(f"{step.stdout}\nThis failed, with status {step.returncode}: {shlex.join(command)}")
    return str(step.stdout)


@contextmanager
def server(
    name: str, command: Sequence[str], env: Mapping[str, str], port: int, path: str, *, show: bool
) -> Iterator[Popen[str]]:
    """Start an HTTP server on the loopback address and wait until ``path`` answers.

    ``show``: print what it prints as it comes, after its name. Otherwise the end of it is in the
    ``StartError`` of a server that did not come up.
    """
    printed: deque[str] = deque(maxlen=200)

    def listen() -> None:
        for line in process.stdout or []:
            printed.append(line)
            if show:
                print(f"[{name}] {line}", end="", flush=True)

    with child(command, env=env, cwd=TOP, stdout=subprocess.PIPE) as process:
        listener = Thread(target=listen, daemon=True)
        listener.start()
        try:
            wait_until_it_answers(process, port, path, f"[{name}]", lambda: "" if show else "".join(printed))
            yield process
        finally:
            terminate(process)
            listener.join()


@contextmanager
def child(command: Sequence[str], *, stop: int = signal.SIGTERM, **options: Any) -> Iterator[Popen[str]]:
    """Run a program in a process group of its own, and in the end ``stop`` the whole group.

    Its own, so that the terminal's Ctrl-C reaches us alone and we choose the order of the end.
    """
    options |= {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "start_new_session": True}
    with Popen([*DIE_WITH_PARENT, *command], text=True, errors="replace", **options) as process:
        try:
            yield process
        finally:
            terminate(process, stop)


def terminate(process: Popen[str], stop: int = signal.SIGTERM) -> None:
    """Ask the process's group to end, and after ten seconds insist."""
    for number in (stop, signal.SIGKILL):
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(timeout=10)


class Process(Protocol):
    @property
    def returncode(self) -> int: ...

    def poll(self) -> int | None: ...


def wait_until_it_answers(
    process: Process, port: int, path: str, name: str, printed: Callable[[], str]
) -> None:
    wait_until(lambda: _answers(port, path), process, name, printed)


def wait_until(ready: Callable[[], bool], process: Process, name: str, printed: Callable[[], str]) -> None:
    """Return once ``ready``; ``StartError`` when the process ends first or a minute has passed."""
    limit = time.monotonic() + 60
    while not ready():
        if process.poll() is not None:
            raise StartError(f"{name} did not start: it {describe_exit(process)}.\n{printed()}")
        if time.monotonic() > limit:
            raise StartError(f"{name} did not answer within a minute.\n{printed()}")
        time.sleep(0.1)


def describe_exit(process: Process) -> str:
    """Say it in words that follow the process's name."""
    status = process.returncode
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


@contextmanager
def locked(folder: Path, otherwise: str) -> Iterator[None]:
    """Hold the folder, or raise ``StartError(otherwise)``. The lock ends with the process, in any case."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(otherwise) from None
        yield


def load_secret(file: Path) -> str:
    """A random value, made the first time it is asked for; the file is its owner's alone."""
    if not file.exists():
        write_private(file, secrets.token_urlsafe(48))
    return file.read_text()


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read, never a half of it."""
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    part.write_text(text)
    part.rename(file)


def free_port() -> int:
    """A port of the loopback address that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int, path: str) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        with connection.getresponse() as response:
            return response.status < 500
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
