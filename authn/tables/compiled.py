"""Querysets that are compiled once, for the statements that every request makes.

To make SQL of a queryset takes Django several times as long as it takes PostgreSQL to answer; and what
is the same text each time, the server can keep prepared.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple, cast

from django.db import connections, router
from django.db.models import DateTimeField, Field, IntegerField, Model, QuerySet

A_MOMENT = datetime(1000, 1, 1, tzinfo=UTC)
A_NUMBER = 1 << 30  # fits each integer column: else Django would drop the condition


class Slot(NamedTuple):
    """Where a value goes among a statement's parameters."""

    name: str


class Statement(NamedTuple):
    sql: str
    params: list[Any]
    converters: dict[int, Any]


class CompiledQuery:
    """``make(*shape, **values)`` gives a queryset of ``values_list``; calls with the same, its rows.

    ``shape``: what decides about the text, such as an order or a limit: compiled once for each.
    ``fields``: for each value the field that it is compared to.
    """

    def __init__(
        self, model: type[Model], make: Callable[..., "QuerySet[Any, Any]"], **fields: "Field[Any, Any]"
    ) -> None:
        self._model, self._make, self._fields = model, make, fields
        self._statement = cache(self._compile)

    def __call__(self, *shape: Any, **values: Any) -> list[list[Any]]:
        alias = router.db_for_read(self._model)
        sql, params, converters = self._statement(alias, *shape)
        connection = connections[alias]
        given = [
            self._fields[each.name].get_db_prep_value(values[each.name], connection)
            if isinstance(each, Slot)
            else each
            for each in params
        ]
        rows = [[*row] for row in _rows(connection, sql, given)]
        for index, (functions, expression) in converters.items():
            for row in rows:
                for convert in functions:
                    row[index] = convert(row[index], expression, connection)
        return rows

    def _compile(self, alias: str, *shape: Any) -> Statement:
        """With a mark for each value, which is then looked for among the parameters."""
        connection = connections[alias]
        marks = {name: _mark(number, field) for number, (name, field) in enumerate(self._fields.items())}
        compiler = self._make(*shape, **marks).query.get_compiler(alias)
        sql, params = compiler.as_sql()
        slots = {
            self._fields[name].get_db_prep_value(mark, connection): Slot(name) for name, mark in marks.items()
        }
        converters = compiler.get_converters(expression for expression, *_ in compiler.select)
        return Statement(sql, [slots.get(each, each) for each in params], converters)


def _rows(connection: Any, sql: str, params: list[Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cast(list[Any], cursor.fetchall())


def _mark(number: int, field: "Field[Any, Any]") -> Any:
    if isinstance(field, DateTimeField):
        return A_MOMENT + timedelta(days=number)
    if isinstance(field, IntegerField):
        return A_NUMBER + number
    return f"<value {number}>"
