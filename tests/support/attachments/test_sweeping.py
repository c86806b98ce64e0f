"""``manage.py sweep_attachments`` deletes attachments and files that are not in use, and no others."""

import os
import re
import time
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command
from django.utils import timezone

from support.files import stored_files
from support.management.commands import sweep_attachments
from support.models import Attachment, Thread

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _own_storage(settings: Any, tmp_path: Path, db: None) -> None:
    Attachment.objects.all().delete()  # those of other tests
    storage = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": str(tmp_path)},
    }
    settings.STORAGES = settings.STORAGES | {"attachments": storage}


def sweep(*options: str) -> tuple[int, ...]:
    """How many attachments and how many files it reports. The third number is in test_approvals.py."""
    output = StringIO()
    call_command("sweep_attachments", *options, stdout=output)
    return tuple(map(int, re.findall(r"\d+", output.getvalue())[:2]))


def file_without_row(age: timedelta = 2 * DAY) -> str:
    """A file that no row names."""
    name = stored_files.save(ContentFile(b"Hello"))
    modified_at = time.time() - age.total_seconds()
    os.utime(stored_files.storage().path(name), (modified_at, modified_at))
    return name


def uploaded(attachment_id: str, age: timedelta = 2 * DAY, thread: Thread | None = None) -> str:
    name = file_without_row(age)
    Attachment.objects.create(
        user_id="ada",
        attachment_id=attachment_id,
        thread=thread,
        file=name,
        size=5,
        created_at=timezone.now() - age,
        data={},
    )
    return name


@pytest.fixture
def thread() -> Thread:
    return Thread.objects.create(user_id="ada", thread_id="thr_1", created_at=timezone.now(), data={})


def test_unsent_attachments_and_files_without_a_row_are_deleted_after_a_day(thread: Thread) -> None:
    kept = [uploaded("sent", thread=thread), uploaded("young", age=DAY / 2), file_without_row(age=DAY / 2)]
    gone = [uploaded("unsent"), file_without_row()]
    Attachment.objects.create(
        user_id="ada", attachment_id="never uploaded", created_at=timezone.now() - 2 * DAY, data={}
    )

    report = sweep()

    assert report == (2, 1)
    assert [stored_files.storage().exists(name) for name in kept + gone] == [True] * 3 + [False] * 2
    assert {row.attachment_id for row in Attachment.objects.all()} == {"sent", "young"}
    assert sweep() == (0, 0)


def test_a_dry_run_deletes_nothing() -> None:
    names = [uploaded("unsent"), file_without_row()]

    report = sweep("--dry-run")

    assert report == (1, 1)
    assert all(stored_files.storage().exists(name) for name in names)
    assert Attachment.objects.count() == 1


@pytest.mark.parametrize(("older_than", "swept"), [("30m", 1), ("3h", 0), ("1d", 0)])
def test_the_age_is_a_number_of_minutes_hours_or_days(older_than: str, swept: int) -> None:
    uploaded("unsent", age=timedelta(hours=2))

    assert sweep("--older-than", older_than) == (swept, 0)


@pytest.mark.parametrize("older_than", ["1", "d", "1w", "-1d", "1.5d", "1d ", "999999d", ""])
def test_a_wrong_age_is_refused(older_than: str) -> None:
    with pytest.raises(CommandError, match="30m"):
        sweep(f"--older-than={older_than}")


def test_sweep_attachments_works_in_batches(monkeypatch: pytest.MonkeyPatch, thread: Thread) -> None:
    monkeypatch.setattr(sweep_attachments, "BATCH", 2)
    kept = uploaded("sent", thread=thread)
    for number in range(5):
        uploaded(f"unsent {number}")
        file_without_row()

    report = sweep()

    assert report == (5, 5)
    assert stored_files.storage().exists(kept)


def test_other_files_in_the_storage_are_kept() -> None:
    storage = stored_files.storage()
    names = ["notes.txt", "aa/notes.txt", "aa/" + "0" * 31, "photos/" + "0" * 32, "AA/" + "0" * 32]
    for name in names:
        storage.save(name, ContentFile(b"Hello"))
        os.utime(storage.path(name), (0, 0))

    assert sweep() == (0, 0)
    assert all(storage.exists(name) for name in names)


def test_an_attachment_that_is_sent_meanwhile_is_kept(
    monkeypatch: pytest.MonkeyPatch, thread: Thread
) -> None:
    name = uploaded("just sent")
    delete = Attachment.objects.all().delete_with_files.__func__  # type: ignore[attr-defined]

    def sent_first(rows: Any) -> int:
        Attachment.objects.filter(attachment_id="just sent").update(thread=thread)
        return int(delete(rows))

    monkeypatch.setattr(type(Attachment.objects.all()), "delete_with_files", sent_first)

    assert sweep() == (0, 0)
    assert stored_files.storage().exists(name)


def test_a_file_that_is_deleted_meanwhile_does_not_end_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    gone, other = sorted([file_without_row(), file_without_row()])
    look = type(stored_files.storage()).get_modified_time

    def deleted_first(storage: Any, name: str) -> Any:
        if name == gone:
            storage.delete(name)
        return look(storage, name)

    monkeypatch.setattr(type(stored_files.storage()), "get_modified_time", deleted_first)

    assert sweep() == (0, 1)
    assert not stored_files.storage().exists(other)


def test_an_empty_storage_is_no_error(settings: Any, tmp_path: Path) -> None:
    storage = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": str(tmp_path / "not yet")},
    }
    settings.STORAGES = settings.STORAGES | {"attachments": storage}

    assert sweep() == (0, 0)
