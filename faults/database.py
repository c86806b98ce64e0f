"""A PostgreSQL to be mistreated, and what happens to one in a night: blocks, at whose end it is over."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

import psycopg

from chatbackend.dev.postgres import postgres_process
from chatbackend.dev.processes import terminate, wait_until

CONNECTIONS = 30  # of the server, three of them for superusers, such as ours


@contextmanager
def database(folder: Path) -> Iterator["Database"]:
    """A new one, thrown away in the end. What it has acknowledged it keeps, unless the machine stops."""
    with postgres_process(folder, throwaway=True) as (process, url), ExitStack() as stack:
        running = Database(process, url)
        stack.callback(lambda: terminate(running.process, signal.SIGINT))
        with running.connected() as connection:
            connection.execute("ALTER DATABASE chatbackend SET synchronous_commit = on")
            connection.execute(f"ALTER SYSTEM SET max_connections = {CONNECTIONS}")
        running.stop()
        running.start()
        yield running


class Database:
    def __init__(self, process: Popen[str], url: str) -> None:
        self.process, self.url = process, url
        user = os.stat(f"/proc/{process.pid}")
        self._owner = {"user": user.st_uid, "group": user.st_gid, "extra_groups": []}

    @contextmanager
    def connected(self) -> Iterator["psycopg.Connection[Any]"]:
        with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as connection:
            yield connection

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        self.process.send_signal(how)
        self.process.wait(30)

    def start(self) -> None:
        options: dict[str, Any] = {"cwd": "/", "env": {"LC_ALL": "C"}, "start_new_session": True}
        if os.geteuid() == 0:
            options |= self._owner
        self.process = Popen(self.process.args, text=True, stdout=DEVNULL, stderr=DEVNULL, **options)
        wait_until(self._answers, self.process, "PostgreSQL", lambda: "")

    def _answers(self) -> bool:
        with suppress(psycopg.OperationalError), self.connected():
            return True
        return False

    def processes(self) -> list[int]:
        """With its helpers: all that is of its session's parent."""
        own = [self.process.pid]
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdecimal():
                    fields = (entry / "stat").read_text().rpartition(") ")[2].split()
                    own += [int(entry.name)] * (int(fields[1]) == self.process.pid)
        return own


# --- What happens to it ---------------------------------------------------------------------------

Fault = Callable[[Database], AbstractContextManager[None]]


@contextmanager
def stopped(database: Database) -> Iterator[None]:
    database.stop()
    try:
        yield
    finally:
        database.start()


@contextmanager
def restarted(database: Database) -> Iterator[None]:
    database.stop()
    database.start()
    yield


@contextmanager
def suspended(database: Database) -> Iterator[None]:
    """Every connection is killed, and new ones are taken: as Neon does with a compute, and a failover."""
    with database.connected() as connection:
        connection.execute(TAKE, [[connection.info.backend_pid]])
    yield


@contextmanager
def crashed(database: Database) -> Iterator[None]:
    """One process of it dies, so that all do: until it has recovered it says that it is starting up."""
    with database.connected() as connection:
        os.kill(connection.info.backend_pid, signal.SIGKILL)
        with suppress(psycopg.OperationalError):
            connection.execute("SELECT")
    yield


@contextmanager
def frozen(database: Database) -> Iterator[None]:
    """It neither answers nor hangs up."""
    processes: list[int] = []
    while more := set(database.processes()) - set(processes):  # it may be making one
        for pid in sorted(more):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        processes += more
    try:
        yield
    finally:
        for pid in database.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def locked(database: Database, table: str = '"session"') -> Iterator[None]:
    """Statements take for ever, as behind somebody's ALTER TABLE."""
    with psycopg.connect(database.url) as connection:
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()


@contextmanager
def full(database: Database) -> Iterator[None]:
    """Every connection is somebody else's."""
    url = f"{database.url.rpartition('/')[0]}/postgres"  # of all databases together there are so many
    with ExitStack() as stack:
        first = stack.enter_context(psycopg.connect(url, autocommit=True))
        # Whoever is sent away would be back before we have taken their place.
        first.execute("ALTER DATABASE chatbackend ALLOW_CONNECTIONS false")
        first.execute(TAKE, [[first.info.backend_pid]])
        with suppress(psycopg.OperationalError):  # none is left
            while True:
                stack.enter_context(psycopg.connect(url))
        first.execute("ALTER DATABASE chatbackend ALLOW_CONNECTIONS true")
        yield


TAKE = """
    SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity
    WHERE datname IS NOT NULL AND NOT pid = ANY(%s)
"""


@contextmanager
def read_only(database: Database) -> Iterator[None]:
    """As a standby is, before it is promoted."""
    _set(database, "default_transaction_read_only", "on")
    try:
        yield
    finally:
        _set(database, "default_transaction_read_only", "off")


@contextmanager
def out_of_disk(database: Database) -> Iterator[None]:
    """Whatever is written is refused in PostgreSQL's words for that; the disk itself is nobody's to fill."""
    with database.connected() as connection:
        connection.execute(FULL_DISK)
        try:
            yield
        finally:
            connection.execute("DROP FUNCTION full_disk CASCADE")


FULL_DISK = """
    CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
    END $$;
    CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON support_thread EXECUTE FUNCTION full_disk();
    CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON support_item EXECUTE FUNCTION full_disk();
"""


def _set(database: Database, name: str, value: str) -> None:
    with database.connected() as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"ALTER SYSTEM SET {name} = {value}")
        connection.execute("SELECT pg_reload_conf()")
    time.sleep(0.1)  # until every process of it has read that
