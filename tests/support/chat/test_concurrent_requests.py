"""Concurrent requests to one thread, over HTTP."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from support.models import Item, Thread
from tests.fixtures.accounts.people import Person
from tests.fixtures.servers.api import Api, add, create, operation

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def slow(auth: Any, start_api: Callable[..., Any]) -> Iterator[Api]:
    with start_api(
        CHATKIT_SERVER="tests.fixtures.chatkit.servers.SlowServer", SUPPORT_RATE_PER_USER="100000/min"
    ) as running:
        yield running


def concurrently(*calls: Callable[[], Any]) -> list[Any]:
    """The results of these calls. Each call has a thread, and all threads start together."""
    start = Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        start.wait(10)
        return call()

    with ThreadPoolExecutor(len(calls)) as clients:
        return list(clients.map(run, calls))


def items(api: Api, token: str, thread_id: str, order: str = "asc") -> list[dict[str, Any]]:
    request = operation("items.list", thread_id=thread_id, order=order, limit=100)
    return list(api.post(request, token).json()["data"])


def test_two_concurrent_messages_are_both_answered_and_every_list_has_one_order(
    api: Api, auth: Any, person: Person
) -> None:
    first, second = person.token(), auth.sign_in(person.email).token()  # two browsers
    thread_id = api.events(create(), first)[0]["thread"]["id"]

    def say(token: str, text: str) -> list[dict[str, Any]]:
        return [
            event["item"]
            for number in range(3)
            for event in api.events(add(thread_id, f"{text} {number}"), token)
            if event["type"] == "thread.item.done"
        ]

    sent = concurrently(lambda: say(first, "left"), lambda: say(second, "right"))

    listed = items(api, first, thread_id)
    assert len(listed) == 2 + 2 * 3 * 2
    assert [item for item in listed if item in sent[0]] == sent[0]
    assert [item for item in listed if item in sent[1]] == sent[1]
    assert sorted(item["id"] for item in listed[2:]) == sorted(item["id"] for item in sent[0] + sent[1])
    assert items(api, second, thread_id) == listed
    assert items(api, second, thread_id, "desc") == listed[::-1]


def test_after_two_concurrent_renames_the_thread_has_one_of_the_titles(api: Api, person: Person) -> None:
    token = person.token()
    thread_id = api.events(create(), token)[0]["thread"]["id"]
    before = items(api, token, thread_id)

    def rename(title: str) -> int:
        return api.post(operation("threads.update", thread_id=thread_id, title=title), token).status_code

    assert concurrently(lambda: rename("Left"), lambda: rename("Right")) == [200, 200]

    thread = api.post(operation("threads.get_by_id", thread_id=thread_id), token).json()
    assert thread["title"] in ("Left", "Right")
    assert Thread.objects.get(thread_id=thread_id).title == thread["title"]
    assert thread["items"]["data"] == before


def test_a_title_that_is_set_during_an_answer_is_kept(slow: Api, person: Person) -> None:
    token = person.token()
    with slow.stream(create("for 3 seconds"), token) as events:
        thread_id = next(events)[1]["thread"]["id"]
        slow.post(operation("threads.update", thread_id=thread_id, title="Ring"), token)
        assert [event for _, event in events][-1]["type"] == "thread.item.done"

    assert slow.post(operation("threads.get_by_id", thread_id=thread_id), token).json()["title"] == "Ring"


@pytest.mark.parametrize("command", ["for 3 seconds", "title 3"])
def test_a_thread_that_is_deleted_during_an_answer_stays_deleted(
    slow: Api, person: Person, command: str
) -> None:
    token = person.token()
    with slow.stream(create(command), token) as events:
        thread_id = next(events)[1]["thread"]["id"]
        deleted = slow.post(operation("threads.delete", thread_id=thread_id), token)
        last = [event for _, event in events][-1]

    assert deleted.status_code == 200
    assert last == {"type": "error", "code": "stream.error", "allow_retry": True}
    assert not Thread.objects.filter(thread_id=thread_id).exists()
    assert not Item.objects.filter(data__thread_id=thread_id).exists()


def test_concurrent_feedback_for_one_item_is_stored_once(api: Api, person: Person) -> None:
    token = person.token()
    events = api.events(create(), token)
    thread_id, item_id = events[0]["thread"]["id"], events[-1]["item"]["id"]

    def rate(kind: str) -> int:
        feedback = operation("items.feedback", thread_id=thread_id, item_ids=[item_id], kind=kind)
        return api.post(feedback, token).status_code

    assert concurrently(*[lambda kind=kind: rate(kind) for kind in ["positive", "negative"] * 4]) == [200] * 8

    assert Item.objects.get(item_id=item_id).feedback.kind in ("positive", "negative")
