"""Feedback of users on answers. A team's own ``add_feedback`` calls ``save_feedback`` too."""

from chatkit.store import NotFoundError
from chatkit.types import FeedbackKind
from django.db import IntegrityError

from runtime.database_calls import on_database
from support.models import Feedback, Item

MAX_ITEMS = 100  # in one call. An answer has a few items, and the protocol sets no limit.

# Users rate what the assistant wrote. They never see hidden items.
UNRATABLE_TYPES = ("user_message", "hidden_context_item", "sdk_hidden_context")


class FeedbackRefused(ValueError):
    """Its message tells the caller how many items one call may rate."""

    def __str__(self) -> str:
        return f"Feedback is for up to {MAX_ITEMS} items at once"


@on_database
def save_feedback(user_id: str, thread_id: str, item_ids: list[str], kind: FeedbackKind) -> None:
    """Store the feedback on these items. It replaces earlier feedback on them.

    Raises ``NotFoundError`` if one of the items is not in this thread of this user, or cannot be rated. In
    that case it stores nothing. Raises ``FeedbackRefused`` for more than ``MAX_ITEMS`` items.
    """
    wanted = set(item_ids)
    if len(wanted) > MAX_ITEMS:
        raise FeedbackRefused
    if not wanted:
        return
    items = Item.objects.of_thread(user_id, thread_id).filter(item_id__in=wanted)
    ratable = items.exclude(type__in=UNRATABLE_TYPES)
    keys = sorted(ratable.values_list("id", flat=True))  # sorted, so that concurrent calls cannot deadlock
    if len(keys) < len(wanted):
        raise NotFoundError
    try:
        Feedback.objects.bulk_create(
            [Feedback(item_id=key, kind=kind) for key in keys],
            update_conflicts=True,
            unique_fields=["item"],
            update_fields=["kind", "updated_at"],
        )
    except IntegrityError as exc:  # an item was deleted meanwhile
        raise NotFoundError from exc
