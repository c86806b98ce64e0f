"""``manage.py betterauth explain``: every reason has a text, every step is tested, no output shows the
token."""

import ast
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection

from authn import errors, sessions
from authn.diagnosis.explanation import JWT_STEPS, explain
from authn.diagnosis.oauth_explanation import ACCESS_TOKEN_STEPS, OPAQUE_TOKEN_STEPS
from authn.diagnosis.reasons import REASONS
from authn.errors import Refused, Unavailable
from authn.jwt import access_tokens, signed, tokens
from tests.fixtures.accounts.forgeries import FORGERIES
from tests.fixtures.accounts.people import Person
from tests.fixtures.accounts.session_tokens import COOKIE_NAME
from tests.fixtures.accounts.signer import Signer, part
from tests.fixtures.environment import BETTER_AUTH_SECRET, BETTER_AUTH_URL

TOP = Path(__file__).parents[3]

pytestmark = pytest.mark.django_db

# --- Reasons ----------------------------------------------------------------------


def reasons_in_the_code() -> Iterator[str]:
    """All reasons with which this app raises a subclass of ``Refused``."""
    kinds = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Refused)
    }
    for module in (TOP / "authn").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in kinds or not node.args:
                continue
            match node.args[0]:
                case ast.Constant(value=str(reason)):
                    yield reason
                case ast.JoinedStr():  # missing_{claim}
                    yield from (f"missing_{claim}" for claim in tokens.REQUIRED + access_tokens.REQUIRED)
                case ast.Call():  # REASON_OF_EXCEPTION.get(type(exc), …)
                    yield from signed.REASON_OF_EXCEPTION.values()
    yield from (kind.default_code for kind in map(vars(errors).get, kinds) if kind is not Refused)
    # Of authn.authentication and authn.responses.
    yield from ("error", "no_credentials", errors.InsufficientScope.default_code)


def test_every_reason_has_its_step_its_meaning_and_its_remedy() -> None:
    reasons = set(reasons_in_the_code()) - {"invalid_token"}  # the client sees this code

    assert reasons == REASONS.keys()
    assert {row.values[1] for row in FORGERIES} <= REASONS.keys()
    for reason in REASONS.values():
        assert reason.step in {"", *JWT_STEPS, *ACCESS_TOKEN_STEPS, *OPAQUE_TOKEN_STEPS}
        assert reason.meaning.endswith(".")
        assert reason.remedy


def test_the_documentation_has_the_same_table() -> None:
    rows = [f"| `{name}` | {reason.meaning} | {reason.remedy} |" for name, reason in REASONS.items()]
    table = "| reason | what it means | what to do |\n|---|---|---|\n" + "\n".join(rows) + "\n"

    assert table in (TOP / "docs/troubleshooting.md").read_text()


# --- Steps ------------------------------------------------------------------------


def test_an_accepted_token_has_passed_every_step(person: Person) -> None:
    explained = explain(person.token())

    assert (explained.accepted, explained.reason, explained.status) == (True, "ok", 200)
    assert {outcome for _, outcome in explained.steps()} == {"passed"}
    assert person.email in explained.message
    assert explained.contents["sid"] == person.session_id


@dataclass
class Flaw:
    """Changes of header and claims that make a token fail at a step."""

    step: str
    header: dict[str, Any]
    claims: dict[str, Any]
    reason: str


NOW = int(time.time())
FLAWS = [
    Flaw("header", {"typ": "at+jwt"}, {}, "type"),
    Flaw("key", {"kid": "unknown"}, {}, "unknown_kid"),
    Flaw("algorithm", {"alg": "ES256"}, {}, "algorithm"),
    Flaw("payload", {}, {"email": None}, "missing_email"),
    Flaw("times", {}, {"exp": 901, "iat": 1}, "expired"),
    Flaw("issuer", {}, {"iss": "https://evil.example"}, "issuer"),
    Flaw("audience", {}, {"aud": "https://other.example"}, "audience"),
    Flaw("claims", {}, {"sid": "a session's"}, "sid"),
    Flaw("lifetime", {}, {"exp": NOW + 10**6}, "lifetime"),
    Flaw("sid", {}, {"sid": None}, "missing_sid"),
    Flaw("user", {}, {"sub": "somebody-else"}, "subject_mismatch"),
]


PLACES = [flaw.step for flaw in FLAWS]


@pytest.mark.parametrize("first", range(len(FLAWS)), ids=PLACES)
def test_a_token_with_several_flaws_stops_at_the_first_step(
    signer: Signer, person: Person, settings: Any, first: int
) -> None:
    settings.BETTER_AUTH_REQUIRE_SID = True
    header, claims = (
        signer.header(),
        signer.claims(sub=person.user_id, email=person.email, sid=person.session_id),
    )
    for flaw in reversed(FLAWS[first:]):
        header |= flaw.header
        claims |= flaw.claims

    explained = explain(signer.raw(claims, header))

    assert (explained.stopped_at, explained.reason) == (FLAWS[first].step, FLAWS[first].reason)
    steps = list(JWT_STEPS)
    assert [step for step in steps if step in PLACES] == PLACES
    outcomes = [outcome for _, outcome in explained.steps()]
    place = steps.index(FLAWS[first].step)
    assert outcomes == ["passed"] * place + ["failed"] + ["not reached"] * (len(steps) - place - 1)


@pytest.mark.parametrize(("forge", "reason"), FORGERIES)
def test_a_forgery_is_explained_with_the_reason_of_its_refusal(
    signer: Signer, forge: Callable[[Signer], str], reason: str
) -> None:
    token = forge(signer)

    explained = explain(token)

    # explain() removes white space around a pasted token.
    assert explained.reason == reason or token != token.strip()
    assert explained.stopped_at or token != token.strip()
    words = json.dumps([explained.message, explained.remedy, explained.contents], ensure_ascii=False)
    assert words.isprintable()
    assert all(secret not in words for secret in token.split(".")[1:] if len(secret) > 8)


@pytest.mark.parametrize(
    ("forge", "step"),
    [
        (lambda signer: "", "form"),
        (lambda signer: "a.b", "form"),
        (lambda signer: "a.b.c", "header"),
        (lambda signer: signer.raw(b"no JSON"), "payload"),
        (lambda signer: signer.raw([1]), "payload"),
        (lambda signer: signer.raw(signer.claims() | {"exp": "soon"}), "times"),
        (lambda signer: signer.raw(signer.claims() | {"jti": 7}), "claims"),
    ],
)
def test_a_malformed_token_stops_at_the_right_step(
    signer: Signer, forge: Callable[[Signer], str], step: str
) -> None:
    explained = explain(forge(signer))

    assert (explained.reason, explained.stopped_at) == ("malformed", step)


def test_the_session_is_the_last_step(person: Person) -> None:
    token, other = person.token(), person.auth.sign_in(person.email)
    person.sign_out()
    with_another = explain(token)
    other.sign_out()

    explained = explain(token)

    assert (with_another.reason, with_another.stopped_at) == ("session_ended", "session")

    assert (explained.reason, explained.stopped_at, explained.status) == ("no_active_session", "session", 404)
    assert explained.is_genuine


def test_a_missing_table_and_an_unreachable_database_are_explained(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = person.token()

    def gone(claims: Any) -> None:
        raise Unavailable from OperationalError()

    with connection.cursor() as cursor:
        cursor.execute('ALTER TABLE "session" RENAME TO "sessions"')
    other_shape = explain(token)
    monkeypatch.setattr(sessions, "resolve", gone)
    no_answer = explain(token)

    assert (other_shape.reason, other_shape.stopped_at) == ("error", "user")
    assert (no_answer.reason, no_answer.stopped_at, no_answer.status) == ("database_unavailable", "user", 503)


COOKIE = "t1FDfnoI9TL9l260v0Cc7S24ebQkLrTg.qfqNkKW+RLz/3ssbBG/z6fCVX0RcjGUqazRVjSgZ4jU="

# --- Messages ------------------------------------------------------------------------


def test_the_message_has_the_tokens_and_the_expected_value(signer: Signer, settings: Any) -> None:
    def message(**changes: Any) -> str:
        return explain(signer.token(**changes)).message

    wrong_issuer, wrong_audience = message(iss="https://evil.example"), message(aud="shop")

    assert "https://evil.example" in wrong_issuer
    assert BETTER_AUTH_URL in wrong_issuer
    assert "shop" in wrong_audience
    assert BETTER_AUTH_URL in wrong_audience
    assert "1970-01-01 00:15:01 UTC" in message(iat=1, exp=901)
    assert "3600 s" in message(exp=NOW + 10**6)
    assert signer.kid in explain(Signer.unknown().token()).message


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("better-auth.session_token=abc.def", "It looks like a cookie with its name"),
        (COOKIE, "signed session cookie"),
        (quote(COOKIE, safe=""), "signed session cookie"),
        ("t1FDfnoI9TL9l260v0Cc7S24ebQkLrTg", "Better Auth's session token"),
        ("\ufffd\x00\x01\ufffd", "characters that no token has"),
        ("two words", "a space or a line break"),
        ("eyJhbGciOiJFZERTQSJ9.eyJpYXQi", "The end may be cut off"),
        ("a.b.c.d.e", "five parts"),
        ("Bearer ", "nothing after the scheme"),
    ],
)  # fmt: skip
def test_a_value_that_is_no_jwt_is_described_and_not_repeated(given: str, words: str) -> None:
    explained = explain(given)

    assert explained.reason == "malformed"
    assert words in explained.message
    assert len(given) < 12 or given not in explained.message


def test_a_hostile_value_does_not_slow_the_patterns_down() -> None:
    started = time.perf_counter()

    explain("a." * 500 + " x")

    assert time.perf_counter() - started < 5  # a pattern that tries every split would need minutes


@pytest.mark.parametrize("prefix", ["Bearer ", "bearer  ", "Authorization: Bearer ", " \n", '"'])
def test_a_token_may_be_pasted_with_its_header_name_and_scheme(person: Person, prefix: str) -> None:
    assert explain(f"{prefix}{person.token()}\n").accepted


def test_a_sid_that_may_be_a_login_is_not_shown(signer: Signer) -> None:
    # By mistake, definePayload may have session.token here. Better Auth's session cache has it too.
    login = "t1FDfnoI9TL9l260v0Cc7S24ebQkLrTg"

    explained = explain(signer.token(sub="ghost", sid=login))

    assert explained.contents["sid"] == "t1FD… (32 characters)"


def test_control_characters_in_a_token_are_not_printed(signer: Signer) -> None:
    explained = explain(signer.token(iss="\x1b[2J" + "x" * 500))

    assert explained.contents["iss"].isprintable()
    assert len(explained.contents["iss"]) < 130


@pytest.fixture
def session_token(settings: Any, person: Person) -> str:
    """A signed session token of a user who is signed in."""
    settings.BETTER_AUTH_CREDENTIALS = ["cookie", "bearer"]
    settings.BETTER_AUTH_SECRET = BETTER_AUTH_SECRET
    return str(person.browser.cookies[COOKIE_NAME])


def test_a_session_token_is_explained_if_session_tokens_are_accepted(
    session_token: str, person: Person
) -> None:
    accepted = explain(f"Cookie: better-auth.session_token={session_token}")
    token, _, signature = unquote(session_token).rpartition(".")
    forged = explain(f"{token}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}")
    jwt = explain(person.token())
    person.sign_out()
    ended = explain(session_token)

    assert accepted.accepted
    assert (forged.reason, forged.stopped_at) == ("signature", "signature")
    assert (ended.reason, ended.stopped_at) == ("no_active_session", "session")
    assert (jwt.reason, jwt.stopped_at) == ("malformed", "form")
    assert "does not list jwt" in jwt.message
    for explained in (accepted, forged, ended):
        assert session_token.partition(".")[0] not in str(explained)


def test_an_expired_session_fails_at_the_last_step(session_token: str, person: Person) -> None:
    with connection.cursor() as cursor:
        cursor.execute('UPDATE "session" SET "expiresAt" = now() WHERE "userId" = %s', [person.user_id])

    explained = explain(session_token)

    assert (explained.reason, explained.stopped_at) == ("no_active_session", "expiry")
    assert explained.passed("ban")


def test_an_unsigned_token_is_explained_only_if_it_is_accepted(session_token: str, settings: Any) -> None:
    bare = session_token.partition(".")[0]

    assert explain(bare).reason == "malformed"
    settings.BETTER_AUTH_BEARER_REQUIRE_SIGNATURE = False
    assert explain(bare).accepted
    assert explain("nobodys").reason == "unknown_token"


# --- The command --------------------------------------------------------------------------------------


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        call_command("betterauth", "explain", *arguments)
    return int(str(ended.value.code))


def test_the_exit_status_is_0_if_accepted_and_1_if_refused(
    person: Person, capsys: pytest.CaptureFixture[str]
) -> None:
    token = person.token()
    statuses = [
        command(token),
        command("Bearer", token),
        command(f"{token[:-8]}AAAAAAAA"),
        command("--json", token),
    ]

    output = capsys.readouterr().out
    assert statuses == [0, 0, 1, 0]
    assert "failed      signature         must be made with this key" in output
    assert "Accepted:" in output
    assert "Refused, 401 (signature)" in output
    assert json.loads(output[output.index("\n{") :])["accepted"] is True
    assert all(secret not in output for secret in token.split(".")[1:])


@pytest.mark.parametrize(
    ("given", "status"),
    [(b"", 2), (b" \n", 2), (bytes(range(256)), 1), (b"Bearer", 1), (b"x" * 200_000, 1)],
    ids=["nothing", "blank", "binary", "scheme-alone", "huge"],
)
def test_any_bytes_on_stdin_are_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: bytes, status: int
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))

    assert command("-") == status

    output = capsys.readouterr()
    assert output.err.startswith("There is nothing to explain") if status == 2 else "Refused" in output.out


def test_log_lines_do_not_mix_with_the_output(
    signer: Signer, settings: Any, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    settings.BETTER_AUTH_KEYS, settings.BETTER_AUTH_JWKS_URL = "jwks", "http://127.0.0.1:9/jwks"

    assert command("--json", signer.token()) == 1

    assert json.loads(capsys.readouterr().out)["reason"] == "keys_unavailable"
    assert caplog.records == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain", "--tokn", "{}"],
        ["{}"],
        ["doctor", "{}"],
        ["explain", "--{}"],
        ["doctor", "--processes", "{}"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_not_repeated(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    token = f"{part({'alg': 'EdDSA'})}.{part({'sub': 'ada'})}.{part(b'signature of sixty-four bytes')}"

    with pytest.raises(SystemExit) as ended:
        call_command("betterauth", *[argument.format(token) for argument in arguments])

    output = capsys.readouterr()
    assert ended.value.code == 2
    assert all(secret not in output.out + output.err for secret in token.split("."))
    for named in ("betterauth doctor", "betterauth explain", "betterauth --help"):
        assert named in output.err


@pytest.mark.parametrize("name", ["doctor", "explain"])
def test_the_help_of_both_commands_ends_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        call_command("betterauth", name, "--help")

    assert capsys.readouterr().out.splitlines()[-1].startswith(f"Example: manage.py betterauth {name} ")
