"""Stores the feedback of users on answers. A team's own ``add_feedback`` can call ``save_feedback``, too."""

from chatkit.store import NotFoundError
from chatkit.types import FeedbackKind
from django.db import IntegrityError

from runtime.database_calls import on_database
from support.context import Owner
from support.models import Feedback, Item

MAX_ITEMS = 100  # in one call; an answer has a few items, but ChatKit's protocol has no limit

# Users rate only items of the assistant that they can see.
UNRATABLE_TYPES = ("user_message", "hidden_context_item", "sdk_hidden_context")


class FeedbackRefused(ValueError):
    """The call rates more than MAX_ITEMS items. The exception's message is for the caller."""

    def __str__(self) -> str:
        return f"Feedback is for up to {MAX_ITEMS} items at once"


@on_database
def save_feedback(owner: Owner | str, thread_id: str, item_ids: list[str], kind: FeedbackKind) -> None:
    """Store the feedback on these items, in place of earlier feedback. ``item_ids``: ChatKit's ids.

    ``owner``: ``Owner.of(context)``. A user id is an owner, too: of the user's threads in all organizations.

    Raises ``NotFoundError`` and stores nothing if one of the items is not in this thread of this user, or
    cannot be rated. Raises ``FeedbackRefused`` for more than ``MAX_ITEMS`` items.
    """
    wanted = set(item_ids)
    if len(wanted) > MAX_ITEMS:
        raise FeedbackRefused
    if not wanted:
        return
    items = Item.objects.of_thread(Owner(owner) if isinstance(owner, str) else owner, thread_id).filter(
        item_id__in=wanted
    )
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
