"""Conversations. ``user_id`` is Better Auth's user id as text, on purpose no foreign key: a constraint
on Better Auth's table would make its own account deletion fail half-way.

``data`` holds the object as ChatKit's SDK wrote it and is the truth; the columns beside it are for
finding and the admin. Order is the order of insertion: ``PLACE``, from the database.

What belongs to a deleted row is deleted by the database itself (migrations 0002 and 0003), whoever
deletes it and whatever is being stored that moment. Django would load every item first, and 5.2 cannot
declare such a constraint: hence DO_NOTHING here.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Self

from django.db import IntegrityError, models, transaction
from django.db.models import F, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from support.files import stored_files

# The order of insertion. Ordered by ``id`` itself, the threads of somebody with many are sought along the
# primary key, among everybody's: 50,000 rows for a page of 20, in our test. This only the indexes below
# have in order, and they start from the owner.
PLACE = F("id") + 0

# Ids of messages may come from the model's provider: "msg_" and some 50 hex digits at OpenAI.
ID_LENGTH = 200

RELEASE_TRIES = 3


class ThreadQuerySet(models.QuerySet["Thread"]):
    def owned_by(self, user_id: str) -> Self:
        return self.filter(user_id=user_id)

    def quiet_since(self, moment: datetime) -> Self:
        """Without anything said from then on: neither the thread nor its newest item is younger."""
        newest = Item.objects.filter(thread=OuterRef("pk")).order_by(PLACE.desc()).values("created_at")[:1]
        last_said = Coalesce(Subquery(newest), "created_at")
        return self.filter(created_at__lt=moment).alias(last_said=last_said).filter(last_said__lt=moment)


class Thread(models.Model):
    user_id = models.CharField(max_length=ID_LENGTH)
    thread_id = models.CharField(max_length=ID_LENGTH)
    title = models.TextField(null=True)
    created_at = models.DateTimeField()
    data = models.JSONField()

    objects = ThreadQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user_id", "thread_id"], name="thread_of_user")]
        indexes = [
            models.Index("user_id", PLACE, name="threads_in_order"),
            models.Index(fields=["created_at"], name="threads_by_age"),
            models.Index(
                fields=["thread_id"], name="threads_by_id"
            ),  # for staff, who may not know whose it is
        ]

    def __str__(self) -> str:
        # And not its title, which says what it is about: Django's log of what staff has deleted keeps this.
        return self.thread_id


class ItemQuerySet(models.QuerySet["Item"]):
    def owned_by(self, user_id: str) -> Self:
        return self.filter(thread__user_id=user_id)

    def of_thread(self, user_id: str, thread_id: str) -> Self:
        """Starts from the owner, by the key of their thread.

        Not by a join: PostgreSQL does not see that it yields one thread alone, and so would sort all of
        its items, where ``items_in_order`` has them in order.
        """
        owned = Thread.objects.owned_by(user_id).filter(thread_id=thread_id)
        return self.filter(thread=Subquery(owned.values("id")))


class Item(models.Model):
    """A message, a tool call, a widget …: ``type`` is ChatKit's name of it."""

    thread = models.ForeignKey(
        Thread, models.DO_NOTHING, related_name="items", db_index=False, db_constraint=False
    )
    item_id = models.CharField(max_length=ID_LENGTH)
    type = models.CharField(max_length=40)
    created_at = models.DateTimeField()
    data = models.JSONField()

    objects = ItemQuerySet.as_manager()

    class Meta:
        # Unique within its thread alone: some of the ids are not ours to choose.
        constraints = [models.UniqueConstraint(fields=["thread", "item_id"], name="item_of_thread")]
        indexes = [models.Index("thread", PLACE, name="items_in_order")]

    def __str__(self) -> str:
        return self.item_id


class Feedback(models.Model):
    """Thumbs up or down for one item, by its thread's owner: who that is, is said there alone."""

    item = models.OneToOneField(Item, models.DO_NOTHING, primary_key=True, db_constraint=False)
    kind = models.CharField(max_length=10, choices=[("positive", "Positive"), ("negative", "Negative")])
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.kind


class AttachmentQuerySet(models.QuerySet["Attachment"]):
    def owned_by(self, user_id: str) -> Self:
        return self.filter(user_id=user_id)

    def release(self, leaving: Sequence[int] = ()) -> list[int]:
        """Set ``thread`` of each to the newest thread with a message that carries it, or to null.

        Call it in a transaction. ``leaving``: primary keys of threads that are about to be deleted and do not
        count. Returns the attachments' primary keys.
        """
        # Lock first. The next statement then sees all messages that were stored until now. A message that is
        # stored later sets ``thread`` again (support.storage.items.save).
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
            except IntegrityError:  # one of these threads was being deleted, and is gone now
                if not tries_left:
                    raise
        return list(found.values())

    def delete_with_threads(self, threads: Sequence[int]) -> int:
        """Delete the attachments of these threads that no message of another thread carries.

        Call it before the threads are deleted, in the same transaction. ``threads``: primary keys. Returns
        how many attachments it deleted.
        """
        # An attachment that is sent or uploaded at this moment either is found here, or finds no row.
        released = self.filter(thread__in=threads).release(leaving=threads)
        if not released:
            return 0
        return Attachment.objects.filter(id__in=released, thread=None).delete_with_files()

    def delete_with_files(self) -> int:
        """Delete the rows, and their files once that is committed. Returns how many there were."""
        with transaction.atomic():
            # Locked: an upload that ends this moment either is in the list, or finds no row.
            found = dict(self.select_for_update().values_list("id", "file"))
            Attachment.objects.filter(id__in=found).delete()
            transaction.on_commit(partial(stored_files.delete, found.values()))
        return len(found)


def _threads_carrying(attachments: Mapping[tuple[str, str], int], leaving: Sequence[int]) -> dict[int, int]:
    """By attachment: the thread of the newest message that carries it, if there is one.

    ``attachments``: primary keys by owner and id. The owners' messages are read once, however many there are.
    """
    owners = {user_id for user_id, _ in attachments}
    messages = Item.objects.filter(thread__user_id__in=owners, type="user_message")
    carrying = messages.exclude(thread__in=leaving).filter(data__attachments__0__isnull=False)
    columns = carrying.order_by(PLACE).values_list("thread__user_id", "thread_id", "data__attachments")
    return {
        attachments[user_id, carried["id"]]: thread
        for user_id, thread, all_carried in columns.iterator()
        for carried in all_carried
        if (user_id, carried["id"]) in attachments
    }


class Attachment(models.Model):
    """A file that its owner has uploaded. Messages of several conversations may carry it.

    ``thread``: the last conversation that it was sent to. Null while no message carries it.
    """

    user_id = models.CharField(max_length=ID_LENGTH)
    attachment_id = models.CharField(max_length=ID_LENGTH)
    thread = models.ForeignKey(
        Thread, models.DO_NOTHING, related_name="attachments", null=True, db_constraint=False
    )
    file = models.CharField(max_length=100, default="")  # its name in the storage; empty until uploaded
    size = models.BigIntegerField(null=True)  # in bytes, of the file and not of what was claimed
    created_at = models.DateTimeField(default=timezone.now)
    data = models.JSONField()

    objects = AttachmentQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user_id", "attachment_id"], name="attachment_of_user")
        ]
        indexes = [
            # Both are for sweep_attachments.
            models.Index(fields=["created_at"], condition=Q(thread=None), name="attachments_unsent"),
            models.Index(fields=["file"], name="attachments_by_file"),
        ]

    def __str__(self) -> str:
        return self.attachment_id
