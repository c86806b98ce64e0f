"""Deletes many threads, with their items, feedback and attachments."""

from collections.abc import Iterator
from dataclasses import astuple, dataclass

from django.db import transaction

from support.models import Attachment, AttachmentQuerySet, Feedback, Item, Thread, ThreadQuerySet

BATCH = 100  # threads in one transaction; an interruption rolls back one transaction


@dataclass(frozen=True, slots=True)
class Deleted:
    """The numbers of deleted rows, or of rows that would be deleted."""

    threads: int = 0
    items: int = 0
    feedback: int = 0
    attachments: int = 0

    def __add__(self, other: "Deleted") -> "Deleted":
        return Deleted(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    def __str__(self) -> str:
        return (
            f"conversations {self.threads}, items {self.items}, feedback {self.feedback}, "
            f"attachments {self.attachments}"
        )


def count(threads: ThreadQuerySet, attachments: AttachmentQuerySet) -> Deleted:
    """Count what ``delete_threads`` would delete.

    ``attachments``: those of the threads. An attachment is counted even if a message of another thread
    carries it, and ``delete_threads`` keeps such an attachment.
    """
    items = Item.objects.filter(thread__in=threads)
    feedback = Feedback.objects.filter(item__thread__in=threads)
    return Deleted(threads.count(), items.count(), feedback.count(), attachments.count())


def delete_threads(threads: ThreadQuerySet) -> Iterator[Deleted]:
    """Delete the threads in batches. After the commit of each batch, yields its numbers."""
    keys = list(threads.order_by("id").values_list("id", flat=True))
    for start in range(0, len(keys), BATCH):
        yield _delete_batch(threads, keys[start : start + BATCH])


def delete_user_data(user_id: str) -> Iterator[Deleted]:
    """Delete all threads and attachments of a user, also the attachments that were never sent."""
    yield from delete_threads(Thread.objects.owned_by(user_id))
    yield Deleted(attachments=Attachment.objects.owned_by(user_id).delete_with_files())


@transaction.atomic
def _delete_batch(threads: ThreadQuerySet, keys: list[int]) -> Deleted:
    # Lock the threads, and then filter them again: because of a message that was committed before the lock,
    # a thread may no longer match ``threads``. A message that comes after the lock waits, and then finds no
    # thread.
    list(Thread.objects.filter(id__in=keys).order_by("id").select_for_update().values_list("id"))
    still_matching = list(threads.filter(id__in=keys).values_list("id", flat=True))
    attachments = Attachment.objects.delete_with_threads(still_matching)
    feedback, _ = Feedback.objects.filter(item__thread__in=still_matching).delete()
    items, _ = Item.objects.filter(thread__in=still_matching).delete()
    rows, _ = Thread.objects.filter(id__in=still_matching).delete()
    return Deleted(rows, items, feedback, attachments)
