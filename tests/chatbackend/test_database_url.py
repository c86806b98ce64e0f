"""DATABASE_URL as other drivers write it: the accepted parameters, and the error for others."""

from collections.abc import Callable
from typing import Any
from unittest import mock

import psycopg
import pytest
from django.core.checks import run_checks
from django.db import connections
from psycopg.conninfo import make_conninfo

from chatbackend.database_url import LIBPQ, UnusableUrl, parse
from chatbackend.settings import DATABASE_FAULTS, database
from tests.fixtures.accounts.people import Person
from tests.fixtures.servers.api import operation
from tests.fixtures.servers.forkserver import manage, python

URL = "postgresql://shop:geheim@db.example.com:5433/shop"
UNPREPARED = {"prepare_threshold": None}


def options(query: str, base: str = URL) -> dict[str, Any]:
    return dict(parse(f"{base}?{query}")["OPTIONS"])


# --- Accepted -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "accepted"),
    [
        # Prisma
        ("schema=public", {}),
        ("schema=", {}),
        ("schema=shop", {"options": '-c search_path="shop"'}),
        ("schema=shop&options=-c%20geqo%3Doff", {"options": '-c geqo=off -c search_path="shop"'}),
        ("pgbouncer=true&connection_limit=1&pool_timeout=0", UNPREPARED),
        ("pgbouncer=false&statement_cache_size=100", {}),
        ("statement_cache_size=0&connect_timeout=15", UNPREPARED | {"connect_timeout": "15"}),
        # node-postgres and postgres.js
        ("ssl=true", {"sslmode": "require"}),
        ("ssl", {"sslmode": "require"}),
        ("ssl=no-verify", {"sslmode": "require"}),
        ("sslmode=no-verify", {"sslmode": "require"}),
        ("ssl=false", {"sslmode": "disable"}),
        ("ssl=verify-full", {"sslmode": "verify-full"}),
        ("uselibpqcompat=true&sslmode=require", {"sslmode": "require"}),
        ("prepare=false&max=1", UNPREPARED),
        # JDBC
        ("currentSchema=a,b", {"options": '-c search_path="a","b"'}),
        ("prepareThreshold=0&loginTimeout=9", UNPREPARED | {"connect_timeout": "9"}),
        ("ApplicationName=shop", {"application_name": "shop"}),
        # SQLAlchemy with asyncpg, Rails
        ("ssl=require&prepared_statement_cache_size=0", UNPREPARED | {"sslmode": "require"}),
        ("pool=5&prepared_statements=false&encoding=unicode", UNPREPARED),
        # libpq itself, Neon and Supabase
        ("host=a,b&port=1,2&target_session_attrs=read-write", {"target_session_attrs": "read-write"}),
        ("sslmode=require&channel_binding=require", {"sslmode": "require", "channel_binding": "require"}),
        ("pgbouncer=true&supa=base-pooler.x", UNPREPARED),
    ],
)  # fmt: skip
def test_a_parameter_with_an_equivalent_is_translated(query: str, accepted: dict[str, Any]) -> None:
    assert options(query) == accepted

    libpq_names = accepted.keys() - UNPREPARED.keys()
    assert libpq_names <= LIBPQ
    psycopg.conninfo.conninfo_to_dict(make_conninfo(**{name: accepted[name] for name in libpq_names}))


def test_ssl_does_not_override_sslmode() -> None:
    assert options("sslmode=verify-full&ssl=true") == options("ssl=true&sslmode=verify-full")
    assert options("ssl=true&sslmode=verify-full") == {"sslmode": "verify-full"}


def test_with_a_pooler_there_are_no_server_side_cursors() -> None:
    assert parse(f"{URL}?pgbouncer=true")["DISABLE_SERVER_SIDE_CURSORS"] is True
    assert "DISABLE_SERVER_SIDE_CURSORS" not in parse(URL)


@pytest.mark.parametrize(
    "url",
    [
        "postgres://shop:p%40ss%2F%3Fword@db.example.com:5433/shop",
        "postgresql+psycopg2://shop:p%40ss%2F%3Fword@db.example.com:5433/shop",
        "postgresql+asyncpg://shop:p%40ss%2F%3Fword@db.example.com:5433/shop",
        "jdbc:postgresql://db.example.com:5433/shop?user=shop&password=p%40ss%2F%3Fword",
        "postgresql:///?host=db.example.com&port=5433&dbname=shop&user=shop&password=p%40ss%2F%3Fword",
        " postgresql://shop:p@ss%2F%3Fword@db.example.com:5433/shop\n",
    ],
)
def test_each_way_to_write_an_address_gives_the_same_database(url: str) -> None:
    read = parse(url)

    place = {name: str(read[name]) for name in ("HOST", "PORT", "NAME", "USER", "PASSWORD")}
    assert place == {
        "HOST": "db.example.com",
        "PORT": "5433",
        "NAME": "shop",
        "USER": "shop",
        "PASSWORD": "p@ss/?word",
    }
    assert read["ENGINE"] == "django.db.backends.postgresql"
    assert read["OPTIONS"] == {}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("schema", "named"), [("shop", '"shop"'), ("My%20Shop", '"My Shop"'), ("a%22b%5Cc%27", '"a""b\\c\'"')]
)
def test_postgresql_uses_the_schema_in_the_url(postgres_url: str, schema: str, named: str) -> None:
    ours = connections["default"].copy("elsewhere")
    ours.settings_dict = ours.settings_dict | parse(f"{postgres_url}?schema={schema}")

    with ours.cursor() as cursor:
        cursor.execute("SHOW search_path")
        found = cursor.fetchone()
    ours.close()

    assert found == (named,)


def test_a_server_starts_with_url_parameters_of_prisma_and_node(
    database_url: str, person: Person, start_api: Callable[..., Any]
) -> None:
    of_prisma = "schema=public&pgbouncer=true&connection_limit=1&pool_timeout=0&connect_timeout=15"
    of_node = "uselibpqcompat=true&ssl=prefer"

    with start_api(DATABASE_URL=f"{database_url}?{of_prisma}&{of_node}") as api:
        answer = api.post(operation("threads.list"), person.token())

    assert answer.status_code == 200


# --- Refused --------------------------------------------------------------------------------------


def error_of(url: str) -> str:
    with pytest.raises(UnusableUrl) as refused:
        parse(url)
    return f"{refused.value.fault} {refused.value.hint}"


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("sslaccept=strict", ["sslaccept", "sslmode=verify-full"]),
        ("sslidentity=client.p12", ["sslidentity", "sslcert="]),
        ("statement_timeout=5&socket_timeout=5", ["socket_timeout, statement_timeout", "DATABASE_TIMEOUT"]),
        ("reWriteBatchedInserts=true", ["reWriteBatchedInserts", "Leave out"]),
        ("schema=shop&pgbouncer=true", ["schema", "ALTER ROLE"]),
        ("sslmode=on&sslmode=yes-please", ["sslmode", "verify-full"]),
        ("channel_binding=yes", ["channel_binding", "https://www.postgresql.org/"]),
        ("connect_timeout=10s", ["connect_timeout"]),
        ("target_session_attrs=master", ["target_session_attrs"]),
        ("port=none", ["port"]),
    ],
)  # fmt: skip
def test_other_parameters_are_an_error_that_names_them(query: str, named: list[str]) -> None:
    message = error_of(f"{URL}?{query}")

    assert [name for name in named if name not in message] == []
    assert "geheim" not in message


def test_neons_pooler_is_recognized_by_its_host_name() -> None:
    assert "ALTER ROLE" in error_of("postgresql://u:p@ep-x-pooler.eu.aws.neon.tech/shop?schema=shop")


def test_the_url_of_a_prisma_service_is_an_error() -> None:
    assert "postgresql://" in error_of("prisma+postgres://accelerate.prisma-data.net/?api_key=geheim")


@pytest.mark.parametrize(
    "password", ["geheim?x", "12/geheim?x", "12?geheim", "12?geheim=1", "12?geheim=1&sslmode=x"]
)
def test_an_error_does_not_show_a_password_with_a_question_mark(password: str) -> None:
    try:
        message = str(parse(f"postgresql://shop:{password}@db.example.com/shop"))
    except UnusableUrl as exc:
        message = f"{exc.fault} {exc.hint}"

    assert "geheim" not in message


@pytest.mark.parametrize(
    "url", ["", "garbage", "mysql://u:p@h/db", "file:./dev.db", "postgresql://u:%00@h/db"]
)
def test_a_text_that_is_no_database_url_gives_an_empty_result(url: str) -> None:
    assert parse(url) == {}


def test_the_server_and_all_commands_show_the_error() -> None:
    wrong = {"DATABASE_URL": f"{URL}?schema=public&sslaccept=strict"}

    done = {
        "start": python("import chatbackend.asgi", **wrong),
        "check": manage("check", **wrong),
        "migrate": manage("migrate", **wrong),
        "doctor": manage("betterauth", "doctor", **wrong),
    }

    for name, each in done.items():
        message = each.stdout + each.stderr
        assert each.returncode != 0, name
        assert message.count("DATABASE_URL has parameters that are not libpq's: sslaccept.") == 1, name
        assert message.count("Leave out sslaccept.") == 1, name
        assert "geheim" not in message, name
        assert "None" not in message, name


def test_better_auths_database_url_has_the_same_error(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BETTER_AUTH_DATABASE_URL", f"{URL}?sslaccept=strict")
    settings.BETTER_AUTH_DATABASE = "better_auth"
    with mock.patch.dict(DATABASE_FAULTS):
        monkeypatch.setitem(settings.DATABASES, "better_auth", database("BETTER_AUTH_DATABASE_URL"))

        found = [each for each in run_checks() if "DATABASE_URL" in each.msg]

    assert [each.id for each in found] == ["authn.E017"]
    assert "BETTER_AUTH_DATABASE_URL has parameters that are not libpq's: sslaccept." in found[0].msg


def test_one_url_for_both_databases_is_one_error(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """BETTER_AUTH_TIME_ZONE makes a second connection to the same database."""
    monkeypatch.setenv("DATABASE_URL", f"{URL}?sslaccept=strict")
    settings.BETTER_AUTH_DATABASE = "better_auth"
    with mock.patch.dict(DATABASE_FAULTS):
        for alias in ("default", "better_auth"):
            monkeypatch.setitem(settings.DATABASES, alias, database("DATABASE_URL"))

        found = [each.id for each in run_checks() if "DATABASE_URL" in each.msg]

    assert found == ["chatbackend.E014"]
