"""Runs other programs: commands, and servers that end when our process ends."""

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

# With this prefix, Linux ends a program if our process is killed. Linux also ends it when the thread that
# started it ends, so start programs in the main thread.
DIE_WITH_PARENT = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []


class StartError(RuntimeError):
    """A program could not be started, or failed. The message is for the user at the terminal."""


def say(*lines: str) -> None:
    """Print without buffering, also into a pipe."""
    print(*lines, sep="\n", flush=True)


def run_command(command: Sequence[str], **options: Any) -> str:
    """Run a command to its end and return its output. If it fails, ``StartError`` contains the output."""
    options |= {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, text=True, errors="replace", check=False, **options)
    if done.returncode:
        raise StartError(f"{done.stdout}\nThis failed, with status {done.returncode}: {shlex.join(command)}")
    return str(done.stdout)


@contextmanager
def server(
    name: str, command: Sequence[str], env: Mapping[str, str], port: int, path: str, *, show: bool
) -> Iterator[Popen[str]]:
    """Start an HTTP server on the loopback address, and wait until ``path`` answers.

    ``show``: print the server's output, with ``name`` before each line. Without ``show``, the message of
    ``StartError`` contains the end of the output if the server does not start.
    """
    printed: deque[str] = deque(maxlen=200)

    def read_output() -> None:
        for line in process.stdout or []:
            printed.append(line)
            if show:
                print(f"[{name}] {line}", end="", flush=True)

    with child(command, env=env, cwd=TOP, stdout=subprocess.PIPE) as process:
        reader = Thread(target=read_output, daemon=True)
        reader.start()
        try:
            wait_until_it_answers(process, port, path, f"[{name}]", lambda: "" if show else "".join(printed))
            yield process
        finally:
            terminate(process)
            reader.join()


@contextmanager
def child(command: Sequence[str], *, stop: int = signal.SIGTERM, **options: Any) -> Iterator[Popen[str]]:
    """Run a program in its own process group. At the end of the block, send ``stop`` to the whole group.

    Ctrl-C in the terminal reaches only our own process group. So we can choose the order of the shutdown.
    """
    options |= {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "start_new_session": True}
    with Popen([*DIE_WITH_PARENT, *command], text=True, errors="replace", **options) as process:
        try:
            yield process
        finally:
            terminate(process, stop)


def terminate(process: Popen[str], stop: int = signal.SIGTERM) -> None:
    """Send ``stop`` to the process group, and SIGKILL if the process has not ended after ten seconds."""
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
    """Wait until ``ready()`` is true. Raises ``StartError`` if the process ends first, or after a minute.

    ``printed``: returns the output of the process for the message.
    """
    limit = time.monotonic() + 60
    while not ready():
        if process.poll() is not None:
            raise StartError(f"{name} did not start: it {describe_exit(process)}.\n{printed()}")
        if time.monotonic() > limit:
            raise StartError(f"{name} did not answer within a minute.\n{printed()}")
        time.sleep(0.1)


def describe_exit(process: Process) -> str:
    """Return the end of a sentence that begins with the name of the process."""
    status = process.returncode
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


@contextmanager
def locked(folder: Path, error: str) -> Iterator[None]:
    """Lock the folder during the block. Raises ``StartError(error)`` if another process has locked it."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(error) from None
        yield


def load_secret(file: Path) -> str:
    """Return the random secret in the file. Creates the file at the first call."""
    if not file.exists():
        write_private(file, secrets.token_urlsafe(48))
    return file.read_text()


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read. No reader can see an incomplete file."""
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    part.write_text(text)
    part.rename(file)


def free_port() -> int:
    """Return a port of the loopback address that was free a moment ago."""
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
