"""The messages, the feedback and the last activity of each conversation, for the admin's list.

A conversation may have thousands of items. We count only its newest ``MAX_ITEMS`` items.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef, Subquery, TextField, Value
from django.db.models.functions import Concat

from authn.admin.large_tables import AtLeast
from support.models import INSERTION_ORDER, Item, Thread

MAX_ITEMS = 100
MESSAGES = ("user_message", "assistant_message")


@dataclass(frozen=True, slots=True)
class Activity:
    """``last_at``: when the newest item was stored, or ``None`` if there is no item."""

    messages: int
    positive: int
    negative: int
    last_at: datetime | None


def of_threads(threads: list[Thread]) -> dict[int, Activity]:
    """Return the activity of each thread by its primary key. Needs one query for all of them."""
    newest = Item.objects.filter(thread=OuterRef("pk")).order_by(INSERTION_ORDER.desc())
    # A text for each item, such as "assistant_message/negative".
    rated = newest.annotate(rated=Concat("type", Value("/"), "feedback__kind", output_field=TextField()))
    rows = Thread.objects.filter(pk__in=[thread.pk for thread in threads]).values_list(
        "pk", ArraySubquery(rated.values("rated")[:MAX_ITEMS]), Subquery(newest.values("created_at")[:1])
    )
    return {key: _activity(items, last_at) for key, items, last_at in rows}


def _activity(items: list[str], last_at: datetime | None) -> Activity:
    parts = [item.rpartition("/") for item in items]
    messages = sum(kind in MESSAGES for kind, _, _ in parts)
    feedback = Counter(kind for _, _, kind in parts)
    return Activity(
        messages if len(items) < MAX_ITEMS else AtLeast(messages),
        feedback["positive"],
        feedback["negative"],
        last_at,
    )
