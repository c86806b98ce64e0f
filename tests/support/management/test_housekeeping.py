"""What the commands say: without a database, without tables, before they delete, and in their help."""

import re
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command, load_command_class
from django.db import connection

from chatbackend.dev.postgres import create_database
from support.management.housekeeping import find_person
from support.models import Thread
from tests.fixtures.accounts.people import Person
from tests.fixtures.servers.forkserver import manage, manage_in_terminal

COMMANDS = {
    "prune_chats": ["--older-than", "90d"],
    "sweep_attachments": [],
    "erase_user": ["ada", "--yes"],
    "export_user": ["ada"],
}


@pytest.fixture
def thread(person: Person, transactional_db: None) -> Thread:
    """A conversation of ``person``, which other processes can see."""
    return Thread.objects.create(
        user_id=person.user_id, thread_id="thr_1", created_at="2026-01-01T00:00Z", data={"id": "thr_1"}
    )


def output_of(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


# --- Without tables, and without a database -------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_without_tables_a_command_says_that_the_database_is_not_migrated(
    name: str, postgres_url: str
) -> None:
    done = manage(name, *COMMANDS[name], DATABASE_URL=create_database(postgres_url, "without_tables"))

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "CommandError: The database is not migrated: a table or a column is missing. Run manage.py migrate."
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_without_a_database_a_command_names_the_doctor(name: str) -> None:
    done = manage(name, *COMMANDS[name], DATABASE_URL="postgresql://chat:geheim@127.0.0.1:9/chat")

    assert done.returncode == 1
    assert done.stderr == (
        "CommandError: The database cannot be reached: nothing listens there. "
        "Run manage.py betterauth doctor. It says what to do.\n"
    )


def test_without_better_auths_tables_only_an_id_can_be_given(postgres_url: str) -> None:
    url = create_database(postgres_url, "without_better_auth")
    assert manage("migrate", DATABASE_URL=url).returncode == 0

    by_id = manage("erase_user", "ada", "--yes", DATABASE_URL=url)
    by_address = manage("erase_user", "ada@example.com", "--yes", DATABASE_URL=url)

    assert "There are no conversations and no files." in by_id.stderr
    assert "give the user's id in place of the address" in by_address.stderr


# --- Whose data it is -----------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_user_is_found_by_id_and_by_address(person: Person) -> None:
    by_id, by_address, by_other_case = (
        find_person(given) for given in (person.user_id, person.email, person.email.upper())
    )

    assert by_id == by_address == by_other_case
    assert by_id.user_id == person.user_id
    assert person.email in by_id.description


@pytest.mark.django_db
def test_an_id_is_enough_after_the_account_was_deleted(person: Person) -> None:
    assert find_person("gone").description == "User id gone. Better Auth has no user with this id."
    with pytest.raises(CommandError, match="give the user's id"):
        find_person("gone@example.com")


@pytest.mark.django_db
def test_an_address_of_several_users_is_refused_with_their_ids(auth: Any, person: Person) -> None:
    other = auth.sign_up()
    with connection.cursor() as cursor:
        address = person.email.swapcase()
        cursor.execute('UPDATE "user" SET email = %s WHERE id = %s', [address, other.user_id])

    with pytest.raises(CommandError, match="Several users") as refused:
        find_person(person.email.title())

    assert person.user_id in str(refused.value)
    assert other.user_id in str(refused.value)
    assert find_person(address).user_id == other.user_id  # an exact address is enough


# --- Before a command deletes ---------------------------------------------------------------------


def test_erase_user_asks_in_a_terminal(thread: Thread, person: Person, database_url: str) -> None:
    def erase(typed: str) -> tuple[int, str]:
        return manage_in_terminal("erase_user", person.email, typed=typed, DATABASE_URL=database_url)

    refused, question = erase("no\n")
    assert Thread.objects.get() == thread
    accepted, _ = erase("yes\n")

    assert (refused, accepted) == (1, 0)
    assert f"User {person.email}" in question
    assert f"id {person.user_id}." in question
    assert "conversations 1, items 0, feedback 0, attachments 0" in question
    assert "Nothing was deleted." in question
    assert not Thread.objects.exists()


def test_erase_user_deletes_nothing_if_nobody_can_answer(
    thread: Thread, person: Person, database_url: str
) -> None:
    done = manage("erase_user", person.user_id, stdin="yes\n", DATABASE_URL=database_url)

    assert done.returncode == 1
    assert "--yes" in done.stderr
    assert Thread.objects.get() == thread


@pytest.mark.parametrize("option", ["--yes", "-y", "--no-input", "--noinput"])
def test_erase_user_does_not_ask_with(option: str, thread: Thread, person: Person) -> None:
    output_of("erase_user", person.user_id, option)

    assert not Thread.objects.exists()


def test_all_dry_runs_use_the_same_words_and_delete_nothing(thread: Thread, person: Person) -> None:
    runs = {
        "prune_chats": ["--older-than", "1d"],
        "sweep_attachments": [],
        "erase_user": [person.user_id],
    }

    reports = {name: output_of(name, *options, "--dry-run") for name, options in runs.items()}

    for report in reports.values():
        *_, would, last = report.splitlines()
        assert re.fullmatch(r"Would delete: [\w ,]+\.", would)
        assert last == "This was a dry run: nothing was deleted."
    for name in ("prune_chats", "erase_user"):
        assert "conversations 1, items 0" in reports[name]
    assert Thread.objects.get() == thread


# --- Help -----------------------------------------------------------------------------------------

OURS = {
    **dict.fromkeys(COMMANDS, "support"),
    "betterauth": "authn",
    "migrate": "chatbackend",
    "runserver": "support",
}


@pytest.mark.parametrize("name", OURS)
def test_help_says_what_a_command_does_and_ends_with_an_example_that_works(name: str) -> None:
    command: Any = load_command_class(OURS[name], name)
    parser = command.create_parser("manage.py", name)

    *_, last = parser.format_help().splitlines()

    assert parser.description
    assert last.startswith(f"Example: manage.py {name} ")
    parser.parse_args(last.removeprefix(f"Example: manage.py {name} ").split())
