"""The names of Better Auth's tables and columns in this database.

They may differ from Better Auth's own names (``session``, ``expiresAt``), because of an adapter or because a
team has renamed them. Our settings and our code use Better Auth's own names.
"""

import re

from authn.conf import conf

MODELS = ("user", "session", "jwks", "member", "oauthAccessToken", "oauthClient", "oauthConsent")
# All fields of our models, such as "session.expiresAt". These are the possible keys of BETTER_AUTH_COLUMNS.
fields: set[str] = set()
OPTIONAL_FIELDS = {"jwks.expiresAt", "jwks.alg"}  # since Better Auth 1.4.0 and 1.7.0


def table(model: str) -> str:
    """Returns the ``db_table`` of a model.

    If the setting names a schema too, the returned name is already quoted. Django leaves such a name
    unchanged.
    """
    schema, name = schema_and_table(model)
    return f'"{schema}"."{name}"' if schema else name


def schema_and_table(model: str) -> tuple[str, str]:
    """Returns the schema ("" for the search path) and the name of a model's table in this database.

    Drizzle's tables are named like its columns: ``oauth_access_token``.
    """
    default = convert(model, conf.BETTER_AUTH_NAMING)
    schema, _, name = conf.BETTER_AUTH_TABLES.get(model, default).rpartition(".")
    return schema, name


def exists(model: str, field: str) -> bool:
    """Whether the table has the column. An empty name in BETTER_AUTH_COLUMNS means that it does not."""
    return column(model, field) != ""


def is_declared(model: str) -> bool:
    """Whether we read this table. Most are read only if BETTER_AUTH_PLUGINS lists their plugin."""
    return any(field.startswith(f"{model}.") for field in fields)


def column(model: str, field: str) -> str:
    """Returns the ``db_column`` of a field, and adds the field to ``fields``."""
    fields.add(f"{model}.{field}")
    return conf.BETTER_AUTH_COLUMNS.get(f"{model}.{field}", convert(field, conf.BETTER_AUTH_NAMING))


def convert(field: str, naming: str) -> str:
    """Returns ``expiresAt`` as ``expiresAt`` if ``naming`` is camel, and as ``expires_at`` if it is snake."""
    is_snake = naming == "snake"
    return re.sub(r"[A-Z]", lambda capital: f"_{capital[0].lower()}", field) if is_snake else field
