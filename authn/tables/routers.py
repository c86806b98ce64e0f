"""Django reads Better Auth's tables in their database, and neither writes nor migrates them.

``authn.admin.revoking`` bypasses this router to delete the sessions that staff revoke.
"""

from functools import cache
from typing import Any

from django.apps import apps
from django.core.exceptions import PermissionDenied
from django.db.models import Model

from authn.conf import conf


class BetterAuthRouter:
    """Sends reads to the database that Better Auth writes to, and refuses writes.

    Do not read from a replica. It lags behind: a new session may be missing, and an ended session may still
    be active in it.
    """

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        return conf.BETTER_AUTH_DATABASE if _is_better_auths(model._meta.app_label) else None

    def db_for_write(self, model: type[Model], **hints: Any) -> str | None:
        if _is_better_auths(model._meta.app_label):
            raise PermissionDenied("Only Better Auth writes to its tables.")
        return None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        is_only_better_auths = db == conf.BETTER_AUTH_DATABASE != "default"
        return False if _is_better_auths(app_label) or is_only_better_auths else None


def _is_better_auths(app_label: str) -> bool:
    return app_label == _our_label()


@cache
def _our_label() -> str:
    """The label of this app. A project may give it another one than ``authn``."""
    config = apps.get_containing_app_config(__name__)
    return config.label if config else ""
