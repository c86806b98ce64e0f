"""The tables and columns of the database, and what our role may do with them.

It also finds Better Auth's tables if they have other names.
"""

from dataclasses import dataclass, field
from typing import Any, Self

from authn.tables.naming import schema_and_table

# A table with these columns is Better Auth's, whatever its name is. Case and underscores are ignored.
TYPICAL_COLUMNS = {
    "user": {"email", "emailverified"},
    "session": {"token", "userid", "expiresat", "useragent"},
    "jwks": {"publickey", "privatekey"},
    "member": {"organizationid", "userid", "role"},
    "oauthAccessToken": {"token", "clientid", "refreshid", "scopes"},
    "oauthClient": {"clientid", "redirecturis", "skipconsent"},
    "oauthConsent": {"clientid", "userid", "requesteduserinfoclaims", "updatedat"},
    "account": {"accountid", "providerid", "userid"},
    "verification": {"identifier", "value", "expiresat"},
}
PLURALS = {"jwks": "jwkss"}

# Reads pg_catalog, because information_schema hides tables that our role may not read.
POSTGRESQL = """
SELECT n.nspname, c.relname, c.oid, array_position(current_schemas(true), n.nspname),
       has_schema_privilege(n.oid, 'USAGE'), pg_has_role(c.relowner, 'USAGE'),
       array_remove(ARRAY[
           CASE WHEN has_any_column_privilege(c.oid, 'INSERT') THEN 'INSERT' END,
           CASE WHEN has_any_column_privilege(c.oid, 'UPDATE') THEN 'UPDATE' END,
           CASE WHEN has_table_privilege(c.oid, 'DELETE') THEN 'DELETE' END,
           CASE WHEN has_table_privilege(c.oid, 'TRUNCATE') THEN 'TRUNCATE' END], NULL),
       a.attname, format_type(a.atttypid, NULL), has_column_privilege(c.oid, a.attnum, 'SELECT')
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^(pg_|information_schema$)'
  AND (c.relname = ANY (%s) OR EXISTS (
      SELECT FROM pg_attribute m WHERE m.attrelid = c.oid
      AND lower(replace(m.attname, '_', '')) IN
          ('emailverified', 'useragent', 'publickey', 'providerid', 'identifier', 'organizationid',
           'refreshid', 'redirecturis', 'requesteduserinfoclaims')))
ORDER BY n.nspname, c.relname, a.attnum LIMIT 20000
"""
SQLITE = """
SELECT '', t.name, 0, 1, 1, 1, NULL, c.name, c.type, 1
FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.type IN ('table', 'view') ORDER BY t.name, c.cid
"""


@dataclass(slots=True)
class Table:
    """A table of the database.

    ``in_path``: the position of its schema in the search path, or ``None``. ``is_ours``: our role owns the
    table, or is a member of the role that owns it. ``writable``: SQL verbs that our role may use, such as
    INSERT. ``types``: the type of each column. ``readable``: the columns that our role may read.
    """

    schema: str
    name: str
    oid: int
    in_path: int | None
    may_enter_schema: bool
    is_ours: bool
    writable: list[str]
    types: dict[str, str] = field(default_factory=dict)
    readable: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name

    @property
    def sql(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}" if self.schema else quoted(self.name)

    @property
    def setting(self) -> str:
        """The table's name for BETTER_AUTH_TABLES."""
        return self.name if self.in_path else str(self)

    def column_like(self, name: str) -> str | None:
        """Returns the column that differs from ``name`` only in case and underscores, or ``None``."""
        return next((column for column in self.types if plain(column) == plain(name)), None)


@dataclass(frozen=True, slots=True)
class Catalogue:
    tables: list[Table]

    @classmethod
    def read(cls, cursor: Any, vendor: str) -> Self:
        tables: dict[tuple[str, str], Table] = {}
        if vendor == "postgresql":
            names = [table for model in TYPICAL_COLUMNS for _, table in (schema_and_table(model),)]
            cursor.execute(POSTGRESQL, [names])
        else:
            cursor.execute(SQLITE)
        for schema, name, oid, position, may_enter, is_ours, writable, column, kind, readable in cursor:
            head = (schema, name, oid, position, bool(may_enter), bool(is_ours), writable or [])
            table = tables.setdefault((schema, name), Table(*head))
            table.types[column] = kind
            if readable:
                table.readable.add(column)
        return cls(list(tables.values()))

    def configured(self, model: str) -> Table | None:
        """Returns the table with the name in the settings, or ``None``."""
        schema, name = schema_and_table(model)
        if schema:
            return next(
                (table for table in self.tables if (table.schema, table.name) == (schema, name)), None
            )
        in_path = [table for table in self.tables if table.name == name and table.in_path]
        return min(in_path, key=lambda table: table.in_path or 0, default=None)

    def likely(self, model: str) -> Table | None:
        """Returns the table that is most likely Better Auth's, or ``None``.

        Compares the columns first, and the names only if no table has the columns.
        """
        names = {plain(model), PLURALS.get(model, f"{plain(model)}s")}
        alike = [table for table in self.tables if TYPICAL_COLUMNS[model] <= set(map(plain, table.types))]
        alike = alike or [
            table for table in self.tables if plain(table.name) in names and "id" in table.types
        ]
        return min(
            alike,
            key=lambda table: (plain(table.name) not in names, not table.in_path, str(table)),
            default=None,
        )

    def found(self, model: str) -> Table | None:
        return self.configured(model) or self.likely(model)


def plain(name: str) -> str:
    return name.replace("_", "").lower()


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
