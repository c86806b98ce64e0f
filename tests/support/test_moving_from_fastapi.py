"""docs/moving-from-fastapi.md with a real server: the files and settings are those of the guide."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.fixtures.accounts.people import Person
from tests.fixtures.servers.api import Api, add, create, http, operation

TOP = Path(__file__).parents[2]
GUIDE = TOP / "docs" / "moving-from-fastapi.md"
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", GUIDE.read_text(), re.S))
LOOK, PRODUCT = (
    dict(re.findall(r"(\w+)=(\S+)", block))
    for block in re.findall(r"```shell\n(.*?)```", GUIDE.read_text(), re.S)
)
# The guide adds a line to support/urls.py. This URLconf has the same effect.
URLS = """
from django.urls import path
from chatbackend.urls import urlpatterns as ours
from customer import CustomerView
urlpatterns = [path("support/customer", CustomerView.as_view()), *ours]
"""
SETTINGS = "from chatbackend.settings import *\nROOT_URLCONF = 'with_customer'\n"


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A team's folder: the sample and the files of the guide."""
    folder = tmp_path_factory.mktemp("team")
    (folder / "app").mkdir()
    sample = (TOP / "tests/fixtures/chatkit/sample.py").read_text()
    files = {"app/main.py": sample, "with_customer.py": URLS, "team_settings.py": SETTINGS} | FILES
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def sample(auth: Any, start_api: Callable[..., Any], team: Path) -> Iterator[Api]:
    with start_api(PYTHONPATH=str(team), **LOOK) as running:
        yield running


@pytest.fixture(scope="module")
def product(auth: Any, start_api: Callable[..., Any], team: Path) -> Iterator[Api]:
    with start_api(PYTHONPATH=str(team), DJANGO_SETTINGS_MODULE="team_settings", **PRODUCT) as running:
        yield running


def chat(api: Api, person: Person) -> str:
    """Send a message, an action on its answer and a second message. Returns the thread's id."""
    token = person.token()
    with api.stream(create(), token, Accept_Language="de") as events:
        begun = [event for _, event in events]
    thread_id: str = begun[0]["thread"]["id"]
    assert text_of(begun[-2]) == "Seat 14A, de, 1 items"
    assert begun[-1]["thread"]["title"] == "Seat"

    change = {"type": "change", "payload": {"seat": "2C"}}
    acted = api.events(operation("threads.custom_action", thread_id=thread_id, action=change), token)
    assert text_of(acted[-1]) == "Changed"

    with api.stream(add(thread_id), token, Accept_Language="fr") as events:
        assert text_of([event for _, event in events][-1]) == "Seat 2C, fr, 5 items"
    return thread_id


def text_of(event: dict[str, Any]) -> str:
    return str(event["item"]["content"][0]["text"])


def threads(api: Api, person: Person) -> list[str]:
    listed = api.post(operation("threads.list"), person.token()).json()
    return [thread["id"] for thread in listed["data"]]


def customer(api: Api, thread_id: str, token: str | None) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"{api.origin}/support/customer"
    return http.get(url, params={"thread_id": thread_id}, headers=headers, timeout=30)


def test_the_diff_from_the_sample_to_a_product_is_under_ten_lines() -> None:
    written = [line for line in FILES["moved.py"].splitlines() if line and not line.startswith("#")]

    assert len(written) + len(PRODUCT) < 10


def test_the_sample_server_runs_unchanged(sample: Api, person: Person) -> None:
    assert chat(sample, person) in threads(sample, person)


def test_a_thread_that_the_samples_store_does_not_find_is_a_404(sample: Api, person: Person) -> None:
    assert sample.post(add("thr_never_was"), person.token()).status_code == 404


def test_all_users_of_the_unchanged_sample_share_its_conversations(
    sample: Api, person: Person, other_person: Person
) -> None:
    assert chat(sample, person) in threads(sample, other_person)


def test_users_of_the_product_see_only_their_own_data(
    product: Api, person: Person, other_person: Person
) -> None:
    thread_id = chat(product, person)

    assert threads(product, person) == [thread_id]
    assert threads(product, other_person) == []
    assert product.post(add(thread_id), other_person.token()).status_code == 404


def test_a_profile_is_visible_only_to_the_owner_of_its_thread(
    product: Api, person: Person, other_person: Person
) -> None:
    thread_id = chat(product, person)

    assert customer(product, thread_id, person.token()).json() == {"customer": {"seat": "2C"}}
    for whose, asked in [(other_person, thread_id), (person, "thr_never_was"), (person, "")]:
        assert customer(product, asked, whose.token()).status_code == 404
    assert customer(product, thread_id, None).status_code == 401
