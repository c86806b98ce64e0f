"""Conversations. ``user_id`` is Better Auth's user id as text, on purpose no foreign key: a constraint
on Better Auth's table would make its own account deletion fail half-way.

``data`` holds the object as ChatKit's SDK wrote it and is the truth; the columns beside it are for
finding, ordering and the admin. Order is the order of insertion: ``id``, from the database.
"""

from typing import Self

from django.db import models

# Ids of messages may come from the model's provider: "msg_" and some 50 hex digits at OpenAI.
ID_LENGTH = 200


class ThreadQuerySet(models.QuerySet["Thread"]):
    def owned_by(self, user_id: str) -> Self:
        return self.filter(user_id=user_id)


class Thread(models.Model):
    user_id = models.CharField(max_length=ID_LENGTH)
    thread_id = models.CharField(max_length=ID_LENGTH)
    title = models.TextField(null=True)
    created_at = models.DateTimeField()
    data = models.JSONField()

    objects = ThreadQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user_id", "thread_id"], name="thread_of_user")]
        indexes = [models.Index(fields=["user_id", "id"], name="threads_in_order")]

    def __str__(self) -> str:
        return self.title or self.thread_id


class ItemQuerySet(models.QuerySet["Item"]):
    def owned_by(self, user_id: str) -> Self:
        return self.filter(thread__user_id=user_id)


class Item(models.Model):
    """A message, a tool call, a widget …: ``type`` is ChatKit's name of it."""

    thread = models.ForeignKey(Thread, models.CASCADE, related_name="items", db_index=False)
    item_id = models.CharField(max_length=ID_LENGTH)
    type = models.CharField(max_length=40)
    created_at = models.DateTimeField()
    data = models.JSONField()

    objects = ItemQuerySet.as_manager()

    class Meta:
        # Unique within its thread alone: some of the ids are not ours to choose.
        constraints = [models.UniqueConstraint(fields=["thread", "item_id"], name="item_of_thread")]
        indexes = [models.Index(fields=["thread", "id"], name="items_in_order")]

    def __str__(self) -> str:
        return self.item_id
