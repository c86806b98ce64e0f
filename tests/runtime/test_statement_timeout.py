"""Our connections: how long they wait, for whom, and what they tell each other."""

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
def test_a_statement_past_its_time_is_cancelled_and_its_connection_stays() -> None:
    connection.ensure_connection()
    before = connection.connection.info.backend_pid

    with connection.cursor() as cursor, pytest.raises(OperationalError, match="canceling statement"):
        cursor.execute("SELECT pg_sleep(60)")

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        assert cursor.fetchone() == (before,)


@pytest.fixture
def silent_server() -> Iterator[int]:
    """Takes connections, and says nothing to anybody."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def is_tried(port: int) -> bool:
    """Whether we wait for the server. If not, we get an error at once that it is silent."""
    with pytest.raises(psycopg.OperationalError) as told:
        statement_timeout.connect(**address(port), user="x", connect_timeout=2)
    return isinstance(told.value, psycopg.errors.ConnectionTimeout)


def address(port: int) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port}


def test_a_server_that_is_known_to_be_silent_is_tried_by_one_thread_at_a_time(silent_server: int) -> None:
    all_of_them = threading.Barrier(4)

    def is_tried_by_one_of_four(_number: int) -> bool:
        all_of_them.wait()
        return is_tried(silent_server)

    first, second = is_tried(silent_server), is_tried(silent_server)
    statement_timeout.breaker_of(address(silent_server))._next_try_at = 0.0
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(is_tried_by_one_of_four, range(4)))

    assert (first, second) == (True, False)
    assert sum(together) == 1


def test_a_server_that_refuses_is_not_silent() -> None:
    port = free_port()
    breaker = statement_timeout.breaker_of(address(port))
    breaker.failed(OperationalError("silent"))
    with pytest.raises(psycopg.OperationalError, match="a moment ago"):
        statement_timeout.connect(**address(port))

    breaker._next_try_at = 0.0
    with pytest.raises(psycopg.OperationalError, match="refused"):
        statement_timeout.connect(**address(port))

    assert breaker.is_closed


def test_a_plan_that_no_longer_fits_is_made_anew_and_its_connection_replaced(postgres_url: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE changing (a int)")
        for _ in range(7):
            cursor.execute("SELECT * FROM changing")
        before = connection.connection
        with psycopg.connect(postgres_url) as elsewhere:
            elsewhere.execute("ALTER TABLE changing ALTER a TYPE text")

        cursor.execute("SELECT * FROM changing")
        cursor.execute("DROP TABLE changing")

    connection.close_if_unusable_or_obsolete()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert connection.connection is not before


def test_in_a_transaction_it_is_told(postgres_url: str) -> None:
    """What was done before in it is lost, so that whoever began it has to begin again."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE changing (a int)")
        for _ in range(7):
            cursor.execute("SELECT * FROM changing")
        with psycopg.connect(postgres_url) as elsewhere:
            elsewhere.execute("ALTER TABLE changing ALTER a TYPE text")
        with pytest.raises(NotSupportedError) as told, transaction.atomic():
            cursor.execute("SELECT * FROM changing")
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE changing")

    assert is_outage(told.value)
    assert not is_outage(NotSupportedError())
