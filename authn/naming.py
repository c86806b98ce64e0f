"""What Better Auth's models and fields are called in this team's database.

Better Auth's own names (``session``, ``expiresAt``) are what the settings and this project speak of,
whatever an adapter or a team made of them.
"""

import re

from authn.conf import conf

MODELS = ("user", "session", "jwks")
fields: set[str] = set()  # "session.expiresAt", …: what BETTER_AUTH_COLUMNS may name


def table(model: str) -> str:
    """A ``db_table``; in another schema quoted as a whole, which Django then leaves as it is."""
    schema, _, name = conf.BETTER_AUTH_TABLES.get(model, model).rpartition(".")
    return f'"{schema}"."{name}"' if schema else name


def column(model: str, field: str) -> str:
    fields.add(f"{model}.{field}")
    is_snake = conf.BETTER_AUTH_NAMING == "snake"
    name = re.sub(r"[A-Z]", lambda capital: f"_{capital[0].lower()}", field) if is_snake else field
    return conf.BETTER_AUTH_COLUMNS.get(f"{model}.{field}", name)
