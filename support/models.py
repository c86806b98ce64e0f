"""The tables of conversations.

``user_id`` and ``organization_id`` are Better Auth's ids as text. They are not foreign keys: a constraint on
Better Auth's table would make the deletion of an account in Better Auth fail half-way.

``id`` is the primary key. ``thread_id`` of a thread, ``item_id`` and ``attachment_id`` are ChatKit's ids.
``thread_id`` of an item or an attachment is Django's attribute for the foreign key: a primary key.

``data`` is the object as the ChatKit SDK wrote it, and the SDK reads only ``data``. Most of the other columns
are copies of parts of ``data``, for queries and for the admin. ``user_id``, ``organization_id``, the primary
keys, the foreign keys and the time of an attachment are only in columns. Rows are ordered by insertion
(``INSERTION_ORDER``).

If a row is deleted, the database deletes the rows that refer to it: migrations 0002, 0003 and 0006 make
foreign keys with ON DELETE CASCADE. Django's own CASCADE would load all items first, and would miss an item
that is stored at the same time. Django 5.2 cannot declare a foreign key with ON DELETE CASCADE, so the models
have DO_NOTHING.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Self

from django.db import IntegrityError, models, transaction
from django.db.models import F, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce, Left
from django.utils import timezone

from support.files import stored_files

if TYPE_CHECKING:
    from support.context import Owner

# The order of insertion. We do not order by ``id`` itself: for a user with many threads, PostgreSQL would use
# the index of the primary key and read the threads of all users. In our test, it read 50,000 rows for a page
# of 20. PostgreSQL sorts by ``id + 0`` only with the indexes below, which begin with the owner or the thread.
INSERTION_ORDER = F("id") + 0

# The organization, as only the list of threads compares it. In our test, with the column itself, PostgreSQL
# looked up a single thread in the list's index, and read all threads of the user in the organization.
LISTED_ORGANIZATION = Left("organization_id", 200)

# In characters. The model's provider makes some of ChatKit's ids. OpenAI's are "msg_" and about 50 hex
# digits.
ID_LENGTH = 200

RELEASE_TRIES = 3  # of ``AttachmentQuerySet.release``


class ThreadQuerySet(models.QuerySet["Thread"]):
    def owned_by(self, user_id: str) -> Self:
        """Return the user's threads in all organizations."""
        return self.filter(user_id=user_id)

    def visible_to(self, owner: "Owner") -> Self:
        """Return the threads that a request of this owner may read and change."""
        return self.filter(**owner.columns)

    def listed_for(self, owner: "Owner") -> Self:
        """Return what ``visible_to`` returns, for a page in the order of insertion."""
        if owner.organization_id is None:
            return self.visible_to(owner)
        listed = self.alias(listed_organization=LISTED_ORGANIZATION).filter(user_id=owner.user_id)
        return listed.filter(listed_organization=owner.organization_id)

    def inactive_since(self, time: datetime) -> Self:
        """Return the threads that are older than ``time`` and whose newest item is also older."""
        newest = (
            Item.objects.filter(thread=OuterRef("pk"))
            .order_by(INSERTION_ORDER.desc())
            .values("created_at")[:1]
        )
        last_activity = Coalesce(Subquery(newest), "created_at")
        old = self.filter(created_at__lt=time)
        return old.alias(last_activity=last_activity).filter(last_activity__lt=time)


class Thread(models.Model):
    user_id = models.CharField(max_length=ID_LENGTH)
    # The organization that was active when the thread was created. Empty: none, or the setting was "user".
    # The database has the default, so that servers of the older release can insert rows.
    organization_id = models.CharField(max_length=ID_LENGTH, db_default="", default="")
    thread_id = models.CharField(max_length=ID_LENGTH)
    title = models.TextField(null=True)
    created_at = models.DateTimeField()
    data = models.JSONField()

    objects = ThreadQuerySet.as_manager()

    class Meta:
        verbose_name = "conversation"
        constraints = [models.UniqueConstraint(fields=["user_id", "thread_id"], name="thread_of_user")]
        indexes = [
            models.Index("user_id", INSERTION_ORDER, name="threads_in_order"),
            models.Index("user_id", LISTED_ORGANIZATION, INSERTION_ORDER, name="threads_of_organization"),
            models.Index(fields=["created_at"], name="threads_by_age"),
            # For the admin's list of one organization.
            models.Index(
                fields=["organization_id", "created_at", "id"],
                condition=~Q(organization_id=""),
                name="threads_by_organization",
            ),
            # For the admin's search by thread_id alone.
            models.Index(fields=["thread_id"], name="threads_by_id"),
        ]

    def __str__(self) -> str:
        # Do not return the title: Django's log of admin actions stores this text, and the title tells what
        # the conversation is about.
        return self.thread_id


class ItemQuerySet(models.QuerySet["Item"]):
    def owned_by(self, user_id: str) -> Self:
        return self.filter(thread__user_id=user_id)

    def of_thread(self, owner: "Owner", thread_id: str) -> Self:
        """Return the items of this owner's thread. ``thread_id``: ChatKit's id.

        The query has a subquery and not a join. With a join, PostgreSQL does not know that there is only one
        thread. It would sort all items of the thread and not use the index ``items_in_order``.
        """
        visible = Thread.objects.visible_to(owner).filter(thread_id=thread_id)
        return self.filter(thread=Subquery(visible.values("id")[:1]))


class Item(models.Model):
    """A message, a tool call, a widget and so on. ``type``: ChatKit's name for the kind of item."""

    thread = models.ForeignKey(
        Thread, models.DO_NOTHING, related_name="items", db_index=False, db_constraint=False
    )
    item_id = models.CharField(max_length=ID_LENGTH)
    type = models.CharField(max_length=40)
    created_at = models.DateTimeField()
    data = models.JSONField()

    objects = ItemQuerySet.as_manager()

    class Meta:
        # ChatKit's ids of items are unique only within a thread, because the provider makes some of them.
        constraints = [models.UniqueConstraint(fields=["thread", "item_id"], name="item_of_thread")]
        indexes = [models.Index("thread", INSERTION_ORDER, name="items_in_order")]

    def __str__(self) -> str:
        return self.item_id


class Feedback(models.Model):
    """A thumbs up or thumbs down for one item, given by the owner of the item's thread."""

    item = models.OneToOneField(Item, models.DO_NOTHING, primary_key=True, db_constraint=False)
    kind = models.CharField(max_length=10, choices=[("positive", "Positive"), ("negative", "Negative")])
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        # For the admin's start page.
        indexes = [
            models.Index(fields=["updated_at"], condition=Q(kind="negative"), name="feedback_negative")
        ]

    def __str__(self) -> str:
        return self.kind


class ApprovalStatus(models.TextChoices):
    OPEN = "open"
    APPROVED = "approved"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"  # the user wrote a new message instead
    EXPIRED = "expired"
    OUTDATED = "outdated"  # a tool, the organization or the Agents SDK is no longer the same


class Approval(models.Model):
    """The user's approval of calls of tools. ``item``: the widget that asks for it.

    ``tools``: the names of the called tools. ``digest``: of everything that the user approves.
    ``state``: the interrupted answer as JSON. It repeats a part of the conversation and its files. It is
    empty after the decision. ``version``: of the format of ``state``.
    """

    item = models.OneToOneField(Item, models.DO_NOTHING, primary_key=True, db_constraint=False)
    tools = models.JSONField()
    digest = models.CharField(max_length=64)
    version = models.CharField(max_length=100)
    state = models.TextField()
    status = models.CharField(max_length=10, choices=ApprovalStatus, default=ApprovalStatus.OPEN)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()

    class Meta:
        # For sweep_attachments.
        indexes = [models.Index(fields=["expires_at"], condition=Q(status="open"), name="approvals_open")]

    def __str__(self) -> str:
        return self.status


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
