"""``manage.py migrate``. It refuses to migrate Better Auth's own database.

The database router keeps our tables out of that database. But Django would still create its table
``django_migrations`` there.
"""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.core.management.commands.migrate import Command as DjangoMigrate

from authn.management.terminal import CommandWithExample


class Command(CommandWithExample, DjangoMigrate):
    help = "Creates and updates our tables. Better Auth's own migrations create its tables, and come first."
    example = "migrate --plan"

    def handle(self, *args: Any, **options: Any) -> Any:
        if options["database"] == settings.BETTER_AUTH_DATABASE != "default":
            raise CommandError("Better Auth migrates its own database. Leave out --database to migrate ours.")
        return super().handle(*args, **options)
