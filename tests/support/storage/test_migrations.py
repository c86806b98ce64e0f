"""Migrating back, as for an older release, and forward again: which data are lost.

The whole test is one transaction, so that other tests keep their tables. ``run_inline`` runs the store in it.
"""

from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.models import Model

from runtime.database_calls import run_inline
from support.models import Approval, Attachment, Feedback, Item, Thread
from tests.fixtures.owner import STORE, Owner, answer, message, thread_metadata

pytestmark = pytest.mark.django_db

# For each migration: the data that did not exist before it. Migrating back past it deletes them.
BEGUN_BY: dict[str, set[type[Model]]] = {
    "0001_initial": {Thread, Item},
    "0002_feedback": {Feedback},
    "0003_attachment": {Attachment},
    "0004_threads_by_id": set(),
    "0005_feedback_negative": set(),
    "0006_approval": {Approval},
    "0007_thread_organization": set(),
}
NAMES = sorted(BEGUN_BY)
MODELS = [Thread, Item, Feedback, Attachment, Approval]


@pytest.fixture
def stored_rows(ada: Owner, bob: Owner) -> None:
    for model in MODELS:  # those of other tests
        model._default_manager.all().delete()
    for owner in (ada, bob):
        run_inline(STORE.save_thread(thread_metadata(title="A ring"), owner))
        for item in (message(), answer()):
            run_inline(STORE.add_thread_item("thr_1", item, owner))
    rated = Item.objects.owned_by("ada").get(item_id="msg_2")
    Feedback.objects.create(item=rated, kind="positive")
    Approval.objects.create(item=rated, tools=["t"], state="{}", expires_at=rated.created_at)
    for number, thread in enumerate((rated.thread, None)):
        of_row: dict[str, Any] = {"attachment_id": f"atc_{number}", "file": "f", "size": 3, "data": {"a": 1}}
        Attachment.objects.create(user_id="ada", thread=thread, **of_row)


def rows_of(model: type[Model]) -> list[dict[str, Any]]:
    return list(model._default_manager.order_by("pk").values())


def test_this_file_covers_every_migration() -> None:
    on_disk = {name for app, name in MigrationLoader(connection).disk_migrations if app == "support"}

    assert on_disk == BEGUN_BY.keys()


@pytest.mark.usefixtures("stored_rows")
@pytest.mark.parametrize("back_to", NAMES)
def test_migrating_back_and_forward_keeps_the_data_of_the_older_release(back_to: str, ada: Owner) -> None:
    dropped = {model for name in NAMES if name > back_to for model in BEGUN_BY[name]}
    before = {model: rows_of(model) for model in MODELS}

    call_command("migrate", "support", back_to, verbosity=0)
    call_command("migrate", "support", verbosity=0)

    assert all(before.values())
    assert {model: rows_of(model) for model in MODELS} == before | {model: [] for model in dropped}
    # Afterwards, all works as before: rows are in order, and deleting a thread deletes what belongs to it.
    run_inline(STORE.add_thread_item("thr_1", message("msg_3"), ada))
    page = run_inline(STORE.load_thread_items("thr_1", None, 20, "asc", ada))
    assert [item.id for item in page.data] == ["msg_1", "msg_2", "msg_3"]
    run_inline(STORE.delete_thread("thr_1", ada))
    left = [len(rows_of(model)) for model in MODELS]
    assert left == [1, 2, 0, 0 if Attachment in dropped else 1, 0]
