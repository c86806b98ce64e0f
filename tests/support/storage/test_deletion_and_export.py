"""``manage.py prune_chats``, ``erase_user`` and ``export_user`` with a real database."""

import base64
import json
import stat
import subprocess
import sys
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path

import psycopg
import pytest
from asgiref.sync import async_to_sync
from chatkit.types import FileAttachment, ThreadItem, ThreadMetadata
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command
from pydantic import TypeAdapter

from support import models
from support.files import stored_files
from support.storage import deletion
from support.storage.export import export
from support.storage.feedback import save_feedback
from tests.fixtures.database.concurrent_commits import commit_meanwhile
from tests.fixtures.environment import process_environment
from tests.fixtures.owner import Owner, answer, message

pytestmark = pytest.mark.django_db(transaction=True)


def output_of(command: str, *arguments: str) -> str:
    out = StringIO()
    call_command(command, *arguments, stdout=out)
    return out.getvalue()


def days_ago(days: float) -> datetime:
    return datetime.now() - timedelta(days=days)


def store_thread(owner: Owner, thread_id: str, *, begun: float, said: float | None = None) -> None:
    """Store a thread. ``begun``: its age in days. ``said``: the age in days of a rated answer in it."""
    owner.starts(thread_id, created_at=days_ago(begun))
    owner.add_thread_item(thread_id, message("msg_1", thread_id=thread_id, created_at=days_ago(begun)))
    if said is not None:
        owner.add_thread_item(thread_id, answer("msg_2", thread_id=thread_id, created_at=days_ago(said)))
        rate_answer(owner, thread_id)


def rate_answer(owner: Owner, thread_id: str) -> None:
    async_to_sync(save_feedback)(owner.user_id, thread_id, ["msg_2"], "positive")


def thread_ids(owner: Owner) -> list[str]:
    return [thread.id for thread in owner.load_threads(100, None, "asc").data]


def count_rows(owner: Owner) -> tuple[int, int]:
    items = models.Item.objects.owned_by(owner.user_id)
    return items.count(), models.Feedback.objects.filter(item__in=items).count()


def attach(owner: Owner, thread_id: str = "") -> str:
    """Store a file of the owner in this thread, or in none. Returns the file's name in the storage."""
    thread = models.Thread.objects.filter(user_id=owner.user_id, thread_id=thread_id).first()
    attachment_id = f"atc_{models.Attachment.objects.count()}"
    row = models.Attachment(user_id=owner.user_id, attachment_id=attachment_id, thread=thread, size=5)
    row.file = stored_files.save(ContentFile(b"Hello"))
    row.data = FileAttachment(id=attachment_id, name="a.txt", mime_type="text/plain").model_dump(mode="json")
    row.save()
    return row.file


# --- prune_chats ----------------------------------------------------------------------------------


@pytest.fixture
def history(ada: Owner, bob: Owner) -> None:
    store_thread(ada, "thr_old", begun=100, said=91)
    store_thread(ada, "thr_revived", begun=100, said=1)
    store_thread(ada, "thr_new", begun=1)
    store_thread(bob, "thr_old", begun=91)


def test_prune_chats_goes_by_the_age_of_the_last_item(history: None, ada: Owner, bob: Owner) -> None:
    report = output_of("prune_chats", "--older-than", "90d")

    assert report.splitlines()[-1] == "Deleted: conversations 2, items 3, feedback 1, attachments 0."
    assert thread_ids(ada) == ["thr_revived", "thr_new"]
    assert thread_ids(bob) == []
    assert count_rows(ada) == (3, 1)


def test_prune_chats_deletes_the_files_of_a_conversation(history: None, ada: Owner) -> None:
    old, new, unsent = attach(ada, "thr_old"), attach(ada, "thr_new"), attach(ada)

    report = output_of("prune_chats", "--older-than", "90d")

    assert report.splitlines()[-1].endswith("attachments 1.")
    assert [stored_files.storage().exists(name) for name in (old, new, unsent)] == [False, True, True]


def test_prune_chats_keeps_a_file_that_a_younger_conversation_carries_too(history: None, ada: Owner) -> None:
    file = attach(ada, "thr_old")
    carried = FileAttachment.model_validate(models.Attachment.objects.get().data)
    again = message("msg_9", thread_id="thr_new", created_at=datetime.now())
    ada.add_thread_item("thr_new", again.model_copy(update={"attachments": [carried]}))

    report = output_of("prune_chats", "--older-than", "90d")

    assert report.splitlines()[-1].endswith("attachments 0.")
    assert stored_files.storage().exists(file)
    assert models.Attachment.objects.get().thread == models.Thread.objects.get(thread_id="thr_new")


def test_a_dry_run_of_prune_chats_deletes_nothing(history: None, ada: Owner) -> None:
    report = output_of("prune_chats", "--older-than", "90d", "--dry-run")

    assert report.startswith("Would delete: conversations 2, items 3, feedback 1, attachments 0.\n")
    assert thread_ids(ada) == ["thr_old", "thr_revived", "thr_new"]


def test_prune_chats_goes_by_the_creation_of_an_empty_conversation(ada: Owner) -> None:
    ada.starts("thr_old", created_at=days_ago(91))
    ada.starts("thr_new", created_at=days_ago(89))

    output_of("prune_chats", "--older-than", "90d")

    assert thread_ids(ada) == ["thr_new"]


def test_prune_chats_works_in_batches_and_shows_its_progress(
    ada: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "BATCH", 2)
    for number in range(5):
        store_thread(ada, f"thr_{number}", begun=100)

    report = output_of("prune_chats", "--older-than", "90d")

    assert report.splitlines()[:3] == ["2 of 5 …", "4 of 5 …", "5 of 5 …"]


def test_prune_chats_can_be_interrupted_and_run_again(ada: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion, "BATCH", 2)
    for number in range(5):
        store_thread(ada, f"thr_{number}", begun=100)

    class InterruptedOutput(StringIO):
        def write(self, text: str) -> int:
            if text.startswith("4 of"):
                raise KeyboardInterrupt
            return super().write(text)

    with pytest.raises(CommandError, match="conversations 4") as caught:
        call_command("prune_chats", "--older-than", "90d", stdout=InterruptedOutput())

    assert caught.value.returncode == 130
    assert thread_ids(ada) == ["thr_4"]
    assert "conversations 1" in output_of("prune_chats", "--older-than", "90d")


def test_prune_chats_keeps_a_conversation_that_gets_a_message_meanwhile(
    ada: Owner, postgres_url: str
) -> None:
    store_thread(ada, "thr_1", begun=100)
    store_thread(ada, "thr_2", begun=100)
    row = models.Thread.objects.get(thread_id="thr_1")

    with psycopg.connect(postgres_url) as elsewhere:
        elsewhere.execute(
            "INSERT INTO support_item (thread_id, item_id, type, created_at, data)"
            " VALUES (%s, 'msg_9', 'user_message', now(), '{}')",
            [row.pk],
        )
        commit_meanwhile(elsewhere, lambda: output_of("prune_chats", "--older-than", "90d"))

    assert thread_ids(ada) == ["thr_1"]


@pytest.mark.parametrize(
    "duration", ["90", "-1d", "0d", "1.5h", "1.5d", "", "d", "٣d", "100000d", "90d\n", "1w"]
)
def test_prune_chats_refuses_an_age_that_is_not_a_number_of_days(duration: str) -> None:
    with pytest.raises(CommandError, match="90d"):
        output_of("prune_chats", f"--older-than={duration}")


# --- erase_user -----------------------------------------------------------------------------------


def test_erase_user_deletes_the_data_of_one_user_only(ada: Owner, bob: Owner) -> None:
    for owner in (ada, bob):
        store_thread(owner, "thr_1", begun=2, said=1)
        store_thread(owner, "thr_2", begun=2)

    report = output_of("erase_user", "ada", "--yes")

    assert report.endswith("Deleted: conversations 2, items 3, feedback 1, attachments 0.\n")
    assert thread_ids(ada) == []
    assert thread_ids(bob) == ["thr_1", "thr_2"]
    assert (count_rows(ada), count_rows(bob)) == ((0, 0), (3, 1))


def test_erase_user_deletes_sent_and_unsent_files(ada: Owner, bob: Owner) -> None:
    store_thread(ada, "thr_1", begun=1)
    store_thread(bob, "thr_1", begun=1)
    sent, unsent, bobs = attach(ada, "thr_1"), attach(ada), attach(bob, "thr_1")

    report = output_of("erase_user", "ada", "--yes")

    assert report.endswith("attachments 2.\n")
    assert [stored_files.storage().exists(name) for name in (sent, unsent, bobs)] == [False, False, True]
    assert list(models.Attachment.objects.values_list("user_id", flat=True)) == ["bob"]


# --- export_user ----------------------------------------------------------------------------------


def test_the_sdk_can_read_an_export(ada: Owner, bob: Owner) -> None:
    store_thread(bob, "thr_1", begun=1)
    store_thread(ada, "thr_1", begun=2, said=1)
    ada.starts("thr_2", title='Größe "✓" </script> 👩‍🚀', metadata={"tries": [1, None]})
    for number in range(3):
        ada.add_thread_item("thr_2", message(f"msg_{number}", "\u2028 \\ \n 💍", "thr_2"))
    ada.starts("thr_3")

    document = json.loads(output_of("export_user", "ada"))

    assert document["user_id"] == "ada"
    rated, long, empty = document["threads"]
    assert [item.pop("feedback", None) for item in rated["items"]] == [None, "positive"]
    assert TypeAdapter(list[ThreadItem]).validate_python(long.pop("items")) == ada.page("thr_2").data
    assert ThreadMetadata.model_validate(long) == ada.load_thread("thr_2")
    assert empty["items"] == []


def test_an_export_contains_the_users_files(ada: Owner, bob: Owner) -> None:
    store_thread(ada, "thr_1", begun=1)
    attach(ada, "thr_1")
    stored_files.storage().delete(attach(ada))  # its file is missing
    attach(bob)

    sent, lost = json.loads(output_of("export_user", "ada"))["attachments"]

    assert (sent["name"], sent["size"], base64.b64decode(sent["content"])) == ("a.txt", 5, b"Hello")
    assert lost["content"] is None


def test_a_large_export_is_written_in_small_pieces(ada: Owner) -> None:
    ada.starts()
    for number in range(205):
        ada.add_thread_item("thr_1", message(f"msg_{number}"))

    pieces = list(export("ada"))

    assert max(map(len, pieces)) < 1000
    assert len(json.loads("".join(pieces))["threads"][0]["items"]) == 205


def test_an_export_goes_to_a_new_file_that_only_its_owner_can_read(ada: Owner, tmp_path: Path) -> None:
    store_thread(ada, "thr_1", begun=1)
    file = tmp_path / "ada.json"

    report = output_of("export_user", "ada", "--output", str(file))

    size = f"{file.stat().st_size:,} bytes"
    assert report.endswith(f"Wrote {file}: conversations 1, items 1, attachments 0, {size}.\n")
    assert json.loads(file.read_text())["user_id"] == "ada"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(CommandError, match="File exists"):
        output_of("export_user", "ada", "--output", str(file))
    with pytest.raises(CommandError, match="No such file or directory"):
        output_of("export_user", "ada", "--output", str(tmp_path / "nowhere" / "ada.json"))


def test_an_export_that_fails_leaves_no_file(ada: Owner, tmp_path: Path) -> None:
    store_thread(ada, "thr_1", begun=1)
    models.Item.objects.update(data=[])

    with pytest.raises(TypeError):
        output_of("export_user", "ada", "--output", str(tmp_path / "ada.json"))

    assert list(tmp_path.iterdir()) == []


def test_an_export_to_a_closed_pipe_ends_with_an_error(ada: Owner, postgres_url: str) -> None:
    ada.starts()
    for number in range(20):
        ada.add_thread_item("thr_1", message(f"msg_{number}", "x" * 50_000))

    process = subprocess.Popen(
        [sys.executable, "manage.py", "export_user", "ada"],
        cwd=Path(__file__).parents[3],
        env=process_environment(DATABASE_URL=postgres_url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.read(20) == '{"user_id": "ada", "'
    process.stdout.close()
    assert process.stderr
    error = process.stderr.read()
    process.stderr.close()

    assert process.wait(30) == 1
    assert error.splitlines()[-1].startswith("CommandError: ")


# --- A user without data --------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["erase_user", "export_user"])
def test_a_user_without_data_is_an_error_and_nothing_is_written(ada: Owner, command: str) -> None:
    store_thread(ada, "thr_1", begun=1)
    out = StringIO()

    with pytest.raises(CommandError, match="User id nobody"):
        call_command(command, "nobody", stdout=out)

    assert out.getvalue() == ""
    assert thread_ids(ada) == ["thr_1"]
