"""The attachments in ChatKit's ``Store``: their owners, their threads, their deletion and their URLs."""

import time
from functools import partial
from io import BytesIO
from typing import Any
from urllib.parse import unquote

import psycopg
import pytest
from chatkit.store import NotFoundError
from chatkit.types import AttachmentUploadDescriptor, FileAttachment, ImageAttachment, UserMessageItem
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from support import models
from support.files import signed_urls, stored_files
from support.files.validation import FileRefused
from tests.fixtures.database.concurrent_commits import commit_meanwhile
from tests.fixtures.owner import Owner, message

# The store runs in worker threads with their own connections, so a test cannot be one transaction.
pytestmark = pytest.mark.django_db(transaction=True)


def attachment(attachment_id: str = "atc_1", **fields: Any) -> FileAttachment:
    return FileAttachment(id=attachment_id, name="a.txt", mime_type="text/plain", **fields)


def picture(address: str, attachment_id: str = "atc_1") -> ImageAttachment:
    return ImageAttachment(id=attachment_id, name="a.png", mime_type="image/png", preview_url=address)


DESCRIPTOR = AttachmentUploadDescriptor(url="https://files.example.com/1", method="PUT", headers={"a": "b"})


@pytest.mark.parametrize(
    "made",
    [
        attachment(),
        attachment(metadata={"deep": [1, {"a": None}]}, upload_descriptor=DESCRIPTOR),
        attachment(metadata={"file": "s3://files-of-a-team/1"}),
        attachment("any/id ✓", thread_id="thr_1"),
        picture("https://cdn.example.com/a.png?b=c"),
        picture("data:image/png;base64,AAAA", "any/id ✓"),
    ],
    ids=["bare", "full", "kept by a team", "of a thread", "elsewhere", "data"],
)
def test_an_attachment_comes_back_as_it_was_stored(ada: Owner, made: Any) -> None:
    ada.save_attachment(made)

    assert ada.load_attachment(made.id) == made


def test_saving_an_attachment_again_changes_it(ada: Owner) -> None:
    ada.starts()
    ada.save_attachment(attachment(upload_descriptor=DESCRIPTOR))
    ada.save_attachment(attachment())
    ada.save_attachment(attachment(thread_id="thr_1"))
    ada.save_attachment(attachment(thread_id="thr_1", metadata={"seen": True}))

    assert ada.load_attachment("atc_1") == attachment(thread_id="thr_1", metadata={"seen": True})
    assert models.Attachment.objects.get().thread == models.Thread.objects.get()


def test_saving_an_attachment_without_a_thread_keeps_its_thread(ada: Owner) -> None:
    ada.starts()
    ada.save_attachment(attachment(thread_id="thr_1"))

    ada.save_attachment(attachment(metadata={"seen": True}))

    assert models.Attachment.objects.get().thread == models.Thread.objects.get()


def test_saving_an_uploaded_attachment_again_changes_it_and_sets_its_thread(ada: Owner) -> None:
    ada.starts()
    uploaded = attachment(metadata={"file": "00/" + "0" * 32})
    models.Attachment.objects.create(
        user_id="ada", attachment_id="atc_1", data=uploaded.model_dump(mode="json")
    )
    changed = uploaded.model_copy(update={"name": "b.txt", "thread_id": "thr_1"})

    ada.save_attachment(changed)

    assert ada.load_attachment("atc_1") == changed
    assert thread_id_of("atc_1") == "thr_1"
    ada.save_attachment(uploaded)
    assert thread_id_of("atc_1") == "thr_1"


def message_with(attachment_id: str, item_id: str, thread_id: str) -> UserMessageItem:
    return message(item_id, thread_id=thread_id).model_copy(
        update={"attachments": [attachment(attachment_id)]}
    )


def thread_id_of(attachment_id: str) -> str | None:
    row = models.Attachment.objects.select_related("thread").get(attachment_id=attachment_id)
    return row.thread and row.thread.thread_id


def test_the_thread_of_an_attachment_is_the_newest_one_that_carries_it(ada: Owner) -> None:
    """It is the thread to which it was sent last, as long as a message there carries it."""
    for thread_id in ("thr_1", "thr_2"):
        ada.starts(thread_id)
        ada.save_attachment(attachment(thread_id=thread_id))
        ada.add_thread_item(thread_id, message_with("atc_1", "msg_1", thread_id))
    ada.add_thread_item("thr_2", message_with("atc_1", "msg_2", "thr_2"))
    seen = [thread_id_of("atc_1")]

    for thread_id, item_id in (("thr_2", "msg_1"), ("thr_2", "msg_2"), ("thr_1", "msg_1")):
        ada.delete_thread_item(thread_id, item_id)
        seen.append(thread_id_of("atc_1"))

    assert seen == ["thr_2", "thr_2", "thr_1", None]
    assert ada.load_attachment("atc_1")


def test_storing_a_message_sets_the_thread_of_a_released_attachment(ada: Owner) -> None:
    """This happens when a client sends a message again while its first request is undone."""
    ada.starts()
    ada.add_thread_item("thr_1", message_with("atc_1", "msg_1", "thr_1"))
    ada.save_attachment(attachment(thread_id="thr_1"))

    ada.delete_thread_item("thr_1", "msg_1")
    ada.add_thread_item("thr_1", message_with("atc_1", "msg_2", "thr_1"))

    assert thread_id_of("atc_1") == "thr_1"


def test_releasing_an_attachment_sees_a_message_that_is_stored_meanwhile(
    ada: Owner, postgres_url: str
) -> None:
    ada.starts()
    ada.add_thread_item("thr_1", message_with("atc_1", "msg_1", "thr_1"))
    ada.save_attachment(attachment(thread_id="thr_1"))
    again = message_with("atc_1", "msg_2", "thr_1").model_dump_json()

    with psycopg.connect(postgres_url) as elsewhere:
        elsewhere.execute("UPDATE support_attachment SET thread_id = thread_id")
        elsewhere.execute(
            "INSERT INTO support_item (thread_id, item_id, type, created_at, data)"
            " SELECT id, 'msg_2', 'user_message', now(), %s FROM support_thread",
            [again],
        )
        commit_meanwhile(elsewhere, partial(ada.delete_thread_item, "thr_1", "msg_1"))

    assert thread_id_of("atc_1") == "thr_1"


def test_another_owners_message_does_not_carry_an_attachment_with_the_same_id(ada: Owner, bob: Owner) -> None:
    for owner in (ada, bob):
        owner.starts()
        owner.save_attachment(attachment(thread_id="thr_1"))
        owner.add_thread_item("thr_1", message_with("atc_1", "msg_1", "thr_1"))

    ada.delete_thread_item("thr_1", "msg_1")
    bob.delete_thread("thr_1")

    left = models.Attachment.objects.get()
    assert (left.user_id, left.thread) == ("ada", None)


def test_deleting_an_item_without_attachments_keeps_the_files_of_its_thread(ada: Owner) -> None:
    ada.starts()
    ada.save_attachment(attachment(thread_id="thr_1"))  # a team's server may save it without a thread
    ada.add_thread_item("thr_1", message())

    ada.delete_thread_item("thr_1", "msg_1")

    assert thread_id_of("atc_1") == "thr_1"


def test_two_owners_can_have_attachments_with_the_same_id(ada: Owner, bob: Owner) -> None:
    ada.starts()
    ada.save_attachment(attachment(metadata={"of": "ada"}))
    bob.save_attachment(attachment(metadata={"of": "bob"}))
    bob.save_attachment(attachment("atc_2", thread_id="thr_1"))  # Ada's, not Bob's

    assert ada.load_attachment("atc_1").metadata == {"of": "ada"}
    bob.delete_attachment("atc_1")
    ada.delete_thread("thr_1")
    assert ada.load_attachment("atc_1").metadata == {"of": "ada"}
    assert bob.load_attachment("atc_2")
    for absent in ("atc_1", "atc_x"):
        bob.delete_attachment(absent)
        with pytest.raises(NotFoundError):
            bob.load_attachment(absent)


def test_deleting_a_thread_deletes_its_attachments(ada: Owner) -> None:
    ada.starts()
    ada.save_attachment(attachment(thread_id="thr_1"))
    ada.save_attachment(attachment("atc_2"))

    ada.delete_thread("thr_1")

    assert [row.attachment_id for row in models.Attachment.objects.all()] == ["atc_2"]


def test_deleting_a_thread_deletes_a_file_that_is_sent_to_it_meanwhile(ada: Owner, postgres_url: str) -> None:
    ada.starts()
    ada.save_attachment(attachment())
    file = stored_files.save(BytesIO(b"Hello"))
    models.Attachment.objects.update(file=file)

    with psycopg.connect(postgres_url) as elsewhere:
        elsewhere.execute("UPDATE support_attachment SET thread_id = (SELECT id FROM support_thread)")
        commit_meanwhile(elsewhere, partial(ada.delete_thread, "thr_1"))

    assert models.Attachment.objects.count() == 0
    assert not stored_files.storage().exists(file)


def test_an_attachment_cannot_be_sent_to_a_thread_that_is_deleted_meanwhile(
    ada: Owner, postgres_url: str
) -> None:
    ada.starts()
    ada.save_attachment(attachment())

    with psycopg.connect(postgres_url) as elsewhere:
        elsewhere.execute("DELETE FROM support_thread")
        with pytest.raises(NotFoundError):
            commit_meanwhile(elsewhere, partial(ada.save_attachment, attachment(thread_id="thr_1")))

    assert ada.load_attachment("atc_1") == attachment()


def test_sending_an_attachment_that_is_deleted_meanwhile_does_not_create_it_again(
    ada: Owner, postgres_url: str
) -> None:
    ada.starts()
    file = f"00/{'1' * 32}"
    uploaded = attachment(metadata={"file": file})
    models.Attachment.objects.create(
        user_id="ada", attachment_id=uploaded.id, file=file, data=uploaded.model_dump(mode="json")
    )
    sent = uploaded.model_copy(update={"thread_id": "thr_1"})

    with psycopg.connect(postgres_url) as elsewhere:
        elsewhere.execute("DELETE FROM support_attachment")
        with pytest.raises(NotFoundError):
            commit_meanwhile(elsewhere, partial(ada.save_attachment, sent))

    assert models.Attachment.objects.count() == 0


def test_two_threads_with_the_same_file_can_be_deleted_at_the_same_time(
    ada: Owner, postgres_url: str
) -> None:
    for thread_id in ("thr_1", "thr_2"):
        ada.starts(thread_id)
        ada.save_attachment(attachment(thread_id=thread_id))
        ada.add_thread_item(thread_id, message_with("atc_1", "msg_1", thread_id))

    with psycopg.connect(postgres_url) as elsewhere:
        elsewhere.execute("DELETE FROM support_thread WHERE thread_id = 'thr_1'")
        commit_meanwhile(elsewhere, partial(ada.delete_thread, "thr_2"))

    assert (models.Thread.objects.count(), models.Attachment.objects.count()) == (0, 0)


def test_deleting_a_thread_with_many_files_reads_the_owners_messages_once(ada: Owner) -> None:
    ada.starts()
    for number in range(10):
        ada.save_attachment(attachment(f"atc_{number}", thread_id="thr_1"))
    ada.starts("thr_2")
    ada.add_thread_item("thr_2", message_with("atc_1", "msg_1", "thr_2"))

    with transaction.atomic(), CaptureQueriesContext(connection) as asked:
        (key,) = models.Thread.objects.filter(thread_id="thr_1").values_list("id", flat=True)
        models.Attachment.objects.all().delete_with_threads([key])

    about_items = [query["sql"] for query in asked if '"support_item"' in query["sql"]]
    assert len(about_items) == 1
    assert "UPDATE" not in about_items[0]  # Django's cascade would query each attachment again
    assert [row.attachment_id for row in models.Attachment.objects.all()] == ["atc_1"]


def test_an_attachment_must_exist_and_be_uploaded_to_be_sent(ada: Owner, bob: Owner) -> None:
    ada.starts()
    ada.save_attachment(attachment("new"))
    ada.save_attachment(attachment("sent", thread_id="thr_1"))
    ada.save_attachment(attachment("waiting", upload_descriptor=DESCRIPTOR))

    ada.require_sendable(["new", "sent"])
    for ids in (["new", "waiting"], ["new"] * 2):
        with pytest.raises(FileRefused):
            ada.require_sendable(ids)
    for owner, absent in ((ada, "nowhere"), (bob, "new")):
        with pytest.raises(NotFoundError):
            owner.require_sendable([absent])


def test_a_message_cannot_carry_eleven_attachments(ada: Owner) -> None:
    eleven = [f"atc_{number}" for number in range(11)]
    for attachment_id in eleven:
        ada.save_attachment(attachment(attachment_id))

    ada.require_sendable(eleven[:10])

    with pytest.raises(FileRefused):
        ada.require_sendable(eleven)


@pytest.fixture
def with_pictures(ada: Owner) -> list[UserMessageItem]:
    """A thread with three messages of two pictures each. Their stored URLs expired long ago."""
    made = []
    with pytest.MonkeyPatch.context() as long_ago:
        long_ago.setattr(signed_urls.time, "time", lambda: time.monotonic())
        for number in range(3):
            item = message(f"msg_{number}")
            item.attachments = [
                picture(str(signed_urls.content_url("ada", f"atc_{number}{n}")), f"atc_{number}{n}")
                for n in range(2)
            ]
            made.append(item)
    ada.starts()
    for item in made:
        ada.add_thread_item("thr_1", item)
    return made


def test_loading_items_makes_new_signed_urls(ada: Owner, with_pictures: list[UserMessageItem]) -> None:
    loaded = [*ada.page().data, ada.load_item("thr_1", "msg_0")]

    for item in loaded:
        for part in item.attachments:
            signature = unquote(str(part.preview_url).partition("signature=")[2])
            assert signed_urls.verify(part.id, signature)[0] == "ada"
            assert str(part.preview_url).startswith("https://api.example.com/support/attachments/")
    addresses_of = [[part.preview_url for part in item.attachments] for item in ada.page().data]
    assert addresses_of == [[part.preview_url for part in item.attachments] for item in loaded[:3]]
    for part in with_pictures[0].attachments:
        with pytest.raises(signed_urls.InvalidUrl):
            signed_urls.verify(part.id, unquote(str(part.preview_url).partition("signature=")[2]))
