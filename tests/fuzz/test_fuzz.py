"""No request causes a 5xx, an error text of a library, an echo, a token in the log, or growing memory.

This file sends a few thousand requests. ``make fuzz`` sends any number (long_run.py).
"""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.application import Client, check_answer
from tests.fuzz.cases import Cases

# The worker threads have their own connections, so the data must be committed.
pytestmark = pytest.mark.django_db(transaction=True)


def test_every_request_gets_an_allowed_answer(cases: Cases) -> None:
    @settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @given(random=st.randoms(use_true_random=False))
    def holds(random: Random) -> None:
        case = cases.one(random)
        [answer] = client.ask(case)

        check_answer(case, answer)

    with Client() as client:
        holds()


def test_parallel_requests_get_allowed_answers(cases: Cases) -> None:
    random = Random("the same in every run")

    with Client() as client:
        for _ in range(100):
            some = [cases.one(random) for _ in range(20)]
            for case, answer in zip(some, client.ask(*some), strict=True):
                check_answer(case, answer)
