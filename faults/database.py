"""A PostgreSQL for experiments, and its faults. Each fault is a context manager that ends the fault."""

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

CONNECTIONS = 30  # max_connections; three of them are reserved for superusers


@contextmanager
def database(folder: Path) -> Iterator["Database"]:
    """A new server, removed at the end. Acknowledged commits survive its crash, but not the machine's."""
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
        """The ids of the server process and of its children."""
        own = [self.process.pid]
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdecimal():
                    fields = (entry / "stat").read_text().rpartition(") ")[2].split()
                    own += [int(entry.name)] * (int(fields[1]) == self.process.pid)
        return own


# --- Faults ---------------------------------------------------------------------------------------

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
    """All connections are killed, and new ones are accepted: a suspended Neon compute, or a failover."""
    with database.connected() as connection:
        connection.execute(TERMINATE_OTHERS, [[connection.info.backend_pid]])
    yield


@contextmanager
def crashed(database: Database) -> Iterator[None]:
    """One server process is killed, so PostgreSQL ends all and recovers. Meanwhile it refuses connections."""
    with database.connected() as connection:
        os.kill(connection.info.backend_pid, signal.SIGKILL)
        with suppress(psycopg.OperationalError):
            connection.execute("SELECT")
    yield


@contextmanager
def frozen(database: Database) -> Iterator[None]:
    """The server does not answer, and its connections stay open."""
    processes: list[int] = []
    while more := set(database.processes()) - set(processes):  # it may have forked meanwhile
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
    """Statements wait without end, as behind an ALTER TABLE."""
    with psycopg.connect(database.url) as connection:
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()


@contextmanager
def full(database: Database) -> Iterator[None]:
    """Other clients use all connections."""
    url = f"{database.url.rpartition('/')[0]}/postgres"  # the limit is for all databases together
    with ExitStack() as stack:
        first = stack.enter_context(psycopg.connect(url, autocommit=True))
        # Without this, the server's connections would return before ours take all places.
        first.execute("ALTER DATABASE chatbackend ALLOW_CONNECTIONS false")
        first.execute(TERMINATE_OTHERS, [[first.info.backend_pid]])
        with suppress(psycopg.OperationalError):  # raised when no connection is left
            while True:
                stack.enter_context(psycopg.connect(url))
        first.execute("ALTER DATABASE chatbackend ALLOW_CONNECTIONS true")
        yield


TERMINATE_OTHERS = """
    SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity
    WHERE datname IS NOT NULL AND NOT pid = ANY(%s)
"""


@contextmanager
def read_only(database: Database) -> Iterator[None]:
    """Like a standby before it is promoted."""
    _set(database, "default_transaction_read_only", "on")
    try:
        yield
    finally:
        _set(database, "default_transaction_read_only", "off")


@contextmanager
def out_of_disk(database: Database) -> Iterator[None]:
    """Triggers raise PostgreSQL's error for a full disk at every write. The real disk is not filled."""
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
    time.sleep(0.1)  # until every server process has read the new value
