"""``manage.py betterauth doctor``: it names each fault, and its remedy repairs the fault."""

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import InternalError, connection
from django.utils import timezone

from authn.diagnosis import doctor
from authn.diagnosis.doctor import EXAMINATIONS, deployment, examine
from authn.diagnosis.doctor.deployment import Deployment
from authn.diagnosis.doctor.findings import Finding, Outcome
from authn.tables import naming
from chatbackend.dev.postgres import create_database
from chatbackend.dev.processes import free_port
from tests.fixtures.accounts.people import BetterAuth
from tests.fixtures.accounts.signer import Signer
from tests.fixtures.environment import BETTER_AUTH_SECRET, BETTER_AUTH_URL
from tests.fixtures.servers.forkserver import manage, manage_in_terminal

SQL = ("CREATE ", "GRANT ", "REVOKE ", "REINDEX ")


def findings(examination: str, outcome: Outcome | None = None, **given: Any) -> list[Finding]:
    """The findings of one examination."""
    found = doctor.run(examination, Deployment(**given)).findings
    return [finding for finding in found if outcome in (None, finding.outcome)]


def bad_outcomes(**given: Any) -> dict[str, Outcome]:
    """The examinations with warnings or failures, without ``least_privilege``: the tests' role is a
    superuser."""
    bad = {each.name: each.outcome for each in examine(**given) if each.outcome in BAD}
    return {name: outcome for name, outcome in bad.items() if name != "least_privilege"}


BAD = (Outcome.WARNING, Outcome.FAILURE)


def run(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def apply(remedy: str, settings: Any) -> None:
    """Apply a remedy: run its SQL, and set its variables as chatbackend/settings.py reads them."""
    run("RESET ROLE")
    for line in remedy.splitlines():
        name, _, value = line.partition("=")
        value = value.partition(" ")[0].rstrip(",;")
        if line.startswith(SQL):
            run(line.replace(" CONCURRENTLY", ""))  # it cannot run in a transaction, and the test has one
        elif name == "BETTER_AUTH_TIME_ZONE":
            settings.DATABASES["default"]["TIME_ZONE"] = value
        elif name == "BETTER_AUTH_JWKS_PRIVATE":
            setattr(settings, name, value == "True")
        elif name in ("BETTER_AUTH_TABLES", "BETTER_AUTH_COLUMNS"):
            setattr(settings, name, dict(pair.split("=") for pair in value.split(",")))
        elif name in ("BETTER_AUTH_PLUGINS", "BETTER_AUTH_ALGORITHMS", "BETTER_AUTH_AUDIENCE"):
            setattr(settings, name, value.split(","))
        else:
            assert name.startswith("BETTER_AUTH_"), line
            setattr(settings, name, value)


@pytest.fixture
def restored_settings(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Restores the database's settings too: their dict is shared by the whole run."""
    monkeypatch.setitem(settings.DATABASES["default"], "TIME_ZONE", "UTC")
    return settings


# --- In a transaction on the tests' database ----------------------------------------------------

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def token(auth: BetterAuth) -> str:
    """A token of a user who is signed in during all these tests. Each test's changes are rolled back."""
    return auth.sign_up().token()


def test_a_good_deployment_has_no_warnings_and_no_failures(token: str) -> None:
    assert bad_outcomes(token=token) == {}


def setting(**values: Any) -> Callable[[Any], None]:
    def cause(settings: Any) -> None:
        for name, value in values.items():
            setattr(settings, name, value)

    return cause


def sql(*statements: str) -> Callable[[Any], None]:
    return lambda settings: run(*statements)


AS_A_ROLE = ("CREATE ROLE of_the_backend", "SET LOCAL ROLE of_the_backend")
NAIVE = [
    f'ALTER TABLE "session" ALTER "{column}" TYPE timestamp USING "{column}" AT TIME ZONE \'Asia/Kolkata\''
    for column in ("createdAt", "updatedAt", "expiresAt")
]


@dataclass(frozen=True)
class Fault:
    """``named``: a part of the finding's message. ``is_repaired``: the remedy can be applied here, and
    repairs it."""

    cause: Callable[[Any], None]
    examination: str
    outcome: Outcome
    named: str
    is_repaired: bool = True


FAULTS = {
    "no grants": Fault(sql(*AS_A_ROLE), "grants", Outcome.FAILURE, "of_the_backend"),
    "no usage grant on the schema": Fault(
        sql('CREATE SCHEMA "Auth"', 'ALTER TABLE "session" SET SCHEMA "Auth"', *AS_A_ROLE),
        "tables",
        Outcome.FAILURE,
        "of_the_backend",
    ),
    "another schema": Fault(
        sql("CREATE SCHEMA auth", 'ALTER TABLE "session" SET SCHEMA auth'),
        "tables",
        Outcome.FAILURE,
        "auth.session",
    ),
    "another name": Fault(
        sql('ALTER TABLE "user" RENAME TO "User"', 'ALTER TABLE "jwks" RENAME TO "signing"'),
        "tables",
        Outcome.FAILURE,
        "public.User",
    ),
    "another column": Fault(
        sql('ALTER TABLE "session" RENAME "userId" TO user_id'),
        "columns",
        Outcome.FAILURE,
        "user_id",
    ),
    "no table of keys": Fault(
        sql('DROP TABLE "jwks"'), "tables", Outcome.FAILURE, "no table jwks", is_repaired=False
    ),
    "no table of sessions": Fault(
        sql('DROP TABLE "session"'), "tables", Outcome.FAILURE, "no table session", is_repaired=False
    ),
    "an unused session table": Fault(
        sql('UPDATE "session" SET "createdAt" = "createdAt" - interval \'40 days\''),
        "sessions",
        Outcome.WARNING,
        "secondaryStorage",
        is_repaired=False,
    ),
    "a table of an older version": Fault(
        sql('ALTER TABLE "jwks" DROP "alg"'),
        "columns",
        Outcome.FAILURE,
        "1.7",
    ),
    "ids of two types": Fault(
        sql(
            'ALTER TABLE "session" DROP CONSTRAINT "session_userId_fkey"',
            'ALTER TABLE "session" ALTER "userId" TYPE integer USING 1',
        ),
        "types",
        Outcome.FAILURE,
        "integer",
        is_repaired=False,
    ),
    "local time without a zone": Fault(sql(*NAIVE), "time_zone", Outcome.FAILURE, "5 h"),
    "no index on the session's user": Fault(
        sql('DROP INDEX "session_userId_idx"'),
        "indexes",
        Outcome.WARNING,
        "public.session.userId",
    ),
    "no unique index on emails": Fault(
        sql('ALTER TABLE "user" DROP CONSTRAINT "user_email_key"'),
        "indexes",
        Outcome.FAILURE,
        "public.user.email",
    ),
    "an algorithm that is not allowed": Fault(
        setting(BETTER_AUTH_ALGORITHMS=["ES256"]),
        "keys",
        Outcome.FAILURE,
        "EdDSA",
    ),
    "only retired keys": Fault(
        sql('UPDATE "jwks" SET "expiresAt" = now() - interval \'1 hour\''),
        "keys",
        Outcome.WARNING,
        "expired",
        is_repaired=False,
    ),
    "no key yet": Fault(sql('DELETE FROM "jwks"'), "keys", Outcome.WARNING, "is empty", is_repaired=False),
    "a private key in the column of public keys": Fault(
        sql("""UPDATE "jwks" SET "publicKey" = '{"kty": "OKP", "d": "x"}'"""),
        "keys",
        Outcome.FAILURE,
        "it is a private key",
        is_repaired=False,
    ),
    "another Better Auth's database": Fault(
        sql('DELETE FROM "jwks"'), "jwks", Outcome.FAILURE, "another Better Auth", is_repaired=False
    ),
    "no key set at the JWKS URL": Fault(
        setting(
            BETTER_AUTH_KEYS="jwks",
            BETTER_AUTH_JWKS_PRIVATE=True,
            BETTER_AUTH_JWKS_URL=f"{BETTER_AUTH_URL}/api/auth/keys",
        ),
        "jwks",
        Outcome.FAILURE,
        "404",
    ),
    "a key set in a private network": Fault(
        setting(BETTER_AUTH_KEYS="jwks", BETTER_AUTH_JWKS_PRIVATE=False),
        "jwks",
        Outcome.FAILURE,
        "private network",
    ),
    "no server at the JWKS URL": Fault(
        setting(BETTER_AUTH_JWKS_URL="http://127.0.0.1:9/jwks"),
        "jwks",
        Outcome.WARNING,
        "http://127.0.0.1:9/jwks",
        is_repaired=False,
    ),
    "an issuer with a slash": Fault(
        setting(BETTER_AUTH_ISSUER=f"{BETTER_AUTH_URL}/"),
        "issuer",
        Outcome.FAILURE,
        f"{BETTER_AUTH_URL}/",
        is_repaired=False,
    ),
    "another audience": Fault(
        setting(BETTER_AUTH_AUDIENCE=["https://api.example.com"]),
        "audience",
        Outcome.WARNING,
        "https://api.example.com",
        is_repaired=False,
    ),
    "an undeclared admin plugin": Fault(
        sql('ALTER TABLE "user" ADD "banned" boolean'),
        "plugins",
        Outcome.FAILURE,
        "banned",
    ),
    "a setting that a system check refuses": Fault(
        setting(BETTER_AUTH_URL="auth.example.com"),
        "settings",
        Outcome.FAILURE,
        "authn.E001",
        is_repaired=False,
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_is_named_and_its_remedy_repairs_it(
    token: str, restored_settings: Any, fault: Fault
) -> None:
    fault.cause(restored_settings)

    found = findings(fault.examination, fault.outcome)

    assert fault.named in "\n".join(finding.message for finding in found)
    assert all(finding.remedy for finding in found)
    if fault.is_repaired:
        for remedy in dict.fromkeys(finding.remedy for finding in found):
            apply(remedy, restored_settings)
        if "of_the_backend" in fault.named:
            run("SET LOCAL ROLE of_the_backend")
        assert findings(fault.examination, fault.outcome) == []


def test_a_token_can_confirm_an_unusual_issuer(signer: Signer, settings: Any) -> None:
    settings.BETTER_AUTH_ISSUER = f"{BETTER_AUTH_URL}/"

    assert findings("issuer", Outcome.FAILURE)
    assert not findings("issuer", Outcome.FAILURE, token=signer.token(iss=f"{BETTER_AUTH_URL}/"))


@pytest.mark.parametrize("secret", [BETTER_AUTH_SECRET, "another-secret-of-thirty-two-characters"])
def test_a_token_can_confirm_the_secret(signer: Signer, settings: Any, secret: str) -> None:
    settings.BETTER_AUTH_KEYS, settings.BETTER_AUTH_SECRET = "secret", BETTER_AUTH_SECRET
    token = Signer("", "HS256", secret).token(email="nobody@example.com")

    (finding,) = findings("token", token=token)

    # No user has this email. With the right secret, only that is wrong.
    assert ("signature" in finding.message) == (secret != BETTER_AUTH_SECRET)
    assert ("user_not_found" in finding.message) == (secret == BETTER_AUTH_SECRET)
    assert finding.outcome == Outcome.FAILURE


def test_different_clocks_are_found(auth: BetterAuth, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    real = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: real() - timedelta(minutes=20))

    database, better_auth = findings("clock")

    assert (database.outcome, better_auth.outcome) == (Outcome.WARNING, Outcome.FAILURE)
    assert "20 min ahead of ours" in database.message
    assert "20 min ahead of ours" in better_auth.message
    settings.BETTER_AUTH_LEEWAY_SECONDS = float(better_auth.remedy.rpartition("=")[2])
    assert {finding.outcome for finding in findings("clock")} == {Outcome.OK}


def test_too_many_connections_are_found(settings: Any) -> None:
    (finding,) = findings("connections", processes=20)

    assert finding.outcome == Outcome.FAILURE
    assert "each of 20 processes" in finding.message
    name, _, rest = finding.remedy.partition("=")
    assert name == "WORKER_THREADS"
    settings.WORKER_THREADS = int(rest.partition(",")[0])
    assert findings("connections", processes=20)[0].outcome == Outcome.OK


def test_the_connection_of_the_readiness_probe_is_counted(settings: Any) -> None:
    settings.WORKER_THREADS = 7

    (finding,) = findings("connections")

    assert finding.message.startswith("The 8 connections of 1 process ")


def test_a_good_newer_key_makes_a_bad_older_one_a_warning(signer: Signer) -> None:
    Signer.in_jwks_table(alg="ES384")

    assert bad_outcomes() == {"keys": Outcome.WARNING}


def test_a_locked_table_does_not_block_the_doctor(
    token: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "STATEMENT_TIMEOUT_MS", 100)
    with psycopg.connect(database_url) as other:
        other.execute('LOCK TABLE "session"')

        (finding,) = findings("sessions")

    assert (finding.outcome, "55P03" in finding.message or "57014" in finding.message) == (
        Outcome.WARNING,
        True,
    )


def test_the_doctor_changes_nothing_and_reads_no_secret(token: str) -> None:
    seen: list[str] = []

    def record(execute: Any, statement: str, params: Any, many: bool, context: Any) -> Any:
        seen.append(statement.strip())
        return execute(statement, params, many, context)

    with connection.execute_wrapper(record):
        list(examine(token=token))

    assert len(seen) > 20
    assert {statement.split()[0] for statement in seen} <= {
        "SELECT",
        "SET",
        "SAVEPOINT",
        "ROLLBACK",
        "RELEASE",
    }
    for secret in ('"privateKey"', '"token"', '"account"', '"verification"', "count(", "*)"):
        assert secret not in "\n".join(seen).replace("COUNT", "count")


def test_the_doctors_cursor_is_read_only() -> None:
    with pytest.raises(InternalError, match="read-only"), deployment.read_only_cursor("default") as cursor:
        cursor.execute("CREATE TABLE made_by_the_doctor ()")


def test_control_characters_in_a_table_are_not_printed(
    token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run("""UPDATE "jwks" SET "id" = E'\\x1b[2J'""")

    with pytest.raises(SystemExit):
        call_command("betterauth", "doctor")

    output = capsys.readouterr().out
    assert "Key ?[2J is usable." in output
    assert "\x1b[2J" not in output


def test_an_examination_that_fails_does_not_stop_the_others(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_error(deployment: Any) -> Iterator[Finding]:
        raise RuntimeError("postgresql://user:password@host")

    monkeypatch.setitem(EXAMINATIONS, "tables", raise_error)

    made = {each.name: each for each in examine()}

    assert made["tables"].outcome == Outcome.FAILURE
    assert "password" not in str(made["tables"])
    assert made["indexes"].outcome == Outcome.OK


def test_the_redis_with_the_sessions_is_examined(redis_url: str, settings: Any) -> None:
    redis_url = f"{redis_url.removesuffix('0')}1"  # other tests use database 0
    settings.BETTER_AUTH_SESSION_SOURCE = redis_url
    with closing(redis.Redis.from_url(redis_url)) as client:
        client.flushall()
        nothing = findings("secondary_storage")
        client.set("better-auth:active-sessions-ada", "[]")
        elsewhere = findings("secondary_storage")
        apply(elsewhere[0].remedy, settings)
        found = findings("secondary_storage")
        client.flushdb()
    settings.BETTER_AUTH_SESSION_SOURCE = "redis://:geheim@127.0.0.1:9"
    gone = findings("secondary_storage")

    assert [each[0].outcome for each in (nothing, elsewhere, found, gone)] == [
        Outcome.WARNING,
        Outcome.FAILURE,
        Outcome.OK,
        Outcome.FAILURE,
    ]
    assert "geheim" not in str(gone)
    assert findings("sessions")[0].outcome == Outcome.SKIPPED


def test_a_redis_with_many_other_keys_is_not_scanned_completely(
    redis_url: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_url = f"{redis_url.removesuffix('0')}2"
    settings.BETTER_AUTH_SESSION_SOURCE = redis_url
    monkeypatch.setattr("authn.diagnosis.doctor.sessions.MAX_SCANNED_KEYS", 4000)
    with closing(redis.Redis.from_url(redis_url)) as client:
        client.mset({f"cart-{number}": "" for number in range(20_000)})
        client.config_resetstat()
        findings("secondary_storage")
        asked = client.info("commandstats")["cmdstat_scan"]["calls"]
        client.flushdb()

    assert asked == 4


def test_a_redis_user_that_may_not_scan_is_no_failure(redis_url: str, settings: Any) -> None:
    with closing(redis.Redis.from_url(redis_url)) as client:
        client.acl_setuser("reader", enabled=True, passwords=["+p"], commands=["+mget"], keys=["*"])
    settings.BETTER_AUTH_SESSION_SOURCE = f"redis://reader:p@{redis_url.partition('@')[2]}"

    assert findings("secondary_storage")[0].outcome == Outcome.SKIPPED


def test_the_token_column_is_needed_only_for_session_tokens(token: str, settings: Any) -> None:
    assert "read token" in findings("least_privilege")[0].message
    assert '"token"' not in findings("least_privilege")[0].remedy

    settings.BETTER_AUTH_CREDENTIALS = ["jwt", "cookie"]

    assert "read token" not in findings("least_privilege")[0].message
    assert '"token"' in findings("least_privilege")[0].remedy


# --- The command, on other deployments -------------------------------------------------------


@dataclass(frozen=True)
class Report:
    status: int
    examinations: dict[str, dict[str, Any]]
    output: str

    def named(self, outcome: str) -> dict[str, str]:
        return {
            name: "\n".join(
                finding["message"] for finding in each["findings"] if finding["outcome"] == outcome
            )
            for name, each in self.examinations.items()
            if each["outcome"] == outcome
        }

    def remedies(self, *examinations: str) -> list[str]:
        found = (finding for name in examinations for finding in self.examinations[name]["findings"])
        return list(dict.fromkeys(line for finding in found for line in finding["remedy"].splitlines()))

    def variables(self, *examinations: str) -> dict[str, str]:
        pairs = (line.partition("=") for line in self.remedies(*examinations) if not line.startswith(SQL))
        return {name: value.partition(" ")[0] for name, _, value in pairs if name.isupper() or "_" in name}


def doctor_report(*arguments: str, **env: str) -> Report:
    done = manage("betterauth", "doctor", "--json", *arguments, **env)
    report = json.loads(done.stdout)
    examinations = {each["name"]: each for each in report["examinations"]}
    assert examinations.keys() == EXAMINATIONS.keys()
    assert report["ok"] == (done.returncode == 0)
    return Report(done.returncode, examinations, done.stdout + done.stderr)


def test_the_local_stack_has_no_failure(token: str, database_url: str) -> None:
    report = doctor_report(DATABASE_URL=database_url, DEBUG="True")

    assert (report.status, report.named("failure")) == (0, {})


def test_remedies_lead_a_drizzle_team_to_its_settings_and_to_its_own_role(
    postgres_url: str, start_other_better_auth: Callable[..., Any]
) -> None:
    url = create_database(postgres_url, "of_a_team_with_drizzle")
    with start_other_better_auth(DATABASE_URL=url, ADAPTER="drizzle", PLURAL="1") as auth:
        token = auth.sign_up().token()
        env = {"DATABASE_URL": url, "BETTER_AUTH_URL": auth.origin}

        # One run finds everything: tables, columns and the time zone.
        first = doctor_report(**env)
        env |= first.variables("tables", "columns")
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute("CREATE ROLE reader LOGIN PASSWORD 'geheim'")
            owner.execute("GRANT USAGE ON SCHEMA public TO reader")
            owner.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO reader")
            owner.execute("GRANT SELECT ON sessions TO PUBLIC")
            owner.execute("CREATE ROLE team IN ROLE pg_read_all_data, pg_write_all_data ROLE reader")
            owner.execute("GRANT SELECT ON users TO team")
            env["BETTER_AUTH_DATABASE_URL"] = url.replace(url.split("//")[1].split("@")[0], "reader:geheim")
            second = doctor_report(**env)
            for statement in second.remedies("least_privilege", "indexes"):
                owner.execute(statement)
            third = doctor_report("--token", token, **env)
            columns = owner.execute("SELECT count(*) FROM users").fetchone()
            others = owner.execute("SELECT has_table_privilege('team', 'users', 'SELECT')").fetchone()

    assert first.status == second.status == 1
    assert set(first.named("failure")) == {"tables", "columns"}
    assert "reader" in second.named("failure")["least_privilege"]
    assert "public.jwkss: insert, update, delete, truncate, read private_key" in second.output
    assert (third.status, third.named("failure"), third.named("warning")) == (0, {}, {})
    assert "agrees" in str(third.examinations["time_zone"])
    assert columns == (1,)
    assert others == (True,)  # other members of the group keep their grants
    for report in (first, second, third):
        assert "geheim" not in report.output
        assert token.split(".")[1] not in report.output
        assert token.split(".")[2] not in report.output


def test_a_missing_jwt_plugin_is_found(
    postgres_url: str, start_other_better_auth: Callable[..., Any]
) -> None:
    url = create_database(postgres_url, "of_a_team_without_jwt")
    with start_other_better_auth(DATABASE_URL=url, PLUGINS="{}") as auth:
        report = doctor_report(DATABASE_URL=url, BETTER_AUTH_URL=auth.origin)

    assert "no table jwks" in report.named("failure")["tables"]
    assert "jwt()" in report.output
    assert "404" in report.named("warning")["jwks"]


def test_better_auth_on_sqlite_is_examined_too(tmp_path: Path) -> None:
    file = tmp_path / "auth.db"
    with closing(sqlite3.connect(file)) as database:  # like Better Auth's tables
        for name, columns in SQLITE_TABLES.items():
            database.execute(f'CREATE TABLE "{name}" ({columns})')
    nobody = "127.0.0.1:9"
    env = {
        "BETTER_AUTH_DATABASE_URL": f"sqlite:///{file}",
        "BETTER_AUTH_URL": f"http://{nobody}",
        "DATABASE_URL": f"postgresql://{nobody}/chat",
    }

    report = doctor_report(**env)

    assert set(report.named("failure")) == {"database"}  # our own database does not exist
    assert {"tables", "columns", "time_zone"} <= report.named("ok").keys()
    assert "empty" in report.named("warning")["keys"]
    assert (
        not doctor_report(**env | {"BETTER_AUTH_DATABASE_URL": f"sqlite:///{file}x"})
        .named("ok")
        .get("tables")
    )
    assert not Path(f"{file}x").exists()


SQLITE_TABLES = {
    "user": "id text primary key, name text, email text unique, emailVerified integer, createdAt date, "
    "updatedAt date",
    "session": "id text primary key, expiresAt date, token text unique, createdAt date, updatedAt date, "
    "ipAddress text, userAgent text, userId text",
    "jwks": "id text primary key, publicKey text, privateKey text, createdAt date, expiresAt date, alg text, "
    "crv text",
}


def test_an_unreachable_database_is_one_failure_without_its_password() -> None:
    url = f"postgresql://backend:geheim@127.0.0.1:{free_port()}/chat"

    report = doctor_report(DATABASE_URL=url, BETTER_AUTH_URL="https://user:geheim@auth.invalid")

    assert report.status == 1
    assert "nothing listens there" in report.named("failure")["database"]
    assert {"tables", "columns", "indexes", "grants", "keys"} <= report.named("skipped").keys()
    assert "geheim" not in report.output


def test_another_program_at_the_databases_port_is_found(auth: BetterAuth) -> None:
    report = doctor_report(DATABASE_URL=f"postgresql://a:b@{auth.origin.partition('//')[2]}/chat")

    assert "another program than PostgreSQL listens there" in report.named("failure")["database"]


def test_a_server_without_the_required_tls_is_found(database_url: str) -> None:
    separator = "&" if "?" in database_url else "?"

    report = doctor_report(
        DATABASE_URL=f"{database_url}{separator}ssl=true", BETTER_AUTH_URL="https://auth.invalid"
    )

    assert "TLS" in report.named("failure")["database"]


def test_an_unsupported_database_url_is_one_failure() -> None:
    report = doctor_report(
        DATABASE_URL="garbage://backend:geheim@localhost/chat", BETTER_AUTH_URL="http://auth.invalid"
    )

    assert report.status == 1
    assert report.named("failure") == {
        "database": "DATABASE_URL is not the address of a PostgreSQL database."
    }
    assert "unknown" not in report.output
    assert "geheim" not in report.output


def test_the_most_important_comes_first_and_a_next_step_last(token: str, database_url: str) -> None:
    env = {"DATABASE_URL": database_url, "BETTER_AUTH_ISSUER": f"{BETTER_AUTH_URL}/"}

    done = manage("betterauth", "doctor", "--token", "-", stdin="no.such.token", **env)

    lines = done.stdout.splitlines()
    outcomes = [line.split()[0] for line in lines[:-3] if line[0] != " "]
    assert done.returncode == 1
    assert outcomes == sorted(outcomes, key=["failure", "warning", "ok", "skipped"].index)
    assert any(line.startswith("failure     issuer") for line in lines)
    assert any(line.strip().startswith("→") and "BETTER_AUTH_ISSUER" in line for line in lines)
    assert lines[-4] == "skipped     2 examinations    secondary_storage, access_tokens (why: --all)"
    assert lines[-2:] == [
        "20 examinations: 2 failures, 1 warning.",
        "Next: do what the first arrow (→) says, and run this command again.",
    ]
    assert "no.such.token" not in done.stdout
    assert django_settings.SECRET_KEY not in done.stdout


def test_an_unknown_alias_of_the_database_is_one_failure_and_breaks_no_examination(settings: Any) -> None:
    settings.BETTER_AUTH_DATABASE = "missing"

    examinations = list(examine())

    assert [each.name for each in examinations if each.outcome == Outcome.FAILURE] == ["settings"]


def test_a_missing_table_of_members_is_found_if_the_plugin_is_listed(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = {f"member.{name}" for name in ("id", "userId", "organizationId", "role")}
    monkeypatch.setattr(naming, "fields", naming.fields | declared)

    (finding,) = findings("tables", Outcome.FAILURE)
    run('CREATE TABLE members (id text, "organizationId" text, "userId" text)')
    run("ALTER TABLE members ADD role text")
    (other_name,) = findings("tables", Outcome.FAILURE)

    assert "there is no table member" in finding.message
    assert "remove organization from BETTER_AUTH_PLUGINS" in finding.remedy
    assert other_name.remedy == "BETTER_AUTH_TABLES=member=members"


def test_eleven_findings_of_one_wrong_setting_are_one_failure(token: str, database_url: str) -> None:
    wrong = {"DATABASE_URL": database_url, "BETTER_AUTH_NAMING": "snake"}

    first, *lines = manage("betterauth", "doctor", **wrong).stdout.splitlines()

    assert first == "failure     columns           BETTER_AUTH_NAMING corrects 11 findings:"
    assert all(line.strip().startswith("- public.") for line in lines[:11])
    assert lines[11].strip() == "→ BETTER_AUTH_NAMING=camel"
    assert lines[-2] == "20 examinations: 1 failure, 1 warning."
    assert "The database raised an error" not in str(lines)  # the missing columns are reported once


def test_all_columns_of_missing_plugins_have_one_remedy(token: str, database_url: str) -> None:
    plugins = {"BETTER_AUTH_PLUGINS": "two-factor,anonymous"}

    first, *lines = manage("betterauth", "doctor", DATABASE_URL=database_url, **plugins).stdout.splitlines()

    assert first == "failure     columns           BETTER_AUTH_PLUGINS corrects 2 findings:"
    assert lines[2].endswith("set BETTER_AUTH_PLUGINS=")


def test_each_skipped_examination_has_a_reason() -> None:
    nowhere = "postgresql://a:b@127.0.0.1:9/chat"

    shown = manage("betterauth", "doctor", "--all", DATABASE_URL=nowhere).stdout

    assert "skipped     columns           The database cannot be reached." in shown


def test_a_terminal_shows_colours_and_a_pipe_does_not() -> None:
    garbage = {"DATABASE_URL": "garbage"}

    status, in_terminal = manage_in_terminal("betterauth", "doctor", **garbage)
    in_pipe = manage("betterauth", "doctor", **garbage)

    assert status == in_pipe.returncode == 1
    assert re.search(r"^\x1b\[[\d;]+mfailure ", in_terminal)
    assert "\x1b" not in in_pipe.stdout
    assert re.sub(r"\x1b\[[\d;]*m", "", in_terminal).split() == in_pipe.stdout.split()
