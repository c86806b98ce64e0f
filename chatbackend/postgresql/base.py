"""Django's PostgreSQL backend, for connections that a thread keeps."""

import select

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    def init_connection_state(self) -> None:
        """Statements are prepared on the server's own connections, and on no pooler's (pgbouncer, Neon's
        pooled address): with each transaction that gives us another, which knows nothing of them."""
        super().init_connection_state()
        with self.connection.cursor() as cursor:
            (process_id,) = cursor.execute("SELECT pg_backend_pid()").fetchone()
        if process_id != self.connection.info.backend_pid:  # of whom we are really connected to
            self.connection.prepare_threshold = None

    def is_usable(self) -> bool:
        """Whether the server has not hung up since it was last asked. Without a round trip, which Django's
        own takes: one that hangs up says so, and one that is there has nothing to say to an idle client."""
        if self.errors_occurred or self.connection is None or self.connection.closed:
            return False  # after an error a new one: a statement prepared for a changed table stays wrong
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLIN)
        return not poll.poll(0) or bool(super().is_usable())
