"""The circuit breaker by itself. What it protects is tested where it is used."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from runtime import circuit_breaker
from runtime.circuit_breaker import MAX_TRY_SECONDS, PAUSE_SECONDS, CircuitBreaker
from tests.fixtures.clock import Clock

WHY = TimeoutError("it hangs")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock().replace_in(monkeypatch, circuit_breaker)


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker("Postman")


def test_everybody_may_call_a_server_that_answers(breaker: CircuitBreaker) -> None:
    breaker.succeeded()

    assert [breaker.allows_call() for _ in range(3)] == [True] * 3
    assert breaker.is_closed


def test_after_a_failure_nobody_may_until_the_pause_is_over(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.failed(WHY)

    assert (breaker.allows_call(), breaker.is_closed) == (False, False)
    clock.now += PAUSE_SECONDS - 0.1
    assert not breaker.allows_call()
    clock.now += 0.1
    assert breaker.allows_call()


def test_after_the_pause_one_caller_tries_and_its_success_lets_everybody_call(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    breaker.failed(WHY)
    clock.now += PAUSE_SECONDS

    assert [breaker.allows_call() for _ in range(3)] == [True, False, False]
    breaker.succeeded()
    assert [breaker.allows_call() for _ in range(3)] == [True] * 3


def test_a_try_that_fails_begins_another_pause(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.failed(WHY)
    clock.now += PAUSE_SECONDS
    breaker.allows_call()
    clock.now += 10

    breaker.failed(WHY)

    assert not breaker.allows_call()
    clock.now += PAUSE_SECONDS
    assert breaker.allows_call()


def test_a_caller_that_never_reports_is_not_waited_for_without_end(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    breaker.failed(WHY)
    clock.now += PAUSE_SECONDS
    assert breaker.allows_call()

    clock.now += MAX_TRY_SECONDS

    assert [breaker.allows_call() for _ in range(2)] == [True, False]


def test_the_log_has_one_line_for_an_outage_and_one_for_its_end(
    breaker: CircuitBreaker, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        breaker.failed(WHY)
        clock.now += PAUSE_SECONDS
    for _ in range(5):
        breaker.succeeded()

    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, "Postman: no good answer: it hangs"),
        (logging.INFO, "Postman: answers again, after 10 s"),
    ]


def test_one_of_many_threads_tries(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.failed(WHY)
    clock.now += PAUSE_SECONDS
    together = threading.Barrier(8)

    def ask(_number: int) -> bool:
        together.wait(10)
        return breaker.allows_call()

    with ThreadPoolExecutor(8) as threads:
        allowed = list(threads.map(ask, range(8)))

    assert allowed.count(True) == 1
