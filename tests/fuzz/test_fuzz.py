"""Whatever is sent: never a 5xx, no exception's text, no echo, no token in the log, and no memory that grows.

A few thousand requests here; ``make fuzz`` sends as many as it is told (see long_run.py).
"""

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.assistant import local_responder
from tests.fixtures.accounts.people import Person
from tests.fixtures.accounts.signer import Signer, restored_jwks_table
from tests.fixtures.owner import Owner
from tests.fuzz.application import Client, check_answer
from tests.fuzz.cases import Cases

# The workers have connections of their own, so what they see is committed.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cases(person: Person, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Cases]:
    monkeypatch.setattr(local_responder, "PAUSE_SECONDS", 0)
    settings.SUPPORT_RATE_PER_USER = settings.REFUSED_RATE_PER_ADDRESS = "100000000/min"
    person.token()  # with a key of Better Auth's own, which it makes now if it has none
    with restored_jwks_table():
        signer = Signer.in_jwks_table()
        Owner(person.user_id).starts("thr_1")
        yield Cases(person, signer, "thr_1")


def test_no_request_gets_more_than_an_answer(cases: Cases) -> None:
    @settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @given(random=st.randoms(use_true_random=False))
    def holds(random: Random) -> None:
        case = cases.one(random)
        [answer] = client.ask(case)

        check_answer(case, answer)

    with Client() as client:
        holds()


def test_no_request_of_many_at_once_gets_more_than_an_answer(cases: Cases) -> None:
    random = Random("the same in every run")

    with Client() as client:
        for _ in range(100):
            some = [cases.one(random) for _ in range(20)]
            for case, answer in zip(some, client.ask(*some), strict=True):
                check_answer(case, answer)
