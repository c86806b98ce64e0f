"""Staff look at sessions and conversations, and can change nothing."""

from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission
from django.contrib.auth.models import User as Staff
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from authn.models import Session
from support.models import Thread
from tests.people import Person
from tests.server import Api, create, operation

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(client: Client) -> Client:
    """Signed in to the admin, with every right to view."""
    member = Staff.objects.create_user("staff", is_staff=True)
    member.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(member)
    return client


@pytest.mark.parametrize("found_by", ["email", "user_id", "session_id"])
def test_a_session_is_found_by_who_and_by_its_id(staff: Client, person: Person, found_by: str) -> None:
    page = staff.get(reverse("admin:authn_session_changelist"), {"q": getattr(person, found_by)})

    assert page.context["cl"].result_count == 1
    assert person.email in page.content.decode()


NONSENSE = ["8", "abc", "9" * 40, "-1", "1.5", "07", "' OR 1=1", "ada@example"]


@pytest.mark.parametrize("model", ["user", "session"])
def test_an_id_of_any_type_is_found_and_nonsense_is_not(staff: Client, ids: str, model: str) -> None:
    def found(sought: str) -> int:
        page = staff.get(reverse(f"admin:authn_{model}_changelist"), {"q": sought})
        return int(page.context["cl"].result_count)

    assert (found(ids), found("ada@example.com")) == (1, 1)
    assert [text for text in NONSENSE if found(text)] == []
    assert staff.get(reverse(f"admin:authn_{model}_change", args=[ids])).status_code == 200
    for text in [*NONSENSE, "7\0"]:
        page = staff.get(reverse(f"admin:authn_{model}_change", args=[quote(text)]))
        assert page.status_code == 302, text  # to the index, which says that there is none


@pytest.mark.parametrize("name", ["id", "id__in", "id__gt", "user", "user__in", "user__id__lt"])
def test_an_address_made_by_hand_compares_no_ids(staff: Client, name: str) -> None:
    page = staff.get(reverse("admin:authn_session_changelist"), {name: "abc"})

    assert page.status_code == 400


def test_a_user_is_shown_with_their_sessions_and_without_any_secret(staff: Client, person: Person) -> None:
    with connection.cursor() as cursor:
        cursor.execute('SELECT "token" FROM "session" WHERE "userId" = %s', [person.user_id])
        [(secret,)] = cursor.fetchall()

    page = staff.get(reverse("admin:authn_user_change", args=[person.user_id])).content.decode()

    assert person.session_id in page
    assert secret not in page


def test_a_user_is_shown_where_there_is_no_table_of_sessions(
    admin_client: Client, person: Person, settings: Any
) -> None:
    settings.BETTER_AUTH_SESSION_SOURCE = "redis://localhost"
    with connection.cursor() as cursor:  # undone with the test's transaction
        cursor.execute('ALTER TABLE "session" RENAME TO "session_elsewhere"')

    user = admin_client.get(reverse("admin:authn_user_change", args=[person.user_id]))
    sessions = admin_client.get(reverse("admin:authn_session_changelist"))

    assert person.email in user.content.decode()
    assert (user.status_code, sessions.status_code) == (200, 403)


def test_sessions_are_filtered_by_whether_they_are_active(staff: Client, person: Person) -> None:
    expired = person.auth.sign_in(person.email).session_id
    Session.objects.using("default").filter(id=expired).update(expires_at="2020-01-01T00:00:00Z")
    address = reverse("admin:authn_session_changelist")

    def found(state: str) -> list[str]:
        page = staff.get(address, {"q": person.user_id, "state": state})
        return [session.id for session in page.context["cl"].result_list]

    assert found("active") == [person.session_id]
    assert found("expired") == [expired]


def test_a_conversation_is_shown_with_its_messages_and_what_was_thought_of_them(
    staff: Client, api: Api, person: Person
) -> None:
    events = api.events(create("Where is my parcel?"), person.token())
    of_thread = {"thread_id": events[0]["thread"]["id"]}
    rated = operation("items.feedback", **of_thread, item_ids=[events[-1]["item"]["id"]], kind="negative")
    api.post(rated, person.token())
    thread = Thread.objects.get(**of_thread)

    page = staff.get(reverse("admin:support_thread_change", args=[thread.pk])).content.decode()

    assert "Where is my parcel?" in page
    assert person.user_id in page
    assert page.count("Negative") == 1


@pytest.mark.parametrize("model", ["authn_user", "authn_session", "support_thread"])
def test_not_even_a_superuser_can_add_change_or_delete(
    admin_client: Client, person: Person, model: str, django_user_model: Any
) -> None:
    thread = Thread.objects.create(
        user_id=person.user_id, thread_id="thr_1", title="Kept", created_at=timezone.now(), data={}
    )
    rows = {
        "authn_user": person.user_id,
        "authn_session": person.session_id,
        "support_thread": str(thread.pk),
    }

    answers = [
        admin_client.post(reverse(f"admin:{model}_add")),
        admin_client.post(reverse(f"admin:{model}_change", args=[rows[model]]), {"name": "Eve"}),
        admin_client.post(reverse(f"admin:{model}_delete", args=[rows[model]]), {"post": "yes"}),
    ]

    assert [answer.status_code for answer in answers] == [403, 403, 403]
    assert Session.objects.get(id=person.session_id).user.name == person.name
    assert Thread.objects.get(pk=thread.pk).title == "Kept"


def test_without_a_right_to_view_there_is_nothing_to_see(client: Client, person: Person) -> None:
    client.force_login(Staff.objects.create_user("newcomer", is_staff=True))

    assert client.get(reverse("admin:authn_session_changelist")).status_code == 403


def test_better_auths_people_are_no_staff(client: Client, person: Person) -> None:
    page = client.get(reverse("admin:index"), HTTP_AUTHORIZATION=f"Bearer {person.token()}")

    assert page.status_code == 302
