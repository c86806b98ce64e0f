"""Django's PostgreSQL backend, for connections that are kept for a long time.

It adds three guarantees: no call waits for ever (``statement_timeout``), dates that Python cannot represent
do not fail (``out_of_range_dates``), and a connection is checked before each use without a query.
"""

import select
from typing import Any

from django.db.backends.postgresql import base

from runtime.postgresql import statement_timeout
from runtime.postgresql.out_of_range_dates import clamp_out_of_range_dates


class DatabaseWrapper(base.DatabaseWrapper):
    Database = statement_timeout

    def get_connection_params(self) -> dict[str, Any]:
        params: dict[str, Any] = super().get_connection_params()
        if params["cursor_factory"] is base.ServerBindingCursor:
            params["cursor_factory"] = statement_timeout.Cursor
        return params

    def init_connection_state(self) -> None:
        """Turn prepared statements off behind a pooler (PgBouncer, Neon's pooled address).

        A pooler may use another connection to PostgreSQL for each transaction. That connection does not have
        the statements which were prepared before.
        """
        super().init_connection_state()
        with self.connection.cursor() as cursor:
            (process_id,) = cursor.execute("SELECT pg_backend_pid()").fetchone()
        is_behind_pooler = process_id != self.connection.info.backend_pid
        if is_behind_pooler:
            self.connection.prepare_threshold = None
        clamp_out_of_range_dates(self.connection.adapters, self.timezone)

    def is_usable(self) -> bool:
        """Whether the server has not closed the connection. Usually without Django's query.

        A server that closes a connection sends a message first, so the socket becomes readable. A server
        sends nothing else to an idle client. If there is anything to read, Django's query decides.
        """
        if self.errors_occurred or self.connection is None or self.connection.closed:
            return False
        if self.connection.has_outdated_statements:
            return False
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLIN)
        return not poll.poll(0) or bool(super().is_usable())
