"""Conversations, their items, and the user's feedback on them."""

from datetime import datetime
from typing import TYPE_CHECKING, Self

from django.db import models
from django.db.models import F, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce, Left

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
