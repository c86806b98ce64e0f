"""The user's approvals of calls of tools."""

from django.db import models
from django.db.models import Q

from support.models.conversations import Item


class ApprovalStatus(models.TextChoices):
    OPEN = "open"
    APPROVED = "approved"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"  # the user wrote a new message instead
    EXPIRED = "expired"
    OUTDATED = "outdated"  # a tool, the organization or the Agents SDK is no longer the same


class Approval(models.Model):
    """The user's approval of calls of tools. ``item``: the widget that asks for it.

    ``tools``: the names of the called tools. ``digest``: of everything that the user approves.
    ``state``: the interrupted answer as JSON. It repeats a part of the conversation and its files. It is
    empty after the decision. ``version``: of the format of ``state``.
    """

    item = models.OneToOneField(Item, models.DO_NOTHING, primary_key=True, db_constraint=False)
    tools = models.JSONField()
    digest = models.CharField(max_length=64)
    version = models.CharField(max_length=100)
    state = models.TextField()
    status = models.CharField(max_length=10, choices=ApprovalStatus, default=ApprovalStatus.OPEN)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()

    class Meta:
        # For sweep_attachments.
        indexes = [models.Index(fields=["expires_at"], condition=Q(status="open"), name="approvals_open")]

    def __str__(self) -> str:
        return self.status
