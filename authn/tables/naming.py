"""The names of Better Auth's tables and columns in this database.

Adapters and teams rename them. The settings and this project use Better Auth's own names (``session``,
``expiresAt``).
"""

import re

from authn.conf import conf

MODELS = ("user", "session", "jwks")
fields: set[str] = set()  # "session.expiresAt", …; BETTER_AUTH_COLUMNS may have these
OPTIONAL_FIELDS = {"jwks.expiresAt", "jwks.alg"}  # since Better Auth 1.4.0 and 1.7.0


def table(model: str) -> str:
    """A ``db_table``. With a schema, it is quoted here, and Django leaves it unchanged."""
    schema, _, name = conf.BETTER_AUTH_TABLES.get(model, model).rpartition(".")
    return f'"{schema}"."{name}"' if schema else name


def exists(model: str, field: str) -> bool:
    """Whether the table has the column. In BETTER_AUTH_COLUMNS, an empty name means that it has not."""
    return column(model, field) != ""


def column(model: str, field: str) -> str:
    fields.add(f"{model}.{field}")
    return conf.BETTER_AUTH_COLUMNS.get(f"{model}.{field}", convert(field, conf.BETTER_AUTH_NAMING))


def convert(field: str, naming: str) -> str:
    """``expiresAt`` in this naming: ``expiresAt`` (camel) or ``expires_at`` (snake)."""
    is_snake = naming == "snake"
    return re.sub(r"[A-Z]", lambda capital: f"_{capital[0].lower()}", field) if is_snake else field
