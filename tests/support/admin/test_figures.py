"""The numbers of the admin's start page that are about the chat, and what they cost."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from support.admin import figures
from support.models import Feedback, Item, Thread
from tests.fixtures.accounts.staff import VIEW, signed_in
from tests.fixtures.database.query_plans import rows_read, statements_of
from tests.fixtures.database.rows import assistant_message, create_items, create_thread, user_message

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(auth: Any) -> Client:
    Thread.objects.all().delete()  # those of other tests
    return signed_in(*VIEW)


def numbers(staff: Client) -> dict[str, str]:
    page = staff.get(reverse("admin:index"))
    return {figure.label: figure.number for figure in page.context["figures"]}


def test_the_start_page_counts_who_chatted_today_and_negative_feedback(staff: Client) -> None:
    before_midnight = timezone.localtime().replace(hour=0, minute=0) - timedelta(minutes=1)
    for user_id, thread_id in (("ada", "thr_1"), ("ada", "thr_2"), ("bob", "thr_3")):
        old = create_thread(user_id, thread_id, created_at=before_midnight)
        items = create_items(old, user_message("Hi"), assistant_message("Hello"))
        Feedback.objects.create(item=items[1], kind="negative" if user_id == "ada" else "positive")
    eve = create_thread("eve", "thr_4")
    Item.objects.filter(pk__in=[item.pk for item in create_items(eve, user_message("Hi"))]).update(
        created_at=before_midnight
    )
    Feedback.objects.filter(item__thread__thread_id="thr_2").update(updated_at=timezone.now() - timedelta(8))

    shown = numbers(staff)

    assert shown["People today"] == "2"
    assert shown["Conversations today"] == "3"
    assert shown["Thumbs down"] == "1"


MANY = """
INSERT INTO support_thread (user_id, thread_id, created_at, data)
SELECT 'user' || n % 1000, 'thr_' || n, now(), '{}' FROM generate_series(1, 4000) n;
INSERT INTO support_item (thread_id, item_id, type, created_at, data)
SELECT id, 'msg_' || id, 'user_message', now(), '{}' FROM support_thread;
INSERT INTO support_feedback SELECT id, 'negative', now(), now() FROM support_item;
ANALYZE support_thread, support_item, support_feedback
"""


def test_a_number_reads_a_limited_number_of_rows_and_says_so(
    staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "MAX_ROWS", 50)
    with connection.cursor() as cursor:
        cursor.execute(MANY)

    statements = [each for each in statements_of(staff, "") if "support_" in each.sql]
    shown = numbers(staff)

    assert len(statements) == 2
    for statement in statements:
        steps = statement.plan()
        assert "Seq Scan" not in {step["Node Type"] for step in steps}, statement.sql
        assert rows_read(steps) <= 2 * figures.MAX_ROWS
    assert shown["Conversations today"] == shown["People today"] == shown["Thumbs down"] == "50+"
