"""Attachments, and which conversation each of them belongs to."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Self

from django.db import IntegrityError, models, transaction
from django.db.models import Q
from django.utils import timezone

from support.files import stored_files
from support.models.conversations import ID_LENGTH, INSERTION_ORDER, Item, Thread

if TYPE_CHECKING:
    from support.context import Owner

RELEASE_TRIES = 3  # of ``AttachmentQuerySet.release``


class AttachmentQuerySet(models.QuerySet["Attachment"]):
    def owned_by(self, user_id: str) -> Self:
        """Return the user's attachments in all organizations."""
        return self.filter(user_id=user_id)

    def visible_to(self, owner: "Owner") -> Self:
        """Return the attachments that a request of this owner may read and change."""
        return self.filter(**owner.columns)

    def release(self, leaving: Sequence[int] = ()) -> list[int]:
        """Set ``thread`` of each attachment as ``Attachment`` defines it. Returns the primary keys.

        ``leaving``: primary keys of threads that are about to be deleted, and do not count.
        Call this method in a transaction.
        """
        # Lock the attachments first. The next statement then sees all messages that were stored before the
        # lock. A message that is stored later sets ``thread`` again (support.storage.items.save).
        rows = self.order_by("id").select_for_update().values_list("user_id", "attachment_id", "id")
        found = {(user_id, attachment_id): key for user_id, attachment_id, key in rows}
        if not found:
            return []
        for tries_left in reversed(range(RELEASE_TRIES)):
            threads = _threads_carrying(found, leaving)
            keys_by_thread: dict[int | None, list[int]] = {}
            for key in found.values():
                keys_by_thread.setdefault(threads.get(key), []).append(key)
            try:
                with transaction.atomic():
                    for thread, keys in keys_by_thread.items():
                        Attachment.objects.filter(id__in=keys).update(thread=thread)
                break
            except IntegrityError:  # one of these threads was deleted meanwhile
                if not tries_left:
                    raise
        return list(found.values())

    def delete_with_threads(self, threads: Sequence[int]) -> int:
        """Delete the attachments of these threads, except those that a message of another thread carries.

        ``threads``: primary keys. Call this method before the threads are deleted, in the same transaction.
        Returns the number of deleted attachments.
        """
        # If an attachment is sent or uploaded at the same time, this query finds it, or the other update
        # finds no row.
        released = self.filter(thread__in=threads).release(leaving=threads)
        if not released:
            return 0
        return Attachment.objects.filter(id__in=released, thread=None).delete_with_files()

    def delete_with_files(self) -> int:
        """Delete the rows, and after the commit their files. Returns the number of deleted rows."""
        with transaction.atomic():
            # Lock the rows. If an upload ends at the same time, this query reads its file's name, or the
            # update of the upload finds no row.
            found = dict(self.select_for_update().values_list("id", "file"))
            Attachment.objects.filter(id__in=found).delete()
            transaction.on_commit(partial(stored_files.delete, found.values()))
        return len(found)


def _threads_carrying(attachments: Mapping[tuple[str, str], int], leaving: Sequence[int]) -> dict[int, int]:
    """Return the thread of the newest message that carries each attachment: primary keys by primary keys.

    ``attachments``: primary keys by (owner, ChatKit id). ``leaving``: primary keys of threads that do not
    count. An attachment that no message carries is missing from the result. One query reads the messages for
    all attachments.
    """
    owners = {user_id for user_id, _ in attachments}
    messages = Item.objects.filter(thread__user_id__in=owners, type="user_message")
    carrying = messages.exclude(thread__in=leaving).filter(data__attachments__0__isnull=False)
    columns = carrying.order_by(INSERTION_ORDER).values_list(
        "thread__user_id", "thread_id", "data__attachments"
    )
    return {
        attachments[user_id, carried["id"]]: thread
        for user_id, thread, all_carried in columns.iterator()
        for carried in all_carried
        if (user_id, carried["id"]) in attachments
    }


class Attachment(models.Model):
    """A file that its owner announced or uploaded. Messages of several threads may carry it.

    ``thread``: the thread of the newest message that carries the attachment. Null if no message carries it.
    """

    user_id = models.CharField(max_length=ID_LENGTH)
    # The organization that was active at the announcement or upload, as in Thread.
    organization_id = models.CharField(max_length=ID_LENGTH, db_default="", default="")
    attachment_id = models.CharField(max_length=ID_LENGTH)
    thread = models.ForeignKey(
        Thread, models.DO_NOTHING, related_name="attachments", null=True, db_constraint=False
    )
    file = models.CharField(max_length=100, default="")  # its name in the storage; empty before the upload
    size = models.BigIntegerField(null=True)  # of the file, in bytes; null before the upload
    created_at = models.DateTimeField(default=timezone.now)
    data = models.JSONField()

    objects = AttachmentQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user_id", "attachment_id"], name="attachment_of_user")
        ]
        indexes = [
            # Both indexes are for sweep_attachments.
            models.Index(fields=["created_at"], condition=Q(thread=None), name="attachments_unsent"),
            models.Index(fields=["file"], name="attachments_by_file"),
        ]

    def __str__(self) -> str:
        return self.attachment_id
