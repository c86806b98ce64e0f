"""The numbers of authn on the admin's start page: active sessions and refused attempts.

Each number is cheap, also with millions of rows. If an exact number would be expensive, an estimate is shown,
and its note says so.
"""

import json
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from authn.admin import large_tables, refused_attempts
from authn.admin.display import admin_url
from authn.admin.sessions import may_see_sessions
from authn.models import Session


@dataclass(frozen=True, slots=True)
class Figure:
    """``note``: what the number covers. ``url``: a page with more, or empty."""

    label: str
    number: str
    note: str
    url: str = ""


def figures(request: HttpRequest) -> list[Figure]:
    """Return the figures that this member of staff may see."""
    if not may_see_sessions(request):
        return []
    refused = refused_attempts.in_last_hour()
    return [_active_sessions(), *([] if refused is None else [_refused_attempts(refused)])]


def _active_sessions() -> Figure:
    active = Session.objects.filter(expires_at__gt=timezone.now())
    url = admin_url(Session, "changelist", state="active")
    if large_tables.is_large(active):
        number = f"about {rounded(_estimated_rows(active)):,}"
        return Figure("Active sessions", number, "PostgreSQL's estimate", url)
    return Figure("Active sessions", f"{active.count():,}", "not expired", url)


def _estimated_rows(queryset: QuerySet[Any]) -> int:
    """Return the number of rows that PostgreSQL's planner expects. It reads statistics and no rows."""
    [plan] = json.loads(queryset.explain(format="json"))
    return int(plan["Plan"]["Plan Rows"])


def rounded(number: int) -> int:
    """Return the number with two digits, because the rest of an estimate means nothing."""
    unit = 10 ** max(len(str(number)) - 2, 0)
    return int(round(number / unit) * unit)


def _refused_attempts(number: int) -> Figure:
    where = (
        "all servers with this cache" if refused_attempts.counts_all_servers() else "only this server process"
    )
    return Figure("Refused attempts", f"{number:,}", f"last 60 minutes, {where}")
