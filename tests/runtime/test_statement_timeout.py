"""The time limit of statements, the circuit breaker of connections, and outdated prepared statements."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.db import NotSupportedError, OperationalError, connection, transaction

from chatbackend.dev.processes import free_port
from runtime.outages import is_outage
from runtime.postgresql import statement_timeout

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def timeout_seconds(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(statement_timeout, "timeout_seconds", 0.3)
    return 0.3


@pytest.mark.usefixtures("timeout_seconds")
def test_a_slow_statement_is_cancelled_and_its_connection_stays_open() -> None:
    connection.ensure_connection()
    process_id = connection.connection.info.backend_pid

    with connection.cursor() as cursor, pytest.raises(OperationalError, match="canceling statement"):
        cursor.execute("SELECT pg_sleep(60)")

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        assert cursor.fetchone() == (process_id,)


@pytest.fixture
def silent_server() -> Iterator[int]:
    """A port whose server accepts connections and never sends anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def is_tried(port: int) -> bool:
    """Whether ``connect`` waits for the server, until its timeout. If not, it raises at once."""
    with pytest.raises(psycopg.OperationalError) as raised:
        statement_timeout.connect(**host_and_port(port), user="x", connect_timeout=2)
    return isinstance(raised.value, psycopg.errors.ConnectionTimeout)


def host_and_port(port: int) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port}


def test_one_thread_at_a_time_tries_a_silent_server(silent_server: int) -> None:
    all_threads = threading.Barrier(4)

    def is_tried_at_once(_number: int) -> bool:
        all_threads.wait()
        return is_tried(silent_server)

    first, second = is_tried(silent_server), is_tried(silent_server)
    statement_timeout.breaker_of(host_and_port(silent_server))._next_try_at = 0.0
    with ThreadPoolExecutor(4) as threads:
        tries = list(threads.map(is_tried_at_once, range(4)))

    assert (first, second) == (True, False)
    assert sum(tries) == 1


def test_a_server_that_refuses_connections_closes_the_circuit_breaker() -> None:
    port = free_port()
    breaker = statement_timeout.breaker_of(host_and_port(port))
    breaker.failed(OperationalError("silent"))
    with pytest.raises(psycopg.OperationalError, match="a moment ago"):
        statement_timeout.connect(**host_and_port(port))

    breaker._next_try_at = 0.0
    with pytest.raises(psycopg.OperationalError, match="refused"):
        statement_timeout.connect(**host_and_port(port))

    assert breaker.is_closed


def test_an_outdated_prepared_statement_is_run_again_and_its_connection_is_replaced(
    postgres_url: str,
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE changing (a int)")
        for _ in range(7):
            cursor.execute("SELECT * FROM changing")
        first_connection = connection.connection
        with psycopg.connect(postgres_url) as other_connection:
            other_connection.execute("ALTER TABLE changing ALTER a TYPE text")

        cursor.execute("SELECT * FROM changing")
        cursor.execute("DROP TABLE changing")

    connection.close_if_unusable_or_obsolete()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")

    assert connection.connection is not first_connection


def test_an_outdated_prepared_statement_in_a_transaction_raises(postgres_url: str) -> None:
    """The earlier statements of the transaction are lost, so its caller must run all of them again."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE changing (a int)")
        for _ in range(7):
            cursor.execute("SELECT * FROM changing")
        with psycopg.connect(postgres_url) as other_connection:
            other_connection.execute("ALTER TABLE changing ALTER a TYPE text")
        with pytest.raises(NotSupportedError) as raised, transaction.atomic():
            cursor.execute("SELECT * FROM changing")
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE changing")

    assert is_outage(raised.value)
    assert not is_outage(NotSupportedError())
