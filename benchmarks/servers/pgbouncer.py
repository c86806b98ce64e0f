"""PgBouncer in transaction mode, in front of the benchmark's PostgreSQL."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from chatbackend.dev.postgres import system_user
from chatbackend.dev.processes import StartError, child, free_port, wait_until

# Debian installs it in a folder that is not in everybody's PATH.
PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
POOL_SIZE = 8  # connections to PostgreSQL, for the 20 of four workers

CONFIGURATION = """
[databases]
{dbname} = host={host} port={port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users.txt
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 200
"""


@contextmanager
def pgbouncer(database_url: str) -> Iterator[str]:
    """Run PgBouncer, and yield the URL of the same database through it."""
    if PGBOUNCER is None:
        raise StartError("pgbouncer is missing. Debian and Ubuntu have it: apt install pgbouncer")
    server, port = conninfo_to_dict(database_url), free_port()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgbouncer-")))
        users, configuration = folder / "users.txt", folder / "pgbouncer.ini"
        users.write_text(f'"{server["user"]}" "{server["password"]}"\n')
        configuration.write_text(
            CONFIGURATION.format(**server, listen_port=port, folder=folder, pool_size=POOL_SIZE)
        )
        owner: dict[str, Any] = {}
        if os.getuid() == 0:  # PgBouncer refuses to run as root
            user = system_user()
            owner = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            for path in (folder, users, configuration):
                os.chown(path, user.pw_uid, user.pw_gid)
        log = stack.enter_context((folder / "log").open("w+"))
        process = stack.enter_context(
            child([PGBOUNCER, str(configuration)], cwd="/", stdout=log, stderr=log, **owner)
        )
        url = (
            f"postgresql://{server['user']}:{server['password']}@127.0.0.1:{port}/{server['dbname']}"
            "?sslmode=disable"
        )
        wait_until(lambda: _answers(url), process, "pgbouncer", (folder / "log").read_text)
        yield url


def prepared_statements(url: str) -> int:
    """Count the prepared statements of the pooler's connections to PostgreSQL.

    Transactions at the same time have different connections. So this looks at all that are idle.
    """
    with ExitStack() as stack:
        count = 0
        for _ in range(POOL_SIZE):
            connection = stack.enter_context(psycopg.connect(url, prepare_threshold=None))
            row = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
            count += row[0] if row else 0
        return count


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True
