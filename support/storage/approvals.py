"""Stores the approvals of tool calls. Each approval is decided once."""

from collections.abc import Collection

from chatkit.store import NotFoundError
from chatkit.types import WidgetItem
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from runtime.database_calls import on_database
from support.context import Owner
from support.models import Approval, ApprovalStatus, Item
from support.storage import items


@on_database
def add(owner: Owner, thread_id: str, widget: WidgetItem, approval: Approval) -> None:
    """Store the widget together with its approval. Raises ``NotFoundError`` if there is no such thread."""
    with transaction.atomic():
        items.insert(owner, thread_id, widget, "NOTHING")
        item = Item.objects.of_thread(owner, thread_id).filter(item_id=widget.id).first()
        if item is None:
            raise NotFoundError(thread_id)
        approval.item = item
        approval.save(force_insert=True)


@on_database
def find(owner: Owner, thread_id: str, item_id: str) -> Approval:
    """Return the approval of this widget. Raises ``NotFoundError``. Closes it first if it has expired."""
    own = _of_widgets(owner, thread_id, [item_id])
    close_expired(own)
    approval = own.first()
    if approval is None:
        raise NotFoundError(item_id)
    return approval


@on_database
def decide(approval: Approval, status: ApprovalStatus) -> bool:
    """Close the approval. Returns whether this call did it, and no earlier or concurrent one.

    Only a caller that gets True may run the tools.
    """
    current = Approval.objects.filter(pk=approval.pk, expires_at__gt=timezone.now())
    return bool(_close(current, status))


@on_database
def withdraw(owner: Owner, thread_id: str, item_ids: Collection[str]) -> dict[str, tuple[Approval, bool]]:
    """Close the approvals of these widgets, because the user has written a new message.

    Returns the approvals as they are now, and whether this call closed them. The keys are ChatKit's ids of
    the widgets.
    """
    result = {}
    for approval in _of_widgets(owner, thread_id, item_ids).select_related("item").defer("state"):
        is_closed_here = bool(_close(Approval.objects.filter(pk=approval.pk), ApprovalStatus.WITHDRAWN))
        approval.refresh_from_db(fields=["status"])
        result[approval.item.item_id] = approval, is_closed_here
    return result


def expired() -> "QuerySet[Approval]":
    """Return the approvals that nobody has decided in time."""
    return Approval.objects.filter(status=ApprovalStatus.OPEN, expires_at__lte=timezone.now())


def close_expired(approvals: "QuerySet[Approval] | None" = None) -> int:
    """Close the expired ones among these approvals, or all. Returns their number."""
    found = expired() if approvals is None else approvals.filter(expires_at__lte=timezone.now())
    return _close(found, ApprovalStatus.EXPIRED)


def _close(approvals: "QuerySet[Approval]", status: ApprovalStatus) -> int:
    """Set the status of the open ones, and delete their states. Returns their number.

    It is one statement. If two calls close the same approval at the same time, the second one finds it
    closed.
    """
    return approvals.filter(status=ApprovalStatus.OPEN).update(status=status, state="")


def _of_widgets(owner: Owner, thread_id: str, item_ids: Collection[str]) -> "QuerySet[Approval]":
    widgets = Item.objects.of_thread(owner, thread_id).filter(item_id__in=item_ids)
    return Approval.objects.filter(item__in=widgets)
