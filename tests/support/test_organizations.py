"""The user's active organization, as a real Better Auth with the organization() plugin has stored it."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import psycopg
import pytest

from chatbackend.dev.postgres import create_database
from support.models import Attachment, Thread
from tests.fixtures.accounts.organizations import Organization, activate
from tests.fixtures.accounts.people import BetterAuth, Person
from tests.fixtures.accounts.session_tokens import COOKIE_NAME
from tests.fixtures.attachments import announce, attach, bearer, message_request, put, upload_directly
from tests.fixtures.conversations import thread_id_of
from tests.fixtures.database import identity_statements
from tests.fixtures.environment import BETTER_AUTH_SECRET
from tests.fixtures.model.server import Model
from tests.fixtures.servers.api import Api, add, create, http, operation
from tests.fixtures.servers.deployments import with_ids, with_plugins
from tests.fixtures.servers.forkserver import python

pytestmark = pytest.mark.django_db

CREDENTIALS = {"BETTER_AUTH_CREDENTIALS": "jwt,cookie,bearer", "BETTER_AUTH_SECRET": BETTER_AUTH_SECRET}


@pytest.fixture(scope="module")
def url(postgres_url: str) -> str:
    """The URL of Better Auth's database."""
    return create_database(postgres_url, "organizations")


@pytest.fixture(scope="module")
def better_auth(url: str, start_other_better_auth: Callable[..., Any]) -> Iterator[BetterAuth]:
    """Its ids are UUIDs, but its session table has the id of the active organization as text."""
    plugins = with_plugins("bearer", "organization")
    with start_other_better_auth(DATABASE_URL=url, PLUGINS=plugins, OPTIONS=with_ids("uuid")) as running:
        yield running


@pytest.fixture(scope="module")
def api(url: str, better_auth: BetterAuth, start_assistant: Callable[..., Any]) -> Iterator[Api]:
    with start_assistant(
        BETTER_AUTH_URL=better_auth.origin,
        BETTER_AUTH_DATABASE_URL=url,
        BETTER_AUTH_PLUGINS="organization",
        SUPPORT_CONVERSATIONS="user_and_organization",
        SUPPORT_TOOLS="tests.fixtures.shop.tools.who_am_i,tests.fixtures.shop.tools.my_roles",
        **CREDENTIALS,
    ) as running:
        yield running


@pytest.fixture
def person(better_auth: BetterAuth) -> Person:
    return better_auth.sign_up()


@pytest.fixture
def acme(better_auth: BetterAuth) -> Organization:
    return Organization.created_by(better_auth.sign_up())


def credentials_of(person: Person) -> dict[str, dict[str, str]]:
    return {
        "jwt": {"Authorization": f"Bearer {person.token()}"},
        "cookie": {"Cookie": f"{COOKIE_NAME}={person.cookie}"},
        "bearer": {"Authorization": f"Bearer {person.cookie}"},
    }


def ask(api: Api, person: Person, kind: str, **params: Any) -> httpx2.Response:
    return api.post(operation(kind, **params), person.token())


def organization_in_audit(api: Api, token: str) -> str | None:
    """The organization that the audit record of a request names."""
    request_id = api.post(operation("threads.list"), token).headers["X-Request-ID"]
    [record] = api.audit_records(request_id)
    organization: str | None = record["organization_id"]
    return organization


# --- The identity ---------------------------------------------------------------------------------


def test_an_organization_counts_until_the_membership_ends_although_the_token_stays_the_same(
    api: Api, person: Person, acme: Organization
) -> None:
    token, member_id = person.token(), acme.invite(person, "member")
    activate(person, acme)

    during = organization_in_audit(api, token)
    acme.remove(member_id)

    assert (during, organization_in_audit(api, token)) == (acme.id, None)


def test_an_active_organization_of_which_the_user_was_never_a_member_does_not_count(
    api: Api, person: Person, acme: Organization, url: str
) -> None:
    with psycopg.connect(url) as database:
        change = 'UPDATE "session" SET "activeOrganizationId" = %s WHERE "userId" = %s'
        changed = database.execute(change, [acme.id, person.user_id])

    assert changed.rowcount == 1
    assert organization_in_audit(api, person.token()) is None


FILL = """
INSERT INTO "user" (id, name, email, "emailVerified", "createdAt", "updatedAt")
SELECT gen_random_uuid(), n, n || '@many.example.com', true, now(), now() FROM generate_series(1, 20000) n;
INSERT INTO "session" (id, "userId", token, "expiresAt", "createdAt", "updatedAt")
SELECT gen_random_uuid(), id, id, now() + interval '1 day', now(), now() FROM "user"
WHERE email LIKE '%many%';
INSERT INTO "member" (id, "userId", "organizationId", role, "createdAt")
SELECT gen_random_uuid(), "user".id, "organization".id, 'member', now() FROM "user", "organization"
WHERE email LIKE '%many%' AND "organization".id::text = ANY(ARRAY[{organizations}]);
ANALYZE
"""


def test_one_statement_with_index_lookups_finds_the_organization_for_every_kind_of_credential(
    person: Person, better_auth: BetterAuth, url: str
) -> None:
    own, other = Organization.created_by(person, "Own"), Organization.created_by(better_auth.sign_up())
    activate(person, own)
    with psycopg.connect(url) as database:
        database.execute(FILL.format(organizations=f"'{own.id}', '{other.id}'"))

    env = CREDENTIALS | {"BETTER_AUTH_URL": better_auth.origin, "BETTER_AUTH_PLUGINS": "organization"}
    printed = python(
        identity_statements.PROGRAM,
        DATABASE_URL=url,
        CREDENTIALS=json.dumps(credentials_of(person)),
        **env,
    )

    assert printed.returncode == 0, printed.stderr
    for name, facts in json.loads(printed.stdout.splitlines()[-1]).items():
        assert facts["organization"] == [own.id, "owner"], name
        assert len(facts["plans"]) == 1, name
        [steps] = facts["plans"]
        assert "Seq Scan" not in {step["node"] for step in steps}, steps
        assert "member_userId_idx" in {step["index"] for step in steps}, steps
        assert max(step["rows"] for step in steps) <= 2, steps


# --- Tools ----------------------------------------------------------------------------------------


def test_a_tool_knows_the_organization_and_the_role_of_the_moment(
    api: Api, person: Person, acme: Organization, model: Model
) -> None:
    token, member_id = person.token(), acme.invite(person, "member")

    def seen() -> list[Any]:
        model.will_answer(tools=[("who_am_i", {}), ("my_roles", {})]).then("Done")
        api.events(create("Who am I?"), token)
        who, roles = map(json.loads, model.calls[1].tool_outputs)
        return [who["organization"], roles]

    activate(person, acme)
    as_member = seen()
    acme.change_role(member_id, "admin", "member")
    as_admin = seen()
    activate(person, None)

    assert [as_member, as_admin] == [[acme.id, ["member"]], [acme.id, ["admin", "member"]]]
    assert seen() == [None, []]


# --- Conversations --------------------------------------------------------------------------------


def thread_ids(api: Api, person: Person) -> list[str]:
    listed = ask(api, person, "threads.list", limit=10, order="asc").json()["data"]
    return [thread["id"] for thread in listed]


@pytest.mark.usefixtures("model")
def test_the_active_organization_decides_which_conversations_a_user_sees(
    api: Api, person: Person, acme: Organization
) -> None:
    member_id, own = acme.invite(person, "member"), Organization.created_by(person, "Own")
    begun = {}
    for name, organization in {"acme": acme, "own": own, "none": None}.items():
        activate(person, organization)
        begun[name] = thread_id_of(api.events(create("Hello"), person.token()))

    seen = {"none": thread_ids(api, person)}
    for name, organization in {"acme": acme, "own": own}.items():
        activate(person, organization)
        seen[name] = thread_ids(api, person)
    activate(person, acme)
    acme.remove(member_id)
    left = thread_ids(api, person)

    assert seen == {name: [thread_id] for name, thread_id in begun.items()}
    assert left == [begun["none"]]
    stored = dict(Thread.objects.owned_by(person.user_id).values_list("thread_id", "organization_id"))
    assert stored == {begun["acme"]: acme.id, begun["own"]: own.id, begun["none"]: ""}


@pytest.mark.usefixtures("model")
def test_two_members_of_an_organization_do_not_see_each_others_conversations(
    api: Api, person: Person, acme: Organization
) -> None:
    acme.invite(person, "admin")
    activate(person, acme)
    activate(acme.owner, acme)
    theirs = thread_id_of(api.events(create("Hello"), acme.owner.token()))

    assert thread_ids(api, person) == []
    assert thread_ids(api, acme.owner) == [theirs]
    assert ask(api, person, "threads.get_by_id", thread_id=theirs).status_code == 404


# Each operation with a conversation, an item and an attachment of another organization.
OPERATIONS: dict[str, Callable[[str, str, str], dict[str, Any]]] = {
    "read": lambda thread, _item, _file: operation("threads.get_by_id", thread_id=thread),
    "rename": lambda thread, _item, _file: operation("threads.update", thread_id=thread, title="Mine"),
    "delete": lambda thread, _item, _file: operation("threads.delete", thread_id=thread),
    "items": lambda thread, _item, _file: operation("items.list", thread_id=thread),
    "next page": lambda thread, _item, _file: operation("threads.list", after=thread),
    "write": lambda thread, _item, _file: add(thread),
    "again": lambda thread, item, _file: operation(
        "threads.retry_after_item", thread_id=thread, item_id=item
    ),
    "rate": lambda thread, item, _file: operation(
        "items.feedback", thread_id=thread, item_ids=[item], kind="positive"
    ),
    "send a file": lambda _thread, _item, file: message_request(file),
    "delete a file": lambda _thread, _item, file: operation("attachments.delete", attachment_id=file),
}


def test_a_conversation_of_another_organization_of_the_user_is_like_a_missing_one(
    api: Api, person: Person, acme: Organization, model: Model
) -> None:
    acme.invite(person, "member")
    activate(person, acme)
    sent, unsent = attach(api, person)["id"], announce(api, person).json()["id"]
    direct = upload_directly(api, person, b"Hello", "a.txt", "text/plain").json()["id"]
    thread_id = thread_id_of(api.events(message_request(sent), person.token()))
    [item_id] = [
        item["id"]
        for item in ask(api, person, "items.list", thread_id=thread_id).json()["data"]
        if item["type"] == "assistant_message"
    ]
    before = rows(person)
    model.calls.clear()
    activate(person, None)

    found = set()
    for name, build in OPERATIONS.items():
        theirs = api.post(build(thread_id, item_id, sent), person.token())
        missing = api.post(build("thr_none", "msg_none", "atc_none"), person.token())
        assert (theirs.status_code, theirs.content) == (missing.status_code, missing.content), name
        found |= {name} if theirs.status_code == 200 else set()
    addresses = [f"{api.origin}/support/attachments/{each}" for each in (sent, unsent, direct)]
    assert found == {"delete", "items"}  # for a missing thread too, ChatKit answers {} and an empty list
    assert [http.get(each, headers=bearer(person)).status_code for each in addresses] == [404] * 3
    assert put(api, person, unsent, b"x").status_code == 404
    assert rows(person) == before
    assert model.calls == []


def rows(person: Person) -> list[Any]:
    """Everything that is stored for the person."""
    threads = Thread.objects.owned_by(person.user_id).order_by("id")
    items = [[*thread.items.order_by("id").values("data", "feedback__kind")] for thread in threads]
    return [list(threads.values()), items, list(Attachment.objects.order_by("id").values())]
