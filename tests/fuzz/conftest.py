"""A generator of hostile requests. Some of them have a valid token of a real user."""

from collections.abc import Iterator
from typing import Any

import pytest

from support.assistant import local_responder
from tests.fixtures.accounts.people import Person
from tests.fixtures.accounts.signer import Signer, restored_jwks_table
from tests.fixtures.owner import Owner
from tests.fuzz.cases import Cases


@pytest.fixture
def cases(person: Person, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Cases]:
    monkeypatch.setattr(local_responder, "PAUSE_SECONDS", 0)
    settings.SUPPORT_RATE_PER_USER = settings.REFUSED_RATE_PER_ADDRESS = "100000000/min"
    person.token()  # makes Better Auth create its key, if it has none
    with restored_jwks_table():
        signer = Signer.in_jwks_table()
        Owner(person.user_id).starts("thr_1")
        yield Cases(person, signer, "thr_1")
