"""Writes all data of one user as one JSON document."""

import base64
import json
from collections.abc import Generator
from dataclasses import dataclass

from django.db import transaction

from support.files import stored_files
from support.models import INSERTION_ORDER, Attachment, Thread


@dataclass(slots=True)
class Exported:
    """The numbers of rows in a document."""

    threads: int = 0
    items: int = 0
    attachments: int = 0

    def __str__(self) -> str:
        return f"conversations {self.threads}, items {self.items}, attachments {self.attachments}"


def has_data(user_id: str) -> bool:
    return Thread.objects.owned_by(user_id).exists() or Attachment.objects.owned_by(user_id).exists()


def export(user_id: str) -> Generator[str, None, Exported]:
    """Yield the document in pieces: ``{"user_id": …, "threads": [{…, "items": [{…, "feedback": …}]}],
    "attachments": [{…, "size": …, "content": …}]}``.

    Threads, items and attachments are as the ChatKit SDK wrote them. Hidden items are included. Only rated
    items have ``feedback``. Only threads and attachments of an organization have ``organization_id``.
    ``size`` is in bytes, and ``content`` is the file in base64. Both are null if there is no file. All lists
    are in the order of insertion. At most a few hundred rows are in memory at the same time. The generator
    returns the numbers of rows.
    """
    exported = Exported()
    with transaction.atomic():  # server-side cursors need a transaction
        yield f'{{"user_id": {json.dumps(user_id)}, "threads": ['
        threads = Thread.objects.owned_by(user_id).order_by(INSERTION_ORDER).iterator(chunk_size=100)
        for exported.threads, thread in enumerate(threads, 1):
            yield ",\n" if exported.threads > 1 else "\n"
            yield json.dumps(thread.data | _organization(thread))[:-1] + ', "items": ['
            items = thread.items.select_related("feedback").order_by(INSERTION_ORDER).iterator(chunk_size=100)
            for position, item in enumerate(items):
                feedback = {"feedback": item.feedback.kind} if hasattr(item, "feedback") else {}
                yield (",\n  " if position else "\n  ") + json.dumps(item.data | feedback)
                exported.items += 1
            yield "]}"
        yield '], "attachments": ['
        attachments = Attachment.objects.owned_by(user_id).order_by("id").iterator(chunk_size=100)
        for exported.attachments, attachment in enumerate(attachments, 1):
            yield ",\n" if exported.attachments > 1 else "\n"
            of_file = {"size": attachment.size, "content": _content(attachment)}
            yield json.dumps(attachment.data | _organization(attachment) | of_file)
        yield "]}\n"
    return exported


def _organization(row: Thread | Attachment) -> dict[str, str]:
    return {"organization_id": row.organization_id} if row.organization_id else {}


def _content(attachment: Attachment) -> str | None:
    """Return the file in base64, or ``None`` if there is no file."""
    try:
        with stored_files.open_file(attachment.file) as file:
            return base64.b64encode(file.read()).decode()
    except FileNotFoundError:
        return None
