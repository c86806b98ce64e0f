"""The circuit breaker without a server. The tests of its callers are elsewhere."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from runtime import circuit_breaker
from runtime.circuit_breaker import MAX_TRY_SECONDS, PAUSE_SECONDS, CircuitBreaker
from tests.fixtures.clock import Clock

ERROR = TimeoutError("the server hangs")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock().replace_in(monkeypatch, circuit_breaker)


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker("Postman")


def test_every_caller_may_call_a_server_that_answers(breaker: CircuitBreaker) -> None:
    breaker.succeeded()

    assert [breaker.allows_call() for _ in range(3)] == [True] * 3
    assert breaker.is_closed


def test_after_a_failure_no_caller_may_call_during_the_pause(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.failed(ERROR)

    assert (breaker.allows_call(), breaker.is_closed) == (False, False)

    clock.now += PAUSE_SECONDS - 0.1

    assert not breaker.allows_call()

    clock.now += 0.1

    assert breaker.allows_call()


def test_after_the_pause_one_caller_tries_and_its_success_allows_all_calls(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    breaker.failed(ERROR)
    clock.now += PAUSE_SECONDS

    assert [breaker.allows_call() for _ in range(3)] == [True, False, False]

    breaker.succeeded()

    assert [breaker.allows_call() for _ in range(3)] == [True] * 3


def test_a_failed_try_begins_another_pause(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.failed(ERROR)
    clock.now += PAUSE_SECONDS
    breaker.allows_call()
    clock.now += 10

    breaker.failed(ERROR)

    assert not breaker.allows_call()

    clock.now += PAUSE_SECONDS

    assert breaker.allows_call()


def test_another_caller_may_try_if_the_first_never_reports(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.failed(ERROR)
    clock.now += PAUSE_SECONDS
    assert breaker.allows_call()

    clock.now += MAX_TRY_SECONDS

    assert [breaker.allows_call() for _ in range(2)] == [True, False]


def test_the_log_has_one_line_for_an_outage_and_one_for_its_end(
    breaker: CircuitBreaker, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        breaker.failed(ERROR)
        clock.now += PAUSE_SECONDS
    for _ in range(5):
        breaker.succeeded()

    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, "Postman: no good answer: the server hangs"),
        (logging.INFO, "Postman: answers again, after 10 s"),
    ]


def test_only_one_of_many_threads_tries(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.failed(ERROR)
    clock.now += PAUSE_SECONDS
    all_threads = threading.Barrier(8)

    def call(_number: int) -> bool:
        all_threads.wait(10)
        return breaker.allows_call()

    with ThreadPoolExecutor(8) as threads:
        allowed = list(threads.map(call, range(8)))

    assert allowed.count(True) == 1
