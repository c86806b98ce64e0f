import pytest

from tests.support.owner import Owner


@pytest.fixture
def ada() -> Owner:
    return Owner("ada")


@pytest.fixture
def bob() -> Owner:
    return Owner("bob")
