"""The admin of conversations. Django imports this package, and the import registers the admin."""

from support.admin import threads  # noqa: F401
