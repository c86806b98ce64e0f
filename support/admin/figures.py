"""The numbers of the chat on the admin's start page: people, conversations and negative feedback.

Each number is cheap, also with millions of rows: we count at most ``MAX_ROWS`` rows. A "+" says that there
are more.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connections
from django.http import HttpRequest
from django.utils import timezone

from authn.admin.display import admin_url, permission
from authn.admin.figures import Figure
from authn.admin.large_tables import AtLeast
from support.models import Feedback, Item, Thread

MAX_ROWS = 10_000

# Items have no index on their time. But primary keys are in the order of insertion, so today's items have the
# highest keys. The owners come from a subquery for each conversation: with a join, PostgreSQL may read
# all conversations.
TODAY = """
WITH newest AS MATERIALIZED (SELECT "thread_id", "created_at" FROM {item} ORDER BY "id" DESC LIMIT %s),
     today AS MATERIALIZED (SELECT DISTINCT "thread_id" FROM newest WHERE "created_at" >= %s)
SELECT count(DISTINCT (SELECT "user_id" FROM {thread} WHERE "id" = today."thread_id")), count(*),
       (SELECT count(*) = %s AND min("created_at") >= %s FROM newest)
FROM today
"""


@dataclass(frozen=True, slots=True)
class Today:
    people: int
    conversations: int


def figures(request: HttpRequest) -> list[Figure]:
    """Return the figures that this member of staff may see."""
    if not request.user.has_perm(permission(Thread, "view")):
        return []
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    today, since = _today(midnight), f"since 0:00 {midnight:%Z}"
    threads, negative = admin_url(Thread, "changelist"), _negative(midnight - timedelta(days=6))
    return [
        Figure("People today", _shown(today.people), f"who chatted {since}", threads),
        Figure("Conversations today", _shown(today.conversations), f"continued {since}", threads),
        Figure("Thumbs down", _shown(negative), "in the last 7 days"),
    ]


def _today(midnight: datetime) -> Today:
    connection = connections[Thread.objects.db]
    quote = connection.ops.quote_name
    statement = TODAY.format(item=quote(Item._meta.db_table), thread=quote(Thread._meta.db_table))
    with connection.cursor() as cursor:
        cursor.execute(statement, [MAX_ROWS, midnight, MAX_ROWS, midnight])
        people, conversations, has_more = cursor.fetchone()
    return Today(AtLeast(people), AtLeast(conversations)) if has_more else Today(people, conversations)


def _negative(since: datetime) -> int:
    negative = Feedback.objects.filter(kind="negative", updated_at__gte=since)
    # With this order, PostgreSQL uses the index of negative feedback, and reads no other row.
    number = negative.order_by("-updated_at")[: MAX_ROWS + 1].count()
    return AtLeast(MAX_ROWS) if number > MAX_ROWS else number


def _shown(number: int) -> str:
    return f"{int(number):,}{'+' if isinstance(number, AtLeast) else ''}"
