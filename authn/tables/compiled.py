"""Querysets that Django compiles to SQL only once, for the statements that every request needs.

Django takes several times as long to compile a queryset as PostgreSQL takes to answer it. PostgreSQL can also
keep a prepared statement if its text is the same every time.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple, cast

from django.db import connections, router
from django.db.models import DateTimeField, Field, IntegerField, Model, QuerySet

PLACEHOLDER_DATETIME = datetime(1000, 1, 1, tzinfo=UTC)
PLACEHOLDER_INTEGER = 1 << 30  # fits every integer column; Django drops a condition whose value does not fit


class Parameter(NamedTuple):
    """Marks where a call's argument goes in a statement's parameters."""

    name: str


class Statement(NamedTuple):
    sql: str
    params: list[Any]
    converters: dict[int, Any]


class CompiledQuery:
    """``make_queryset(*shape, **arguments)`` returns a ``values_list`` queryset. A call with the same
    arguments returns its rows.

    ``shape``: arguments that change the SQL, such as the order or a limit. Each shape is compiled once.
    ``fields``: for each keyword argument, the model field that it is compared to.
    """

    def __init__(
        self,
        model: type[Model],
        make_queryset: Callable[..., "QuerySet[Any, Any]"],
        **fields: "Field[Any, Any]",
    ) -> None:
        self._model, self._make_queryset, self._fields = model, make_queryset, fields
        self._statement = cache(self._compile)

    def __call__(self, *shape: Any, **arguments: Any) -> list[list[Any]]:
        alias = router.db_for_read(self._model)
        sql, params, converters = self._statement(alias, *shape)
        connection = connections[alias]
        values = [
            self._fields[param.name].get_db_prep_value(arguments[param.name], connection)
            if isinstance(param, Parameter)
            else param
            for param in params
        ]
        rows = [[*row] for row in _fetch_rows(connection, sql, values)]
        for index, (functions, expression) in converters.items():
            for row in rows:
                for convert in functions:
                    row[index] = convert(row[index], expression, connection)
        return rows

    def _compile(self, alias: str, *shape: Any) -> Statement:
        """Compile the queryset with a placeholder value for each argument, and find the placeholders among
        the statement's parameters."""
        connection = connections[alias]
        placeholders = {
            name: _placeholder(number, field) for number, (name, field) in enumerate(self._fields.items())
        }
        compiler = self._make_queryset(*shape, **placeholders).query.get_compiler(alias)
        sql, params = compiler.as_sql()
        parameters = {
            self._fields[name].get_db_prep_value(value, connection): Parameter(name)
            for name, value in placeholders.items()
        }
        converters = compiler.get_converters(expression for expression, *_ in compiler.select)
        return Statement(sql, [parameters.get(each, each) for each in params], converters)


def _fetch_rows(connection: Any, sql: str, params: list[Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cast(list[Any], cursor.fetchall())


def _placeholder(number: int, field: "Field[Any, Any]") -> Any:
    """A value for ``field`` that occurs nowhere else in the statement."""
    if isinstance(field, DateTimeField):
        return PLACEHOLDER_DATETIME + timedelta(days=number)
    if isinstance(field, IntegerField):
        return PLACEHOLDER_INTEGER + number
    return f"<value {number}>"
