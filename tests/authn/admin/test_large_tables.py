"""The cost of the admin's lists with many users and sessions: the statements, and the rows that each
reads."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from pytest_django import DjangoDbBlocker

from authn.admin import large_tables
from authn.admin.users import UserAdmin
from authn.models import Session
from tests.fixtures.accounts.staff import VIEW, signed_in
from tests.fixtures.database.query_plans import Statement, rows_read, statements_of

USERS, SESSIONS = 20_000, 60_000
MAX_STATEMENTS = 10
MAX_ROWS_READ = 2_000  # for a list; a search reads much fewer

MANY_USERS = """
INSERT INTO "user" ("id", "name", "email", "emailVerified", "createdAt")
SELECT 'user' || n, 'Nobody', n || '@many.example', true, now() - random() * interval '700 days'
FROM generate_series(1, %s) n
"""
# One of four sessions is active. The table is not in the order of their sign-ins. Only its first row has
# another IP address.
MANY_SESSIONS = """
INSERT INTO "session"
    ("id", "userId", "token", "createdAt", "updatedAt", "expiresAt", "ipAddress", "userAgent")
SELECT 'session' || n, 'user' || 1 + n %% %s, 'token' || n, moment, moment,
       CASE WHEN n %% 4 = 0 THEN now() + interval '5 days' ELSE moment + interval '7 days' END,
       CASE n WHEN 1 THEN '198.51.100.7' ELSE '203.0.113.' || n %% 200 END,
       'Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0 Safari/537.36'
FROM (SELECT n, now() - interval '8 days' - random() * interval '60 days' AS moment
      FROM generate_series(1, %s) n) made
"""
INDEXES = """
CREATE INDEX users_by_age ON "user" ("createdAt");
CREATE INDEX sessions_by_age ON "session" ("createdAt")
"""


@pytest.fixture(scope="module")
def many_rows(auth: Any, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(MANY_USERS, [USERS])
        cursor.execute(MANY_SESSIONS, [USERS, SESSIONS])
        cursor.execute('VACUUM ANALYZE "user", "session"')
        yield
        cursor.execute('DELETE FROM "user" WHERE "email" LIKE \'%@many.example\'')
        cursor.execute('VACUUM ANALYZE "user", "session"')
        connection.close()


@pytest.fixture
def staff(many_rows: None, db: None) -> Client:
    return signed_in(*VIEW, "revoke_session", "revoke_all_sessions")


@pytest.fixture(params=["with indexes", "as Better Auth makes it"])
def is_indexed(
    request: pytest.FixtureRequest, many_rows: None, db: None, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Lower limits of the lists, because the tables are small here."""
    monkeypatch.setattr(large_tables, "MAX_ROWS", 500)
    monkeypatch.setattr(large_tables, "MAX_HEAP_PAGES", 20)
    is_indexed: bool = request.param == "with indexes"
    with connection.cursor() as cursor:
        cursor.execute(INDEXES if is_indexed else "")
    return is_indexed


def only_better_auths(statements: list[Statement]) -> list[Statement]:
    return [each for each in statements if 'FROM "user"' in each.sql or 'FROM "session"' in each.sql]


LISTS = [
    ("user/", {}),
    ("user/", {"p": "3"}),
    ("session/", {}),
    ("session/", {"p": "3"}),
    ("session/", {"state": "active"}),
    ("session/", {"state": "expired"}),
    ("session/", {"_facets": "True"}),
    ("session/", {"q": "203.0.113.7"}),
    ("session/", {"q": "203.0.113."}),
]
SEARCHES = [
    ("user/", {"q": "7@many.example"}),
    ("user/", {"q": "user7"}),
    ("user/", {"q": "nobody@many.example"}),
    ("session/", {"q": "7@many.example"}),
    ("session/", {"q": "user7"}),
    ("session/", {"q": "session7"}),
    ("session/", {"q": "nothing"}),
    ("session/", {"q": "user7", "state": "expired"}),
    ("user/user7/change/", {}),
    ("user/user7/revoke/", {}),
    ("session/session7/change/", {}),
    ("session/session7/revoke/", {}),
]


@pytest.mark.parametrize(("address", "query"), LISTS, ids=str)
def test_a_list_reads_part_of_the_table_and_counts_nothing(
    staff: Client, is_indexed: bool, address: str, query: dict[str, str]
) -> None:
    statements = statements_of(staff, f"authn/{address}", **query)

    assert len(statements) <= MAX_STATEMENTS
    for statement in only_better_auths(statements):
        steps = statement.plan()
        kinds = {step["Node Type"] for step in steps}
        assert "COUNT(*)" not in statement.sql
        assert "JOIN" not in statement.sql
        assert "Seq Scan" not in kinds
        assert rows_read(steps) <= MAX_ROWS_READ
        # The list of expired sessions has another order, so it needs another index.
        assert not (is_indexed and "expired" not in query.values() and "Tid Range Scan" in kinds)


@pytest.mark.parametrize(("address", "query"), SEARCHES, ids=str)
def test_a_search_reads_only_the_rows_that_it_finds(
    staff: Client, is_indexed: bool, address: str, query: dict[str, str]
) -> None:
    statements = statements_of(staff, f"authn/{address}", **query)

    assert len(statements) <= MAX_STATEMENTS
    for statement in only_better_auths(statements):
        steps = statement.plan()
        assert "Seq Scan" not in {step["Node Type"] for step in steps}
        assert rows_read(steps) <= 2 * SESSIONS / USERS
        assert sum(step.get("Shared Hit Blocks", 0) for step in steps[:1]) < 100


def test_the_start_page_estimates_the_active_sessions_of_a_large_table(
    staff: Client, is_indexed: bool
) -> None:
    """One of four sessions is active."""
    statements = only_better_auths(statements_of(staff, ""))
    figure = staff.get("/admin/").context["figures"][0]

    [estimate] = statements
    assert estimate.sql.startswith("EXPLAIN (FORMAT json) SELECT")  # PostgreSQL runs no plan without ANALYZE
    assert (figure.label, figure.number[:6]) == ("Active sessions", "about ")
    assert abs(int(figure.number[6:].replace(",", "")) - SESSIONS / 4) < SESSIONS / 40


def test_the_start_page_counts_the_active_sessions_of_a_small_table(
    staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_tables, "MAX_HEAP_PAGES", 1_000_000)
    figure = staff.get("/admin/").context["figures"][0]

    with connection.cursor() as cursor:
        cursor.execute('SELECT count(*) FROM "session" WHERE "expiresAt" > now()')
        assert figure.number == f"{cursor.fetchone()[0]:,}"


def test_the_list_says_which_rows_it_has(staff: Client, is_indexed: bool) -> None:
    help_text = staff.get("/admin/authn/session/").context["cl"].search_help_text

    assert ("newest 500." in help_text) == is_indexed
    assert ("needs an index" in help_text) != is_indexed


def test_with_an_index_the_list_has_the_newest_rows(staff: Client, is_indexed: bool) -> None:
    # The first rows of the table: without the index, the list has the last.
    with connection.cursor() as cursor:
        cursor.execute('UPDATE "session" SET "createdAt" = now() WHERE "id" IN (\'session1\', \'session2\')')
        cursor.execute('SELECT "id" FROM "session" ORDER BY "createdAt" DESC, "id" DESC LIMIT 50')
        newest = [session_id for (session_id,) in cursor.fetchall()]

    listed = [session.id for session in staff.get("/admin/authn/session/").context["cl"].result_list]

    assert (listed == newest) or not is_indexed


def test_with_an_index_expired_sessions_are_found_behind_many_others(staff: Client, is_indexed: bool) -> None:
    if is_indexed:
        with connection.cursor() as cursor:
            cursor.execute('CREATE INDEX ON "session" ("expiresAt")')
    with connection.cursor() as cursor:
        cursor.execute('UPDATE "session" SET "createdAt" = now() WHERE "id" < \'session2\'')  # a fifth
        cursor.execute('UPDATE "session" SET "expiresAt" = now() + \'1 day\' WHERE "id" < \'session2\'')
        cursor.execute(
            'SELECT "id" FROM "session" WHERE "expiresAt" <= now() '
            'ORDER BY "expiresAt" DESC, "id" DESC LIMIT 50'
        )
        latest = [session_id for (session_id,) in cursor.fetchall()]

    page = staff.get("/admin/authn/session/", {"state": "expired"}).context["cl"]

    assert ([session.id for session in page.result_list] == latest) or not is_indexed
    assert ("newest 500." in page.search_help_text) == is_indexed


def test_a_short_table_is_listed_completely(staff: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute('SELECT "id" FROM "user" ORDER BY "createdAt" DESC, "id" DESC LIMIT 50')
        newest = [user_id for (user_id,) in cursor.fetchall()]

    listed = staff.get("/admin/authn/user/").context["cl"]

    assert [user.id for user in listed.result_list] == newest
    assert listed.search_help_text == UserAdmin.search_help_text


@pytest.mark.parametrize(
    "index",
    [
        'CREATE INDEX ON "session" USING brin ("createdAt")',
        'CREATE INDEX ON "session" ("createdAt") WHERE "ipAddress" IS NULL',
        'CREATE INDEX ON "session" ("userId", "createdAt")',
        """CREATE INDEX failed ON "session" ("createdAt");
        UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'failed'::regclass""",
    ],
    ids=["brin", "partial", "second column", "unfinished"],
)
def test_an_index_that_cannot_return_the_order_is_not_used(
    staff: Client, monkeypatch: pytest.MonkeyPatch, index: str
) -> None:
    monkeypatch.setattr(large_tables, "MAX_HEAP_PAGES", 20)
    with connection.cursor() as cursor:
        cursor.execute(index)

    assert "needs an index" in staff.get("/admin/authn/session/").context["cl"].search_help_text


def test_a_role_that_may_not_read_ctid_gets_the_newest_of_all_rows(
    staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_tables, "MAX_HEAP_PAGES", 20)
    columns = ", ".join(f'"{field.column}"' for field in Session._meta.concrete_fields)
    with connection.cursor() as cursor:  # the test's rollback undoes it, with the role
        cursor.execute("CREATE ROLE reads; GRANT ALL ON ALL TABLES IN SCHEMA public TO reads")
        cursor.execute(f'REVOKE ALL ON "session" FROM reads; GRANT SELECT ({columns}) ON "session" TO reads')
        cursor.execute('SELECT "id" FROM "session" ORDER BY "createdAt" DESC, "id" DESC LIMIT 50')
        newest = [session_id for (session_id,) in cursor.fetchall()]
        cursor.execute("SET LOCAL ROLE reads")
        listed = staff.get("/admin/authn/session/").context["cl"].result_list
        cursor.execute("RESET ROLE")

    assert [session.id for session in listed] == newest


def use_another_locale() -> None:
    """Like most databases. There, PostgreSQL uses no ordinary text index for a prefix."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE COLLATION another (provider = libc, locale = 'C.utf8')")
        cursor.execute('ALTER TABLE "session" ALTER "ipAddress" TYPE text COLLATE another')


def test_an_ordinary_index_on_addresses_does_not_cause_a_full_scan(
    staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_tables, "MAX_HEAP_PAGES", 20)
    use_another_locale()
    with connection.cursor() as cursor:
        cursor.execute('CREATE INDEX ON "session" ("ipAddress")')

    for statement in only_better_auths(statements_of(staff, "authn/session/", q="198.51.100.")):
        assert rows_read(statement.plan()) <= MAX_ROWS_READ


def test_an_indexed_address_is_searched_in_the_whole_table(
    staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_tables, "MAX_HEAP_PAGES", 20)
    use_another_locale()
    address = "/admin/authn/session/?q=198.51.100.7"
    before = staff.get(address).context["cl"].result_list
    with connection.cursor() as cursor:
        cursor.execute('CREATE INDEX ON "session" ("ipAddress" text_pattern_ops)')

    after = staff.get(address).context["cl"].result_list
    searches = [statements_of(staff, "authn/session/", q=typed) for typed in ("203.0.113.7", "198.51.100.")]
    statements = [each for statements in searches for each in only_better_auths(statements)]

    assert (before, [session.id for session in after]) == ([], ["session1"])
    assert [each for each in statements if "ctid" in each.sql] == []
    for statement in statements:
        assert "Seq Scan" not in {step["Node Type"] for step in statement.plan()}


@pytest.mark.parametrize("typed", ["203.0.113.", "203.0.113.7"])
def test_a_very_common_address_is_searched_in_the_latest_rows(
    staff: Client, is_indexed: bool, typed: str
) -> None:
    """For example, all sessions have the proxy's address if Better Auth does not read X-Forwarded-For."""
    with connection.cursor() as cursor:
        cursor.execute('UPDATE "session" SET "ipAddress" = \'203.0.113.7\'')
        cursor.execute('CREATE INDEX ON "session" ("ipAddress" text_pattern_ops); ANALYZE "session"')

    statements = only_better_auths(statements_of(staff, "authn/session/", q=typed))

    for statement in statements:
        assert rows_read(statement.plan()) <= MAX_ROWS_READ


@pytest.mark.parametrize("ids", ["integer", "uuid"], indirect=True)
def test_a_page_of_sessions_costs_no_more_with_numeric_ids(staff: Client, ids: str) -> None:
    with connection.cursor() as cursor:
        made = (
            "n::text::integer"
            if ids == "7"
            else "('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid"
        )
        cursor.execute(
            'INSERT INTO "user" ("id", "name", "email", "emailVerified") '
            f"SELECT {made}, 'Nobody', n || '@more.example', true FROM generate_series(100, 9999) n"
        )
        cursor.execute('ANALYZE "user"')

    [users] = [each for each in statements_of(staff, "authn/session/") if 'FROM "user"' in each.sql]

    assert "Seq Scan" not in {step["Node Type"] for step in users.plan()}
