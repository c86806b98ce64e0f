"""Conversations in bulk: removing old ones, and removing or exporting all of one person's."""

import base64
import json
from collections.abc import Generator, Iterator
from dataclasses import astuple, dataclass

from django.db import transaction

from support.files import stored_files
from support.models import PLACE, Attachment, Feedback, Item, Thread, ThreadQuerySet

BATCH = 100  # conversations a transaction: so much at most is undone when somebody interrupts


@dataclass(frozen=True, slots=True)
class Removed:
    threads: int = 0
    items: int = 0
    feedback: int = 0
    attachments: int = 0

    def __add__(self, more: "Removed") -> "Removed":
        return Removed(*map(sum, zip(astuple(self), astuple(more), strict=True)))

    def __str__(self) -> str:
        return (
            f"conversations {self.threads}, items {self.items}, feedback {self.feedback}, "
            f"attachments {self.attachments}"
        )


def remove(threads: ThreadQuerySet) -> Iterator[Removed]:
    """Remove them with all that belongs to them. Each batch is gone for good when it is reported."""
    keys = list(threads.order_by("id").values_list("id", flat=True))
    for start in range(0, len(keys), BATCH):
        yield _remove_batch(threads, keys[start : start + BATCH])


def erase(user_id: str) -> Iterator[Removed]:
    """Remove whatever is one person's: their conversations, and what they have uploaded and never sent."""
    yield from remove(Thread.objects.owned_by(user_id))
    yield Removed(attachments=Attachment.objects.owned_by(user_id).delete_with_files())


@transaction.atomic
def _remove_batch(threads: ThreadQuerySet, keys: list[int]) -> Removed:
    # Locked, and then asked for once more: whoever is saying something there this moment was either
    # before us, and it is a conversation to keep, or waits, and finds none.
    list(Thread.objects.filter(id__in=keys).order_by("id").select_for_update().values_list("id"))
    condemned = list(threads.filter(id__in=keys).values_list("id", flat=True))
    attachments = Attachment.objects.delete_with_threads(condemned)
    feedback, _ = Feedback.objects.filter(item__thread__in=condemned).delete()
    items, _ = Item.objects.filter(thread__in=condemned).delete()
    rows, _ = Thread.objects.filter(id__in=condemned).delete()
    return Removed(rows, items, feedback, attachments)


def has_anything(user_id: str) -> bool:
    return Thread.objects.owned_by(user_id).exists() or Attachment.objects.owned_by(user_id).exists()


def export(user_id: str) -> Generator[str, None, None]:
    """One JSON document in pieces: ``{"user_id": …, "threads": [{…, "items": [{…, "feedback": …}]}],
    "attachments": [{…, "size": …, "content": …}]}``.

    Threads, items and attachments are as ChatKit's SDK wrote them, hidden items included; ``feedback``
    is there for items that were rated; ``size`` is in bytes, ``content`` the file in base64, both null
    where there is none. In order, and never more of them in memory than a few.
    """
    with transaction.atomic():  # for the cursors
        yield f'{{"user_id": {json.dumps(user_id)}, "threads": ['
        threads = Thread.objects.owned_by(user_id).order_by(PLACE).iterator(chunk_size=100)
        for number, thread in enumerate(threads):
            yield ",\n" if number else "\n"
            yield json.dumps(thread.data)[:-1] + ', "items": ['
            items = thread.items.select_related("feedback").order_by(PLACE).iterator(chunk_size=100)
            for position, item in enumerate(items):
                rated = {"feedback": item.feedback.kind} if hasattr(item, "feedback") else {}
                yield (",\n  " if position else "\n  ") + json.dumps(item.data | rated)
            yield "]}"
        yield '], "attachments": ['
        attachments = Attachment.objects.owned_by(user_id).order_by("id").iterator(chunk_size=100)
        for number, attachment in enumerate(attachments):
            yield ",\n" if number else "\n"
            yield json.dumps(attachment.data | {"size": attachment.size, "content": _content(attachment)})
        yield "]}\n"


def _content(attachment: Attachment) -> str | None:
    try:
        with stored_files.open_file(attachment.file) as file:
            return base64.b64encode(file.read()).decode()
    except FileNotFoundError:
        return None
