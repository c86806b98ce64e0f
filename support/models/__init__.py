"""The tables of conversations.

``user_id`` and ``organization_id`` are Better Auth's ids as text. They are not foreign keys: a constraint on
Better Auth's table would make the deletion of an account in Better Auth fail half-way.

``id`` is the primary key. ``thread_id`` of a thread, ``item_id`` and ``attachment_id`` are ChatKit's ids.
``thread_id`` of an item or an attachment is Django's attribute for the foreign key: a primary key.

``data`` is the object as the ChatKit SDK wrote it, and the SDK reads only ``data``. Most of the other columns
are copies of parts of ``data``, for queries and for the admin. ``user_id``, ``organization_id``, the primary
keys, the foreign keys and the time of an attachment are only in columns. Rows are ordered by insertion
(``INSERTION_ORDER``).

If a row is deleted, the database deletes the rows that refer to it: migrations 0002, 0003 and 0006 make
foreign keys with ON DELETE CASCADE. Django's own CASCADE would load all items first, and would miss an item
that is stored at the same time. Django 5.2 cannot declare a foreign key with ON DELETE CASCADE, so the models
have DO_NOTHING.
"""

from support.models.approvals import Approval, ApprovalStatus
from support.models.attachments import Attachment, AttachmentQuerySet
from support.models.conversations import INSERTION_ORDER, Feedback, Item, Thread, ThreadQuerySet

__all__ = [
    "INSERTION_ORDER",
    "Approval",
    "ApprovalStatus",
    "Attachment",
    "AttachmentQuerySet",
    "Feedback",
    "Item",
    "Thread",
    "ThreadQuerySet",
]
