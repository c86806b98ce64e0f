"""What users think of answers, one row an item. For ``add_feedback``, a team's own included."""

from chatkit.store import NotFoundError
from chatkit.types import FeedbackKind
from django.db import IntegrityError

from runtime.worker_threads import on_database
from support.models import Feedback, Item

MAX_ITEMS = 100  # an answer is a few items; the protocol sets no bound

# A thumb goes to what the assistant made, and to nothing that the client was never shown.
NOT_TO_RATE = ("user_message", "hidden_context_item", "sdk_hidden_context")


class FeedbackRefused(ValueError):
    """Its message tells the caller how many items may be rated at once."""

    def __str__(self) -> str:
        return f"Feedback is for up to {MAX_ITEMS} items at once"


@on_database
def save_feedback(user_id: str, thread_id: str, item_ids: list[str], kind: FeedbackKind) -> None:
    """Rate these items, or rate them anew.

    Raises ``NotFoundError``, and stores nothing, unless all of them are in that thread of that user;
    ``FeedbackRefused``, a ``ValueError``, when there are more than ``MAX_ITEMS``.
    """
    wanted = set(item_ids)
    if len(wanted) > MAX_ITEMS:
        raise FeedbackRefused
    if not wanted:
        return
    rated = (
        Item.objects.of_thread(user_id, thread_id).filter(item_id__in=wanted).exclude(type__in=NOT_TO_RATE)
    )
    keys = sorted(rated.values_list("id", flat=True))  # in order, so that no two wait for each other
    if len(keys) < len(wanted):
        raise NotFoundError
    try:
        Feedback.objects.bulk_create(
            [Feedback(item_id=key, kind=kind) for key in keys],
            update_conflicts=True,
            unique_fields=["item"],
            update_fields=["kind", "updated_at"],
        )
    except IntegrityError as exc:  # an item was deleted in between
        raise NotFoundError from exc
