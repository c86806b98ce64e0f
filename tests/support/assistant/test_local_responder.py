"""The answers without a model come from the caller's own data."""

from tests.fixtures.accounts.people import Person
from tests.fixtures.servers.api import Api, create, operation


def answer_to(api: Api, person: Person, question: str) -> str:
    return str(api.events(create(question), person.token())[-1]["item"]["content"][0]["text"])


def test_the_list_of_conversations_has_only_the_callers_and_shows_their_titles_unchanged(
    api: Api, person: Person, other_person: Person
) -> None:
    for owner, title in ((person, "Mine *alone*"), (other_person, "Theirs")):
        thread_id = api.events(create(), owner.token())[0]["thread"]["id"]
        api.post(operation("threads.update", thread_id=thread_id, title=title), owner.token())

    answer = answer_to(api, person, "List my conversations, please")

    assert answer.count("\n1. ") == 2
    assert "**Mine \\*alone\\***" in answer  # no Markdown of the title's own
    assert "(this one)" in answer
    assert "Theirs" not in answer


def test_a_question_for_the_user_id_gets_the_callers(api: Api, person: Person) -> None:
    assert f"`{person.user_id}`" in answer_to(api, person, "What is my user id?")
    assert "What works without a model" in answer_to(api, person, "What can you do?")
