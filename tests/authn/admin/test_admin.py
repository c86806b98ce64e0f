"""Staff can look at users and sessions and search them, and can do nothing else."""

import re
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.utils import quote, unquote
from django.contrib.auth.models import User as Staff
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from authn.admin.devices import MAX_USER_AGENT_LENGTH, device
from authn.admin.display import short_time
from authn.models import Session
from tests.fixtures.accounts.people import Person
from tests.fixtures.accounts.staff import VIEW, signed_in
from tests.fixtures.servers.forkserver import manage

pytestmark = pytest.mark.django_db

CHROME = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
)


@pytest.fixture
def staff(auth: Any) -> Client:
    return signed_in(*VIEW)


def listed_ids(staff: Client, model: str, **query: str) -> list[str]:
    page = staff.get(reverse(f"admin:authn_{model}_changelist"), query)
    assert page.status_code == 200, query
    return [row.pk for row in page.context["cl"].result_list]


def change_session(session_id: str, **columns: Any) -> None:
    """Change columns of Better Auth's row, in the test's transaction."""
    Session.objects.using("default").filter(id=session_id).update(**columns)


def address_of(page: str, *args: str) -> str:
    return reverse(f"admin:{page}", args=args)


# --- Search ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("found_by", ["email", "user_id", "session_id"])
def test_a_session_is_found_by_its_user_and_by_its_id(staff: Client, person: Person, found_by: str) -> None:
    page = staff.get(address_of("authn_session_changelist"), {"q": getattr(person, found_by)})

    assert page.context["cl"].result_count == 1
    assert person.email in page.content.decode()


def test_an_email_address_may_be_typed_with_capitals(staff: Client, person: Person) -> None:
    typed = f" {person.email.upper()} "

    assert listed_ids(staff, "user", q=typed) == [person.user_id]
    assert listed_ids(staff, "session", q=typed) == [person.session_id]


@pytest.mark.parametrize(
    ("typed", "is_found"),
    [
        ("198.51.100.7", True),
        ("198.51.100.", True),
        ("198.51.100", False),
        ("198.51.100.70", False),
        ("2001:db8::7", False),
    ],
)
def test_a_session_is_found_by_its_ip_address(
    staff: Client, person: Person, typed: str, is_found: bool
) -> None:
    change_session(person.session_id, ip_address="198.51.100.7")

    assert listed_ids(staff, "session", q=typed) == [person.session_id] * is_found


def test_sessions_and_users_come_newest_first(staff: Client, person: Person) -> None:
    later = person.auth.sign_in(person.email).session_id
    change_session(later, created_at=timezone.now() + timedelta(seconds=1))

    assert listed_ids(staff, "session", q=person.user_id) == [later, person.session_id]
    for by_id in ("0", "-0"):
        assert listed_ids(staff, "session", q=person.user_id, o=by_id) == [later, person.session_id]
    assert listed_ids(staff, "user")[0] == person.user_id


def test_sessions_are_filtered_by_whether_they_are_active(staff: Client, person: Person) -> None:
    expired = person.auth.sign_in(person.email).session_id
    change_session(expired, expires_at="2020-01-01T00:00:00Z")

    assert listed_ids(staff, "session", q=person.user_id, state="active") == [person.session_id]
    assert listed_ids(staff, "session", q=person.user_id, state="expired") == [expired]


def test_pages_are_numbered_without_counting_rows(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    staff = signed_in(*VIEW, "revoke_session")
    monkeypatch.setattr("authn.admin.sessions.SessionAdmin.list_per_page", 2)
    monkeypatch.setattr("authn.admin.large_tables.MAX_LIST_PAGES", 3)
    ids = {person.session_id, *(person.auth.sign_in(person.email).session_id for _ in range(6))}
    pages = [{"q": person.user_id, "p": str(number)} for number in range(5)]

    listed = [listed_ids(staff, "session", **page) for page in pages[1:4]]
    texts = [staff.get(address_of("authn_session_changelist"), page).content.decode() for page in pages[1:4]]
    beyond = [staff.get(address_of("authn_session_changelist"), pages[number]) for number in (0, 4)]

    assert [len(ids & set(page)) for page in listed] == [2, 2, 2]
    assert len({each for page in listed for each in page}) == 6
    assert ["2+ sessions" in texts[0], "4+ sessions" in texts[1], "6+ sessions" in texts[2]] == [True] * 3
    assert ["p=2" in texts[0], "p=3" in texts[1], "p=4" in texts[2]] == [True, True, False]
    assert [page.status_code for page in beyond] == [302, 302]
    assert "across all pages" not in "".join(texts)


def test_the_last_page_shows_the_number_of_rows(staff: Client, person: Person) -> None:
    person.auth.sign_in(person.email)
    page = staff.get(address_of("authn_session_changelist"), {"q": person.user_id}).content.decode()

    assert "2 sessions" in page
    assert "2+ sessions" not in page


NONSENSE = ["8", "abc", "9" * 40, "-1", "1.5", "07", "' OR 1=1", "ada@example"]


@pytest.mark.parametrize("model", ["user", "session"])
def test_an_id_of_any_type_is_found_and_nonsense_is_not(staff: Client, ids: str, model: str) -> None:
    assert (listed_ids(staff, model), listed_ids(staff, model, q=ids)) == ([ids], [ids])
    assert listed_ids(staff, model, q="ada@example.com") == [ids]
    assert [text for text in NONSENSE if listed_ids(staff, model, q=text)] == []
    assert staff.get(address_of(f"authn_{model}_change", ids)).status_code == 200
    for text in [*NONSENSE, "7\0"]:
        page = staff.get(address_of(f"authn_{model}_change", quote(text)))
        assert page.status_code == 302, text  # redirected to the index, with a message


@pytest.mark.parametrize("model", ["user", "session"])
def test_a_search_for_a_nul_is_answered(staff: Client, model: str) -> None:
    page = staff.get(address_of(f"authn_{model}_changelist"), {"q": "ada\0"})

    assert "Null characters are not allowed" in page.content.decode()


@pytest.mark.parametrize("name", ["id", "id__in", "id__gt", "user", "user__in", "user__id__lt", "ip_address"])
def test_a_url_cannot_filter_by_other_columns(staff: Client, name: str) -> None:
    page = staff.get(address_of("authn_session_changelist"), {name: "abc"})

    assert page.status_code == 400


def test_autocomplete_does_not_count_the_whole_table(staff: Client) -> None:
    """Like Django's autocomplete view."""
    choice = {"app_label": "authn", "model_name": "session", "field_name": "user", "term": ""}

    assert staff.get(reverse("admin:autocomplete"), choice).status_code == 404


# --- Pages ----------------------------------------------------------------------------------------


def test_no_page_shows_a_secret(admin_client: Client, person: Person) -> None:
    with connection.cursor() as cursor:
        cursor.execute('SELECT "token" FROM "session" WHERE "userId" = %s', [person.user_id])
        [(secret,)] = cursor.fetchall()

    for address in addresses_of(person):
        page = admin_client.get(address)

        assert page.status_code == 200, address
        assert secret not in page.content.decode()
    assert (
        person.session_id
        in admin_client.get(address_of("authn_user_change", person.user_id)).content.decode()
    )


def addresses_of(person: Person) -> list[str]:
    """All admin pages about a user."""
    return [
        address_of("authn_user_changelist"),
        address_of("authn_session_changelist"),
        address_of("authn_user_change", person.user_id),
        address_of("authn_session_change", person.session_id),
        address_of("authn_user_history", person.user_id),
        address_of("authn_session_history", person.session_id),
        address_of("authn_user_revoke", person.user_id),
        address_of("authn_session_revoke", person.session_id),
    ]


def test_times_are_short_with_the_exact_time_as_a_tooltip_and_devices_have_names(
    staff: Client, person: Person
) -> None:
    seen_at = timezone.now() - timedelta(hours=3, minutes=5)
    change_session(person.session_id, created_at=seen_at, updated_at=seen_at, user_agent=CHROME)

    for page in (
        staff.get(address_of("authn_session_changelist"), {"q": person.email}),
        staff.get(address_of("authn_session_change", person.session_id)),
        staff.get(address_of("authn_user_change", person.user_id)),
    ):
        text = page.content.decode()
        assert "Chrome 140, Linux" in text
        assert f'title="{seen_at:%Y-%m-%d %H:%M:%S} UTC">3\N{NO-BREAK SPACE}h' in text
        assert "in 6\N{NO-BREAK SPACE}d<" in text  # until it expires


@pytest.mark.parametrize(
    ("seconds", "past", "future"),
    [
        (30, "now", "now"),
        (90, "1 min ago", "in 1 min"),
        (7_300, "2 h ago", "in 2 h"),
        (5 * 86_400, "5 d ago", "in 5 d"),
        (70 * 86_400, "2 mo ago", "in 2 mo"),
        (800 * 86_400, "2 y ago", "in 2 y"),
    ],
)
def test_a_time_is_in_the_largest_unit_that_fits(seconds: int, past: str, future: str) -> None:
    distance = timedelta(seconds=seconds)

    shown = [
        short_time(timezone.now() - distance, past="shown"),
        short_time(timezone.now() + distance * 1.01),
    ]

    texts = [
        each.partition(">")[2].removesuffix("</time>").replace("\N{NO-BREAK SPACE}", " ") for each in shown
    ]
    assert texts == [past, future]


def test_a_list_shortens_ids_and_a_page_has_the_whole_id_once(staff: Client, person: Person) -> None:
    listed = staff.get(address_of("authn_session_changelist"), {"q": person.email}).content.decode()
    page = staff.get(address_of("authn_session_change", person.session_id)).content.decode()
    text = re.sub(r"<[^>]*>", "", page)

    assert f'title="{person.session_id}">{person.session_id[:8]}…<' in listed
    assert text.count(person.session_id) == 1
    assert address_of("authn_user_change", person.user_id) in page


def test_a_user_page_has_each_fact_once_and_no_alarm(staff: Client, person: Person) -> None:
    page = staff.get(address_of("authn_user_change", person.user_id)).content.decode()
    labels = re.findall(r"<label>([^<]+):</label>", page)

    assert labels == ["Name", "Email", "State", "Signed up", "Changed", "Active sessions", "Id"]
    assert '<span class="badge badge-quiet">Email not verified</span>' in page
    assert "icon-no" not in page  # Django's red cross


@pytest.mark.parametrize("model", ["user", "session"])
def test_a_search_for_a_name_says_what_is_searched(staff: Client, person: Person, model: str) -> None:
    page = staff.get(address_of(f"authn_{model}_changelist"), {"q": "<Ada>"}).content.decode()

    assert "Nothing was found for “&lt;Ada&gt;”. Only whole email addresses and ids are searched" in page
    found = staff.get(address_of(f"authn_{model}_changelist"), {"q": person.email}).content.decode()
    assert "Nothing was found" not in found


def test_a_user_page_shows_the_latest_sessions_and_the_number_of_active_ones(
    staff: Client, person: Person
) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            'INSERT INTO "session" ("id", "userId", "token", "createdAt", "updatedAt", "expiresAt") '
            "SELECT 's' || n, %s, 'token' || n, now() - n * interval '1 hour', now(), "
            "now() + (50.5 - n) * interval '1 day' FROM generate_series(1, 99) n",
            [person.user_id],
        )

    page = staff.get(address_of("authn_user_change", person.user_id)).content.decode()
    listed = staff.get(address_of("authn_user_changelist"), {"q": person.email}).content.decode()

    newest = [person.session_id, *(f"s{number}" for number in range(1, 25))]
    links = re.findall(r'href="/admin/authn/session/([^"/]+)/change/"', page)
    assert [unquote(link) for link in links] == newest
    for text in (page, listed):
        assert f'<a href="/admin/authn/session/?q={person.user_id}">51</a>' in text


def test_html_in_a_users_name_is_escaped(staff: Client, person: Person) -> None:
    attack = "<script>alert(1)</script>"
    change_session(person.session_id, user_agent=attack, ip_address=attack)
    with connection.cursor() as cursor:
        cursor.execute('UPDATE "user" SET "name" = %s WHERE "id" = %s', [attack, person.user_id])

    for address in [*addresses_of(person)[:4], address_of("authn_session_changelist") + f"?q={attack}"]:
        assert attack not in staff.get(address).content.decode()


def test_a_user_is_shown_without_a_session_table(admin_client: Client, person: Person, settings: Any) -> None:
    settings.BETTER_AUTH_SESSION_SOURCE = "redis://localhost"
    with connection.cursor() as cursor:  # the test's rollback undoes it
        cursor.execute('ALTER TABLE "session" RENAME TO "session_elsewhere"')

    user = admin_client.get(address_of("authn_user_change", person.user_id))
    users = admin_client.get(address_of("authn_user_changelist"))
    sessions = admin_client.get(address_of("authn_session_changelist"))

    assert person.email in user.content.decode()
    assert [page.status_code for page in (user, users, sessions)] == [200, 200, 403]


@pytest.mark.parametrize(
    (("user_agent", "expected")),
    [
        (CHROME, "Chrome 140, Linux"),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "Version/18.1 Mobile/15E148 Safari/604.1",
            "Mobile Safari 18, iOS 18, Apple iPhone",
        ),
        (
            "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/130.0.0.0 Mobile Safari/537.36",
            "Chrome Mobile 130, Android 15, Google Pixel 9",
        ),
        ("okhttp/4.12.0", "okhttp 4"),
        ("node", ""),
        ("", ""),
        (None, ""),
        ("\0<script>", ""),
        ("x" * MAX_USER_AGENT_LENGTH + CHROME, ""),
    ],
)
def test_a_device_is_read_from_the_user_agent(user_agent: str | None, expected: str) -> None:
    assert device(user_agent) == expected


SQLITE_PROGRAM = """
CREATE TABLE user (id text, name text, email text, emailVerified integer, createdAt date, updatedAt date);
CREATE TABLE session (id text, userId text, createdAt date, updatedAt date, expiresAt date, ipAddress text,
                      userAgent text);
INSERT INTO user SELECT 'u', 'Ada', 'ada@example.com', 1, moment, moment
    FROM (SELECT '2026-01-01T00:00:00.000Z' AS moment);
INSERT INTO session SELECT 's', 'u', moment, moment, '2999-01-01T00:00:00.000Z', '', ''
    FROM (SELECT '2026-01-01T00:00:00.000Z' AS moment);
"""
LOOK = """
from django.contrib.auth.models import User
from django.test import Client
client = Client()
boss = User.objects.create_superuser("of the laptop")
client.force_login(boss)
for address in ("user/", "session/", "session/?q=u&state=active", "user/u/change/"):
    page = client.get("/admin/authn/" + address, secure=True)
    text = page.content.decode()
    print(page.status_code, "ada@example.com" in text, "evoke" in text)
print(client.post("/admin/authn/user/u/revoke/", {"confirmed": "yes"}, secure=True).status_code)
boss.delete()
"""


def test_sqlite_shows_sessions_and_revokes_none(database_url: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "auth.db")) as file, file:
        file.executescript(SQLITE_PROGRAM)
    own = {"DATABASE_URL": database_url, "BETTER_AUTH_DATABASE_URL": f"sqlite:///{tmp_path}/auth.db"}

    seen = manage("shell", "-v", "0", "-c", LOOK, **own)

    lines = [line for line in seen.stdout.splitlines() if not line.startswith("{")]
    assert lines == ["200 True False"] * 4 + ["403"], seen.stderr


# --- Permissions -----------------------------------------------------------------------------------


def write_requests(person: Person) -> list[tuple[str, dict[str, str]]]:
    """All requests that could change something."""
    rows = {"user": person.user_id, "session": person.session_id}
    return [
        *((address_of(f"authn_{model}_add"), {"name": "Eve"}) for model in rows),
        *((address_of(f"authn_{model}_change", row), {"name": "Eve"}) for model, row in rows.items()),
        *((address_of(f"authn_{model}_delete", row), {"post": "yes"}) for model, row in rows.items()),
        *(
            (
                address_of(f"authn_{model}_changelist"),
                {"action": action, "_selected_action": row, "post": "yes", "confirmed": "yes"},
            )
            for model, row in rows.items()
            for action in ("delete_selected", "revoke")
        ),
        (
            address_of("authn_user_changelist"),
            {"_save": "Save", "form-TOTAL_FORMS": "1", "form-0-name": "Eve"},
        ),
        (address_of("authn_user_revoke", person.user_id), {"confirmed": "yes"}),
        (address_of("authn_session_revoke", person.session_id), {"confirmed": "yes"}),
    ]


def test_staff_who_may_only_view_can_do_nothing_else(staff: Client, person: Person) -> None:
    before = rows_of(person)

    statuses = [staff.post(address, data).status_code for address, data in write_requests(person)]
    pages = [staff.get(address) for address in addresses_of(person)]

    assert set(statuses) <= {200, 403}  # 200: the list again, because there is no such action
    assert rows_of(person) == before
    assert [page.status_code for page in pages] == [200, 200, 200, 200, 200, 200, 403, 403]
    for page in pages[:4]:
        assert not {"revoke", "_selected_action", "deletelink", "addlink", "_save"} & text_of(page)


def text_of(page: Any) -> set[str]:
    return set(page.content.decode().replace('"', " ").replace("/", " ").split())


def rows_of(person: Person) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT * FROM "session" s JOIN "user" u ON u."id" = s."userId" WHERE u."id" = %s',
            [person.user_id],
        )
        return cursor.fetchall()


def test_not_even_a_superuser_can_add_change_or_delete(admin_client: Client, person: Person) -> None:
    before = rows_of(person)

    for address, data in write_requests(person):
        if "confirmed" not in data or data.get("action") == "delete_selected":
            # A redirect to the list means that there is no such action.
            assert admin_client.post(address, data).status_code in (200, 302, 403), address
    assert rows_of(person) == before


@pytest.mark.parametrize("rights", [[], ["revoke_session", "revoke_all_sessions"]], ids=["none", "to revoke"])
def test_staff_who_may_not_view_see_nothing(auth: Any, person: Person, rights: list[str]) -> None:
    client, before = signed_in(*rights), rows_of(person)

    statuses = [client.get(address).status_code for address in addresses_of(person)]
    statuses += [client.post(address, data).status_code for address, data in write_requests(person)]

    assert set(statuses) == {403}
    assert rows_of(person) == before
    assert "Better Auth" not in client.get(reverse("admin:index")).content.decode()


def test_staff_who_may_only_view_users_see_no_sessions(person: Person) -> None:
    client = signed_in("view_user")

    for address in (address_of("authn_user_changelist"), address_of("authn_user_change", person.user_id)):
        page = client.get(address).content.decode()

        assert person.email in page
        assert "session" not in page.lower().replace("sessionid", "")


def test_users_of_better_auth_are_not_staff(client: Client, person: Person) -> None:
    page = client.get(reverse("admin:index"), HTTP_AUTHORIZATION=f"Bearer {person.token()}")

    assert page.status_code == 302
    assert not Staff.objects.filter(username=person.email).exists()
