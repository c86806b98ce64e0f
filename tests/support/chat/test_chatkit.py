"""A signed-in person sends a message. Better Auth, our server and the database are real."""

from tests.fixtures.accounts.people import Person
from tests.fixtures.servers.api import Api, create, operation


def test_a_message_is_answered_with_a_stream_in_chatkits_order(api: Api, person: Person) -> None:
    events = api.events(create("Hello"), person.token())

    kinds = [event["type"] for event in events]
    assert kinds[:4] == ["thread.created", "thread.item.done", "stream_options", "thread.item.added"]
    assert set(kinds[4:-1]) == {"thread.item.updated"}
    assert kinds[-1] == "thread.item.done"
    assert events[1]["item"]["content"][0]["text"] == "Hello"
    answer = events[-1]["item"]["content"][0]["text"]
    assert person.user_id in answer
    assert person.name in answer
    assert "No model is configured" in answer


def test_only_its_owner_can_list_a_thread(api: Api, person: Person, other_person: Person) -> None:
    thread_id = api.events(create(), person.token())[0]["thread"]["id"]

    mine = api.post(operation("threads.list"), person.token()).json()
    theirs = api.post(operation("threads.list"), other_person.token()).json()

    assert [thread["id"] for thread in mine["data"]] == [thread_id]
    assert theirs["data"] == []
