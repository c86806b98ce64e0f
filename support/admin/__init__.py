"""The admin of conversations. Django imports this package, which registers them."""

from support.admin import threads  # noqa: F401
