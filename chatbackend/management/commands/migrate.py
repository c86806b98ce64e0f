"""``manage.py migrate``, which leaves Better Auth's own database alone.

The router sees to it that no table of ours is made there; Django would still make its list of migrations.
"""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.core.management.commands.migrate import Command as DjangoMigrate


class Command(DjangoMigrate):
    def handle(self, *args: Any, **options: Any) -> Any:
        if options["database"] == settings.BETTER_AUTH_DATABASE != "default":
            raise CommandError(
                "Better Auth migrates its database itself; ours is migrated without --database."
            )
        return super().handle(*args, **options)
