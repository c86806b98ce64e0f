"""What Better Auth's models and fields are called in this team's database.

Better Auth's own names (``session``, ``expiresAt``) are what the settings and this project speak of,
whatever an adapter or a team made of them.
"""

import re

from authn.conf import conf

MODELS = ("user", "session", "jwks")
fields: set[str] = set()  # "session.expiresAt", …: what BETTER_AUTH_COLUMNS may name
OPTIONAL_FIELDS = {"jwks.expiresAt", "jwks.alg"}  # since Better Auth 1.4.0 and 1.7.0


def table(model: str) -> str:
    """A ``db_table``; in another schema quoted as a whole, which Django then leaves as it is."""
    schema, _, name = conf.BETTER_AUTH_TABLES.get(model, model).rpartition(".")
    return f'"{schema}"."{name}"' if schema else name


def exists(model: str, field: str) -> bool:
    """Whether an older version's table has the column: an empty name says that it has not."""
    return column(model, field) != ""


def column(model: str, field: str) -> str:
    fields.add(f"{model}.{field}")
    return conf.BETTER_AUTH_COLUMNS.get(f"{model}.{field}", convert(field, conf.BETTER_AUTH_NAMING))


def convert(field: str, naming: str) -> str:
    is_snake = naming == "snake"
    return re.sub(r"[A-Z]", lambda capital: f"_{capital[0].lower()}", field) if is_snake else field
