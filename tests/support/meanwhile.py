"""A call that is under way while somebody else holds what it needs."""

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
from django.db import connections


class InThread:
    """A call under way beside the test."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run, args=[call])

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception as exc:
            self.error = exc
        finally:
            connections.close_all()

    def __enter__(self) -> "InThread":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.join(10)

    def result(self) -> None:
        if self.error:
            raise self.error


def wait_for_lock(elsewhere: psycopg.Connection[Any]) -> None:
    """Until somebody waits for what this connection holds."""
    limit = time.monotonic() + 15
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    while elsewhere.execute(waiting).fetchone() == (0,):
        assert time.monotonic() < limit, "nobody waits"
        time.sleep(0.01)
