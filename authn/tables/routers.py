"""Better Auth's tables are read where they are, and neither written nor migrated anywhere.

A session that staff revokes is deleted past this router: ``authn.admin.revoking`` names the database itself.
"""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import Model

from authn.conf import conf


class BetterAuthRouter:
    """Reads go to the one database that Better Auth itself writes: a replica's lag could show a session
    that has just begun as missing, and one that has ended as alive."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        return conf.BETTER_AUTH_DATABASE if _is_ours(model._meta.app_label) else None

    def db_for_write(self, model: type[Model], **hints: Any) -> str | None:
        if _is_ours(model._meta.app_label):
            raise PermissionDenied("The tables of Better Auth are for Better Auth to write.")
        return None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        is_better_auths_alone = db == conf.BETTER_AUTH_DATABASE != "default"
        return False if _is_ours(app_label) or is_better_auths_alone else None


def _is_ours(app_label: str) -> bool:
    return app_label == "authn"
