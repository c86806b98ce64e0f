"""What the backend makes of Better Auth's rows, told in its log."""

import logging
from io import StringIO
from typing import Any

from django.core.management import call_command

from authn.sessions import Identity


def tell(identity: Identity) -> None:
    user, session, migrations = identity.user, identity.session, StringIO()
    call_command("makemigrations", dry_run=True, stdout=migrations)
    told: dict[str, Any] = {
        "session_id": session.id,
        "types": [type(each).__name__ for each in (user.id, session.id, session.user_id)],
        "user": [user.name, user.email, user.email_verified],
        "times": [moment.isoformat() for moment in (session.created_at, session.expires_at, user.created_at)],
        "migrations_to_make": migrations.getvalue().strip(),
    }
    logging.getLogger(__name__).info("told", extra={"told": told})
