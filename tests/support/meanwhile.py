"""A call that is under way while somebody else holds what it needs."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
from django.db import connections


def commit_meanwhile(elsewhere: psycopg.Connection[Any], call: Callable[[], Any]) -> None:
    """Begin the call; when it waits for a lock of this connection, commit. Raises what the call raises."""

    def in_thread() -> None:
        try:
            call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:
        calling = thread.submit(in_thread)
        try:
            wait_for_lock(elsewhere)
        finally:
            elsewhere.commit()
    calling.result()


def wait_for_lock(elsewhere: psycopg.Connection[Any]) -> None:
    """Until somebody waits for what this connection holds."""
    limit = time.monotonic() + 15
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    while elsewhere.execute(waiting).fetchone() == (0,):
        assert time.monotonic() < limit, "nobody waits"
        time.sleep(0.01)
