"""Django's PostgreSQL backend, for connections that a thread keeps."""

import select
from collections.abc import Sequence
from typing import Any

import psycopg
from django.db.backends.postgresql import base
from psycopg import Cursor

from runtime.postgresql import statement_timeout
from runtime.postgresql.out_of_range_dates import read_out_of_range_dates


class DatabaseWrapper(base.DatabaseWrapper):
    Database = statement_timeout
    _kept: "Cursor[Any] | None" = None

    def get_connection_params(self) -> dict[str, Any]:
        params: dict[str, Any] = super().get_connection_params()
        if params["cursor_factory"] is base.ServerBindingCursor:
            params["cursor_factory"] = statement_timeout.Cursor
        return params

    def init_connection_state(self) -> None:
        """Statements are prepared on the server's own connections, and on no pooler's (pgbouncer, Neon's
        pooled address): with each transaction that gives us another, which knows nothing of them."""
        super().init_connection_state()
        with self.connection.cursor() as cursor:
            (process_id,) = cursor.execute("SELECT pg_backend_pid()").fetchone()
        if process_id != self.connection.info.backend_pid:  # of whom we are really connected to
            self.connection.prepare_threshold = None
        own = self.connection.adapters
        read_out_of_range_dates(own, own, self.timezone)

    def is_usable(self) -> bool:
        """Whether the server has not hung up since it was last asked. Without a round trip, which Django's
        own takes: one that hangs up says so, and one that is there has nothing to say to an idle client."""
        if self.errors_occurred or self.connection is None or self.connection.closed:
            return False
        if self.connection.is_outdated:  # what was prepared for a changed table stays wrong
            return False
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLIN)
        return not poll.poll(0) or bool(super().is_usable())

    def rows_of(self, sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        """As a cursor's ``fetchall`` gives them, at half the cost: on one cursor for all statements, where
        Django makes and wraps one for each, and with moments read by psycopg's C, not Django's Python."""
        self.validate_thread_sharing()
        self.close_if_health_check_failed()
        self.ensure_connection()
        if self.queries_logged or self.execute_wrappers:  # somebody looks on, perhaps since it is connected
            with self.cursor() as cursor:
                cursor.execute(sql, params)
                return list(cursor.fetchall())
        with self.wrap_database_errors:
            if self._kept is None or self._kept.connection is not self.connection:
                self._kept = self.connection.cursor()
                read_out_of_range_dates(self._kept.adapters, psycopg.adapters, self.timezone)
            rows: list[tuple[Any, ...]] = self._kept.execute(sql, params).fetchall()
            return rows
