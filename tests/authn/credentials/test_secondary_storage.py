"""Sessions that are only in a real Redis, written by a real Better Auth with a secondaryStorage."""

import json
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import redis
from django.core import checks
from django.db import OperationalError, connection
from django.test import Client

from authn import sessions
from authn.conf import conf
from authn.credentials import secondary_storage
from authn.jwt import tokens
from authn.models import Session, User
from chatbackend.dev.postgres import create_database
from tests.fixtures.accounts.organizations import Organization, activate
from tests.fixtures.accounts.people import BetterAuth, Person
from tests.fixtures.accounts.refusals import BAD_TOKEN, SIGNED_OUT, body_of
from tests.fixtures.accounts.session_tokens import COOKIE_NAME, post_from_page
from tests.fixtures.chatkit.kept_contexts import CONTEXTS
from tests.fixtures.database import identity_statements
from tests.fixtures.environment import BETTER_AUTH_SECRET
from tests.fixtures.servers.api import operation
from tests.fixtures.servers.deployments import with_plugins
from tests.fixtures.servers.forkserver import manage, python

pytestmark = pytest.mark.django_db

UNAVAILABLE = body_of("Service temporarily unavailable", 503)
START = "import chatbackend.asgi"  # as an ASGI server starts


@pytest.fixture(scope="module")
def auth(
    auth: BetterAuth, start_other_better_auth: Callable[..., Any], database_url: str, redis_url: str
) -> Iterator[BetterAuth]:
    """A Better Auth on the tests' database, with its sessions in Redis."""
    own = {"DATABASE_URL": database_url, "SECONDARY_STORAGE_URL": redis_url}
    with start_other_better_auth(**own, PLUGINS=with_plugins("organization")) as running:
        yield running
    with psycopg.connect(database_url) as database:  # other tests expect only the tables of ``auth``
        database.execute('DROP TABLE "invitation", "member", "organization"')


@pytest.fixture(scope="module")
def storage(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture(autouse=True)
def _sessions_are_in_redis(auth: BetterAuth, redis_url: str, settings: Any) -> None:
    settings.BETTER_AUTH_URL = auth.origin
    settings.BETTER_AUTH_SECRET = BETTER_AUTH_SECRET
    settings.BETTER_AUTH_CREDENTIALS = ["jwt", "cookie", "bearer"]
    settings.BETTER_AUTH_SESSION_SOURCE = redis_url
    settings.BETTER_AUTH_SESSION_PREFIX = "better-auth:"  # the default of @better-auth/redis-storage


def key(name: str) -> str:
    return f"better-auth:{name}"


def credentials_of(person: Person) -> list[dict[str, str]]:
    """The person's JWT, cookie and signed session token."""
    return [
        {"authorization": f"Bearer {person.token()}"},
        {"cookie": f"{COOKIE_NAME}={person.cookie}"},
        {"authorization": f"Bearer {person.cookie}"},
    ]


def responses(client: Client, credentials: list[dict[str, str]]) -> list[tuple[int, Any]]:
    responses = [post_from_page(client, **each) for each in credentials]
    return [(response.status_code, response.json()) for response in responses]


def statuses(client: Client, credentials: list[dict[str, str]]) -> list[int]:
    return [status for status, _ in responses(client, credentials)]


# --- Better Auth's writes --------------------------------------------------------------------------


def test_every_credential_finds_its_session_in_redis(
    client: Client, person: Person, audit: Callable[[], list[dict[str, Any]]]
) -> None:
    credentials = credentials_of(person)
    person.auth.sign_in(person.email)

    assert statuses(client, credentials) == [200, 200, 200]
    assert [record["credential"] for record in audit()] == ["jwt", "cookie", "bearer"]
    assert {(record["user_id"], record["session_id"]) for record in audit()} == {
        (person.user_id, person.session_id)
    }
    assert not Session.objects.filter(user=person.user_id).exists()


def test_the_session_has_the_values_that_better_auth_stored(
    client: Client, person: Person, settings: Any
) -> None:
    settings.CHATKIT_CONTEXT = "tests.fixtures.chatkit.kept_contexts.keep_context"
    reported = person.browser.get("get-session", headers={"User-Agent": "x"}).json()["session"]
    post_from_page(client, cookie=f"{COOKIE_NAME}={person.cookie}")

    session = CONTEXTS.pop().session
    assert (session.id, session.user_id, session.user.email) == (
        reported["id"],
        reported["userId"],
        person.email,
    )
    moments = (session.expires_at, session.created_at, session.updated_at)
    names = ("expiresAt", "createdAt", "updatedAt")
    assert moments == tuple(datetime.fromisoformat(reported[name]) for name in names)
    assert {moment.tzinfo for moment in moments} == {UTC}
    assert (session.ip_address, session.user_agent) == (reported["ipAddress"], reported["userAgent"])
    assert person.session_token not in repr(vars(session))
    of_the_jwt = sessions.resolve(tokens.verify(person.token())).session
    assert Session.user.is_cached(of_the_jwt)  # reading the user needs no other statement
    assert of_the_jwt.user.email == person.email


def test_the_organization_takes_one_more_statement_and_ends_with_the_membership(
    person: Person, other_person: Person, auth: BetterAuth, database_url: str, redis_url: str
) -> None:
    acme = Organization.created_by(other_person)
    member_id = acme.invite(person, "member")
    activate(person, acme)
    names = ["jwt", "cookie", "bearer"]
    headers = json.dumps(dict(zip(names, credentials_of(person), strict=True)))

    def found() -> list[Any]:
        printed = python(
            identity_statements.PROGRAM,
            CREDENTIALS=headers,
            DATABASE_URL=database_url,
            BETTER_AUTH_URL=auth.origin,
            BETTER_AUTH_SECRET=BETTER_AUTH_SECRET,
            BETTER_AUTH_CREDENTIALS=",".join(names),
            BETTER_AUTH_PLUGINS="organization",
            BETTER_AUTH_SESSION_SOURCE=redis_url,
            BETTER_AUTH_SESSION_PREFIX="better-auth:",
        )
        assert printed.returncode == 0, printed.stderr
        facts = json.loads(printed.stdout.splitlines()[-1])
        return [(facts[name]["organization"], len(facts[name]["plans"])) for name in names]

    during = found()
    acme.remove(member_id)

    assert (during, found()) == ([([acme.id, "member"], 2)] * 3, [(None, 2)] * 3)


@pytest.mark.parametrize(
    "end",
    [
        lambda person, other: person.sign_out(),
        lambda person, other: other.post("revoke-session", token=person.session_token),
        lambda person, other: other.post("revoke-other-sessions"),
    ],
    ids=["sign-out", "revoke-session", "revoke-other-sessions"],
)
def test_a_session_that_better_auth_ends_is_refused_and_others_stay_active(
    client: Client, person: Person, end: Callable[[Person, Person], None]
) -> None:
    other = person.auth.sign_in(person.email)
    credentials, of_other = credentials_of(person), credentials_of(other)
    end(person, other)

    assert responses(client, credentials) == [(401, body_of(BAD_TOKEN, 401))] + [(404, SIGNED_OUT)] * 2
    assert statuses(client, of_other) == [200, 200, 200]
    listed = other.browser.get("list-sessions").json()
    assert [session["id"] for session in listed] == [other.session_id]


def test_all_revoked_sessions_are_refused_even_if_one_was_written_again(
    client: Client, person: Person, storage: redis.Redis
) -> None:
    credentials, token = credentials_of(person), person.session_token
    context = {name: storage.get(key(name)) for name in (token, f"active-sessions-{person.user_id}")}
    person.post("revoke-sessions")

    revoked = responses(client, credentials)
    for name, value in context.items():
        storage.set(key(name), value)
    written_again = responses(client, credentials)
    before = storage.get(key(f"revoked-sessions-before-{person.user_id}"))
    for marker in ("", "soon", "NaN", "[]"):  # no time, so the session may be older
        storage.set(key(f"revoked-sessions-before-{person.user_id}"), marker)
        assert responses(client, credentials) == [(404, SIGNED_OUT)] * 3
    storage.set(key(f"revoked-sessions-before-{person.user_id}"), int(before) - 60_000)
    of_older_ones = statuses(client, credentials)

    assert revoked == written_again == [(404, SIGNED_OUT)] * 3
    assert of_older_ones == [200, 200, 200]


def test_without_a_sid_any_active_session_of_the_user_counts_unless_one_is_required(
    client: Client, person: Person, other_person: Person, signer: Any, settings: Any
) -> None:
    def without_sid(of: Person) -> dict[str, str]:
        claims = {"sub": of.user_id, "email": of.email, "iss": of.auth.origin, "aud": of.auth.origin}
        return {"authorization": f"Bearer {signer.token(**claims)}"}

    other_person.sign_out()

    assert statuses(client, [without_sid(person), without_sid(other_person)]) == [200, 404]

    settings.BETTER_AUTH_REQUIRE_SID = True
    assert statuses(client, [without_sid(person), *credentials_of(person)]) == [401, 200, 200, 200]


def test_another_users_session_does_not_count(
    client: Client, person: Person, other_person: Person, signer: Any, storage: redis.Redis
) -> None:
    origin, active = person.auth.origin, f"active-sessions-{person.user_id}"
    claims = {"sub": person.user_id, "email": person.email, "iss": origin, "aud": origin}
    token = signer.token(**claims, sid=other_person.session_id)

    not_theirs = statuses(client, [{"authorization": f"Bearer {token}"}])
    storage.set(key(active), storage.get(key(f"active-sessions-{other_person.user_id}")))
    listed_as_theirs = statuses(client, [{"authorization": f"Bearer {token}"}])

    assert (not_theirs, listed_as_theirs) == ([401], [404])  # now the user has no session


# --- Users in the database ---------------------------------------------------------------------------


def test_the_user_is_read_from_the_database_and_not_from_the_copy(
    client: Client,
    person: Person,
    other_person: Person,
    storage: redis.Redis,
    audit: Callable[[], list[dict[str, Any]]],
) -> None:
    credentials = credentials_of(person)
    users = User.objects.using("default").filter(id=person.user_id)

    users.update(email=person.email.upper())
    with_capitals = statuses(client, credentials)
    users.update(email=f"new-{person.email}")
    with_another_address = statuses(client, credentials)
    User.objects.using("default").filter(id=other_person.user_id).update(email=person.email)
    with_an_heir = statuses(client, credentials)
    users._raw_delete("default")
    User.objects.using("default").filter(id=other_person.user_id)._raw_delete("default")
    deleted = responses(client, credentials)

    assert with_capitals == [200, 200, 200]
    assert with_another_address == with_an_heir == [401, 200, 200]  # a session has no email
    assert [record["reason"] for record in audit()[3:9:3]] == ["address_changed", "subject_mismatch"]
    assert deleted == [(404, body_of("User not found with provided email", 404))] * 3
    assert person.email in str(storage.get(key(person.session_token)))
    assert [record["session_id"] for record in audit()[-2:]] == [person.session_id] * 2


def test_a_request_needs_one_statement_and_at_most_two_redis_commands(
    client: Client, person: Person, storage: redis.Redis, django_assert_num_queries: Callable[..., Any]
) -> None:
    credentials = credentials_of(person)
    for _ in range(5):
        person.auth.sign_in(person.email)
    statuses(client, credentials)  # loads the keys
    storage.config_resetstat()

    for credential in credentials:
        with django_assert_num_queries(2):  # one for the user, one for the operation
            post_from_page(client, **credential)

    commands = storage.info("commandstats")
    assert commands["cmdstat_mget"]["calls"] == 6
    assert "cmdstat_get" not in commands


# --- Malformed values ---------------------------------------------------------------------------


def changed(**members: Any) -> Callable[[dict[str, Any]], Any]:
    """The stored session with these members; ``None`` leaves one out."""

    def change(stored: dict[str, Any]) -> Any:
        session = {name: value for name, value in (stored["session"] | members).items() if value is not None}
        return stored | {"session": session}

    return change


NOT_A_SESSION: dict[str, Any] = {
    "expired": changed(expiresAt=datetime.now(UTC).isoformat()),
    "no expiry": changed(expiresAt=None),
    "no date": changed(expiresAt="tomorrow"),
    "a date without a zone": changed(expiresAt="2999-01-01T00:00:00"),
    "a number": changed(expiresAt=32503680000000),
    "before all time": changed(expiresAt="0001-01-01T00:00:00+14:00"),
    "a list": changed(expiresAt=[]),
    "no creation": changed(createdAt=None),
    "no user": changed(userId=None),
    "user of a shape": changed(userId="a\0b"),
    "surrogate": changed(userId="\ud800"),
    "true": changed(userId=True),
    "a user like a query": changed(userId={"$ne": ""}),
    "no id": changed(id=None),
    "id with a NUL": changed(id="\0"),
    "another token": changed(token="a" * 32),
    "no token": changed(token=None),
    "agent": changed(userAgent={}),
    "session is text": lambda stored: stored | {"session": "session"},
    "no session": lambda stored: {"user": stored["user"]},
    "a list of it": lambda stored: [stored],
    "text": lambda stored: json.dumps(stored),
    "null": lambda stored: None,
    "an empty object": lambda stored: {},
    "NaN": lambda stored: float("nan"),
}
NOT_EVEN_JSON = {
    "nothing": b"",
    "bytes": b"\xff\xfe\x00",
    "half": b'{"session": {"id"',
    "deep": b'{"session":' + b"[" * 100_000,
    "digits": b"9" * 10_000,
}


@pytest.mark.parametrize("change", NOT_A_SESSION.values(), ids=NOT_A_SESSION)
def test_a_value_that_is_no_active_session_of_the_token_is_refused(
    client: Client, person: Person, storage: redis.Redis, change: Callable[[dict[str, Any]], Any]
) -> None:
    credentials, name = credentials_of(person), key(person.session_token)
    storage.set(name, json.dumps(change(json.loads(str(storage.get(name))))))

    assert responses(client, credentials) == [(404, SIGNED_OUT)] * 3


@pytest.mark.parametrize("value", NOT_EVEN_JSON.values(), ids=NOT_EVEN_JSON)
def test_a_value_that_is_not_json_is_refused(
    client: Client, person: Person, storage: redis.Redis, value: bytes
) -> None:
    credentials = credentials_of(person)
    active, token = key(f"active-sessions-{person.user_id}"), key(person.session_token)
    listed = storage.get(active)
    storage.set(active, value)
    list_is_bad = statuses(client, credentials)
    storage.set(active, listed)
    storage.set(token, value)

    assert list_is_bad == [404, 200, 200]
    assert responses(client, credentials) == [(404, SIGNED_OUT)] * 3


@pytest.mark.parametrize(
    "active",
    [
        {"token": "x"},
        [None, 1, "token", [], {}, {"token": "x"}, {"expiresAt": 9e15}],
        [{"token": 1, "expiresAt": 9e15}, {"token": None, "expiresAt": 9e15}],
        [{"token": "\ud800\0", "expiresAt": 9e15}, {"token": "x", "expiresAt": "9"}],
        [{"token": "x", "expiresAt": 10**400}, {"token": "y", "expiresAt": float("inf")}],
    ],
    ids=["object", "entries", "tokens", "characters", "numbers"],
)
def test_a_malformed_list_of_sessions_counts_as_empty(
    client: Client, person: Person, storage: redis.Redis, active: Any
) -> None:
    token = person.token()
    storage.set(key(f"active-sessions-{person.user_id}"), json.dumps(active))

    assert statuses(client, [{"authorization": f"Bearer {token}"}]) == [404]


def test_a_redis_key_of_another_type_is_no_session(
    client: Client, person: Person, storage: redis.Redis
) -> None:
    credentials = credentials_of(person)
    for name in (person.session_token, f"active-sessions-{person.user_id}"):
        storage.delete(key(name))
        storage.rpush(key(name), "x")

    assert responses(client, credentials) == [(404, SIGNED_OUT)] * 3


def test_an_unsigned_token_finds_its_own_session_and_no_other_key(
    client: Client, person: Person, storage: redis.Redis, settings: Any
) -> None:
    settings.BETTER_AUTH_BEARER_REQUIRE_SIGNATURE = False
    storage.set(key("a-note"), str(storage.get(key(person.session_token))))
    tried = [person.session_token, "a-note", f"active-sessions-{person.user_id}", "unknown"]

    assert statuses(client, [{"authorization": f"Bearer {each}"} for each in tried]) == [200, 401, 401, 401]


def test_only_keys_with_the_prefix_count(
    client: Client, person: Person, storage: redis.Redis, settings: Any
) -> None:
    credentials = credentials_of(person)
    settings.BETTER_AUTH_SESSION_PREFIX = ""
    without = statuses(client, credentials)
    for name in (person.session_token, f"active-sessions-{person.user_id}"):
        storage.rename(key(name), name)  # the name without a prefix, as in Better Auth's core

    assert without == [404, 404, 404]
    assert statuses(client, credentials) == [200, 200, 200]


def test_of_too_many_sessions_those_that_expire_last_are_read(
    client: Client, person: Person, storage: redis.Redis
) -> None:
    active = key(f"active-sessions-{person.user_id}")
    listed, token = json.loads(str(storage.get(active))), person.token()
    soon = (datetime.now(UTC) + timedelta(minutes=1)).timestamp() * 1000
    storage.set(active, json.dumps([{"token": f"t{i}", "expiresAt": soon} for i in range(5000)] + listed))

    assert statuses(client, [{"authorization": f"Bearer {token}"}]) == [200]


# --- Outages -------------------------------------------------------------------------------


def test_an_unreachable_redis_is_a_503_at_once(
    client: Client, person: Person, settings: Any, audit: Callable[[], list[dict[str, Any]]]
) -> None:
    credentials = credentials_of(person)
    settings.BETTER_AUTH_SESSION_SOURCE = "redis://:secret-password@127.0.0.1:9/0"
    started = time.monotonic()

    assert responses(client, credentials) == [(503, UNAVAILABLE)] * 3
    assert time.monotonic() - started < 5
    assert [record["reason"] for record in audit()] == ["sessions_unavailable"] * 3
    assert int(post_from_page(client, **credentials[0])["Retry-After"]) > 0


def test_a_database_that_does_not_answer_is_a_503_here_too(
    client: Client, person: Person, audit: Callable[[], list[dict[str, Any]]]
) -> None:
    credentials = credentials_of(person)

    def broken(*args: Any) -> Any:
        raise OperationalError("the server closed the connection unexpectedly")

    with connection.execute_wrapper(broken):
        assert responses(client, credentials) == [(503, UNAVAILABLE)] * 3
    assert [record["status"] for record in audit()] == [503] * 3


def test_a_redis_that_does_not_answer_is_a_503_within_a_bounded_time(
    client: Client, person: Person, settings: Any
) -> None:
    credentials = credentials_of(person)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.BETTER_AUTH_SESSION_SOURCE = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        started = time.monotonic()

        assert responses(client, credentials[:1]) == [(503, UNAVAILABLE)]
        assert time.monotonic() - started < 10


def test_a_redis_that_hangs_holds_one_request_and_refuses_the_others_at_once(
    client: Client, person: Person, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    credentials = credentials_of(person)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0)
        settings.BETTER_AUTH_SESSION_SOURCE = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"

        assert responses(client, credentials * 7) == [(503, UNAVAILABLE)] * 21
        assert connections_of(silent) == 1
    assert [record.name for record in caplog.records if record.levelname == "ERROR"] == [
        "runtime.circuit_breaker"
    ]


def connections_of(server: socket.socket) -> int:
    """The number of connections to the server."""
    count = 0
    with suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            count += 1
    return count


@pytest.mark.parametrize("reported", [b":x\r\n", b"+OK\r\n", b"*0\r\n", b"HTTP/1.1 400 Bad Request\r\n"])
def test_a_server_that_is_not_a_redis_is_an_outage(
    client: Client, person: Person, settings: Any, reported: bytes
) -> None:
    credentials = credentials_of(person)

    class NotARedis(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline():
                self.request.send(reported)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), NotARedis) as server:
        threading.Thread(target=server.serve_forever, args=[0.01]).start()
        settings.BETTER_AUTH_SESSION_SOURCE = f"redis://127.0.0.1:{server.server_address[1]}/0"

        found = responses(client, credentials * 2)

        secondary_storage._client(settings.BETTER_AUTH_SESSION_SOURCE).close()
        server.shutdown()
    assert found == [(503, UNAVAILABLE)] * 6
    assert not secondary_storage._breaker(settings.BETTER_AUTH_SESSION_SOURCE).is_closed


def test_a_redis_that_answers_again_is_used_by_all_requests(
    client: Client, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = credentials_of(person)
    breaker = secondary_storage._breaker(conf.BETTER_AUTH_SESSION_SOURCE)
    breaker.failed(TimeoutError("it hung"))
    assert statuses(client, credentials) == [503] * 3

    monkeypatch.setattr(breaker, "_next_try_at", 0.0)

    assert statuses(client, credentials) == [200] * 3
    assert breaker.is_closed


@pytest.mark.parametrize("address", ["redis://:wrong@{0}/0", "redis://{0}/0", "redis://:{1}@{0}/99"])
def test_a_redis_that_refuses_our_password_is_a_503_and_the_password_is_not_shown(
    client: Client,
    person: Person,
    settings: Any,
    redis_url: str,
    address: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    credentials = credentials_of(person)
    password, _, place = redis_url.removeprefix("redis://:").removesuffix("/0").partition("@")
    settings.BETTER_AUTH_SESSION_SOURCE = address.format(place, password)

    assert responses(client, credentials) == [(503, UNAVAILABLE)] * 3
    assert password not in caplog.text


def test_a_restarted_redis_is_used_again_at_once(
    client: Client, person: Person, storage: redis.Redis
) -> None:
    credentials = credentials_of(person)
    before = statuses(client, credentials)
    storage.client_kill_filter(_type="normal", skipme=True)

    assert before == statuses(client, credentials) == [200, 200, 200]


# --- System checks
# ---------------------------------------------------------------------------------------------


def tables_missing(*names: str) -> list[checks.CheckMessage]:
    """The findings of the start with these tables renamed. The test's rollback restores the names."""
    with connection.cursor() as cursor:
        for name in names:
            cursor.execute(f'ALTER TABLE "{name}" RENAME TO "{name}_elsewhere"')
    return checks.run_checks(tags=["database"], databases=["default"])


def test_a_user_table_without_a_session_table_is_an_error_with_a_hint(settings: Any) -> None:
    settings.BETTER_AUTH_SESSION_SOURCE = "database"

    [finding] = tables_missing("session")

    assert (finding.id, finding.level) == ("authn.E025", checks.ERROR)
    assert "secondaryStorage" in finding.msg
    assert "storeSessionInDatabase" in str(finding.hint)
    assert "BETTER_AUTH_SESSION_SOURCE=redis://" in str(finding.hint)


def test_missing_tables_are_only_a_warning_because_migrate_may_come_first(settings: Any) -> None:
    settings.BETTER_AUTH_SESSION_SOURCE = "database"

    [finding] = tables_missing("session", "user")

    assert (finding.id, finding.level) == ("authn.W001", checks.WARNING)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ('ALTER TABLE "session" RENAME COLUMN "expiresAt" TO "expires_at"', "session cannot .* (42703)"),
        ('ALTER TABLE "user" RENAME COLUMN "emailVerified" TO "verified"', "user cannot .* (42703)"),
        ('ALTER TABLE "jwks" RENAME TO "jwkss"', "jwks cannot .* (42P01)"),
    ],
    ids=["session's column", "user's column", "table of keys"],
)
def test_a_table_that_every_request_would_fail_on_stops_the_start(
    settings: Any, wrong: str, code: str
) -> None:
    settings.BETTER_AUTH_SESSION_SOURCE = "database"
    with connection.cursor() as cursor:
        cursor.execute(wrong)

    [finding] = checks.run_checks(tags=["database"], databases=["default"])

    assert finding.id == "authn.W002"
    assert re.search(code.replace("(", r"\(").replace(")", r"\)"), finding.msg)
    assert "betterauth doctor" in str(finding.hint)


def test_a_row_that_cannot_be_read_does_not_stop_the_start(person: Person, settings: Any) -> None:
    settings.BETTER_AUTH_SESSION_SOURCE = "database"
    with connection.cursor() as cursor:
        cursor.execute('UPDATE "user" SET "createdAt" = \'infinity\'')

    assert checks.run_checks(tags=["database"], databases=["default"]) == []


def test_the_check_is_silent_if_all_needed_tables_exist(settings: Any, redis_url: str) -> None:
    settings.BETTER_AUTH_SESSION_SOURCE = "database"
    assert tables_missing() == []

    settings.BETTER_AUTH_SESSION_SOURCE = redis_url
    assert tables_missing("session") == []


def test_with_sessions_in_redis_the_server_needs_no_session_table(
    postgres_url: str,
    start_other_better_auth: Callable[..., Any],
    start_api: Callable[..., Any],
    redis_url: str,
) -> None:
    own = {"DATABASE_URL": create_database(postgres_url, "without_session_table")}
    in_redis = {"BETTER_AUTH_SESSION_SOURCE": redis_url, "BETTER_AUTH_SESSION_PREFIX": "better-auth:"}
    asked = operation("input.transcribe", audio_base64="AAAA", mime_type="audio/webm")
    with (
        start_other_better_auth(**own, SECONDARY_STORAGE_URL=redis_url) as auth,
        start_api(**own, **in_redis, BETTER_AUTH_URL=auth.origin) as api,
    ):
        person = auth.sign_up()
        token = person.token()
        statuses = [api.post(asked, token).status_code]
        person.sign_out()
        statuses.append(api.post(asked, token).status_code)

    assert statuses == [501, 404]


def test_an_empty_database_can_be_migrated_but_not_served_from(postgres_url: str) -> None:
    url = create_database(postgres_url, "still_empty")

    migrated, refused = manage("migrate", DATABASE_URL=url), python(START, DATABASE_URL=url)

    assert migrated.returncode == 0, migrated.stderr
    assert "Run Better Auth's own migrations" in migrated.stderr
    assert refused.returncode != 0
    assert "Run Better Auth's own migrations" in refused.stderr
    with psycopg.connect(url) as database:
        assert database.execute("SELECT to_regclass('support_thread')").fetchone() != (None,)


def test_the_server_starts_while_the_database_is_down() -> None:
    down = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}

    started = python(START, **down)

    assert started.returncode == 0, started.stderr
