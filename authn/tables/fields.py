"""Fields for the columns of Better Auth, whose types depend on the adapter of Better Auth."""

import json
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import models
from django.db.models import lookups


class IdField(models.TextField):  # type: ignore[type-arg]  # generic only in the stubs
    """A primary key of Better Auth: text, integer or uuid in the database, and always a ``str`` in Python."""

    def from_db_value(self, value: Any, *_: Any) -> str | None:
        return None if value is None else str(value)


class CastToText:
    """Mixin for lookups of an ``IdField``: compares the column as text.

    Without the cast, PostgreSQL raises an error if it compares an integer column to "abc". If the column is
    text, PostgreSQL drops the cast and can use the column's index.
    """

    def process_lhs(self, compiler: Any, connection: Any, lhs: Any = None) -> tuple[str, Any]:
        sql, params = super().process_lhs(compiler, connection, lhs)  # type: ignore[misc]
        is_value: bool = self.rhs_is_direct_value()  # type: ignore[attr-defined]
        return (f"CAST({sql} AS text)" if is_value else sql), params

    def process_rhs(self, compiler: Any, connection: Any) -> Any:
        values = self.rhs if isinstance(self.rhs, list | tuple | set) else [self.rhs]  # type: ignore[attr-defined]
        if any("\0" in str(value) for value in values):
            raise EmptyResultSet  # match no row: PostgreSQL raises an error for a NUL in text
        return super().process_rhs(compiler, connection)  # type: ignore[misc]


class Stored(lookups.In):
    """``id__stored=[…]``: like ``id__in``, but without a cast, so that the column's index can be used.

    Only for values that were read from the database, because they fit the column's type.
    """

    lookup_name = "stored"


for lookup in (lookups.Exact, lookups.In):
    IdField.register_lookup(type(lookup.__name__, (CastToText, lookup), {}))
IdField.register_lookup(Stored)


class UTCDateTimeField(models.DateTimeField):  # type: ignore[type-arg]  # generic only in the stubs
    """An aware UTC ``datetime``, for each type of column that Better Auth's adapters create."""

    def from_db_value(self, value: datetime | None, _expression: Any, connection: Any) -> datetime | None:
        if value is None:
            return None
        # Drizzle, Prisma and older versions of Kysely create columns without a time zone. The TIME_ZONE of
        # the database alias is the time zone of their values.
        return (value if value.tzinfo else value.replace(tzinfo=connection.timezone)).astimezone(UTC)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        if connection.vendor == "sqlite" and isinstance(value, datetime):
            # SQLite compares times as text, so use Better Auth's format. Django's format has a space instead
            # of the T. With that, a session would count as active until the end of the day on which it
            # expired.
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        return super().get_db_prep_value(value, connection, prepared)


class StringListField(models.TextField):  # type: ignore[type-arg]  # generic only in the stubs
    """A ``string[]`` of Better Auth: a JSON column, or an array in the database. A list in Python."""

    def from_db_value(self, value: Any, *_: Any) -> list[str] | None:
        # Not only a list of strings is JSON. Do not read anything else as "no restriction".
        read = json.loads(value) if isinstance(value, str) else value
        if read is not None and not (isinstance(read, list) and all(isinstance(each, str) for each in read)):
            raise ValueError("a column of Better Auth is not a list of strings")
        return read
