"""The first page of the admin: the row of numbers, and the names of its lists."""

import json
import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from support.models import Thread
from tests.fixtures.accounts.staff import VIEW, signed_in

pytestmark = pytest.mark.django_db


def test_the_start_page_shows_five_numbers_in_a_row(auth: Any, settings: Any) -> None:
    Thread.objects.all().delete()  # those of other tests
    body = json.dumps({"type": "threads.list", "params": {}})
    for _ in range(3):
        Client().post("/support/chatkit", body, content_type="application/json")

    page = signed_in(*VIEW).get(reverse("admin:index"))
    numbers = {figure.label: figure.number for figure in page.context["figures"]}

    assert list(numbers) == [
        "Active sessions",
        "Refused attempts",
        "People today",
        "Conversations today",
        "Thumbs down",
    ]
    assert [numbers[label] for label in [*numbers][1:]] == ["3", "0", "0", "0"]
    row = re.search(r'<ul class="figures".*?</ul>', page.content.decode(), re.DOTALL)
    assert row
    assert row[0].count("<li>") == 5
    assert "only this server process" in row[0]


def test_staff_see_only_the_numbers_that_they_have_permission_for(auth: Any) -> None:
    def labels(*permissions: str) -> list[str]:
        page = signed_in(*permissions, name=" ".join(permissions)).get(reverse("admin:index"))
        return [figure.label for figure in page.context["figures"]]

    assert labels("view_thread") == ["People today", "Conversations today", "Thumbs down"]
    assert labels("view_session") == ["Active sessions", "Refused attempts"]
    assert labels("view_user") == []


def test_who_is_not_signed_in_sees_no_number(client: Client) -> None:
    answer = client.get(reverse("admin:index"))

    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/admin/login/")


def test_the_accounts_of_django_are_called_staff_accounts(admin_client: Client) -> None:
    page = admin_client.get(reverse("admin:index")).content.decode()

    assert [*re.findall(r'<a href="/admin/\w+/user/">([^<]+)</a>', page)] == ["Staff accounts", "Users"]
