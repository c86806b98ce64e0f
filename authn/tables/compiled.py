"""Querysets that Django compiles to SQL only once, for the SQL statements that every request runs.

Django takes several times as long to compile such a queryset as PostgreSQL takes to run the SQL. If the SQL
is the same every time, PostgreSQL can also keep it as a prepared statement.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple, cast

from django.db import connections, router
from django.db.models import CharField, DateTimeField, Field, IntegerField, Model, QuerySet, TextField

# Values that stand for the arguments while a queryset is compiled. No queryset has them as constants.
PLACEHOLDER_DATETIME = datetime(1000, 1, 1, tzinfo=UTC)
# This fits an IntegerField and a BigIntegerField. Django drops a condition whose value the field cannot hold.
PLACEHOLDER_INTEGER = 1 << 30


class Parameter(NamedTuple):
    """Marks the place of an argument in ``Statement.params``. ``name``: the argument's name."""

    name: str


class Statement(NamedTuple):
    """A compiled queryset.

    ``params``: the parameters of the SQL: constants, and a ``Parameter`` for each argument.
    ``converters``: a key is the index of a column. The value is a pair: the functions that convert the
    column's database value to a Python value, and the column's expression. Columns that need no conversion
    are not in this dict.
    """

    sql: str
    params: list[Any]
    converters: dict[int, Any]


class CompiledQuery:
    """Runs a queryset that is compiled only once. A call returns the rows as lists.

    ``make_queryset`` returns a ``values_list`` queryset of ``model``. A call passes its arguments on to
    ``make_queryset``:

    - The positional arguments, such as an order or a limit, are the shape of the queryset: they change the
      SQL. Each shape is compiled once.
    - The keyword arguments are values in the queryset's conditions. They change only the SQL's parameters.

    ``fields``: for each keyword argument, the model field that it is compared to.
    """

    def __init__(
        self,
        model: type[Model],
        make_queryset: Callable[..., "QuerySet[Any, Any]"],
        **fields: "Field[Any, Any]",
    ) -> None:
        self._model, self._make_queryset, self._fields = model, make_queryset, fields
        # Django converts the values of these fields with ``str``, and the arguments are strings or ``None``.
        self._text = {name for name, field in fields.items() if type(field) in (CharField, TextField)}
        self._statement = cache(self._compile)

    def __call__(self, *shape: Any, **arguments: Any) -> list[list[Any]]:
        alias = router.db_for_read(self._model)
        sql, params, converters = self._statement(alias, *shape)
        connection = connections[alias]
        prepared = {
            name: value if name in self._text else self._fields[name].get_db_prep_value(value, connection)
            for name, value in arguments.items()
        }
        values = [prepared[param.name] if type(param) is Parameter else param for param in params]
        rows = [[*row] for row in _fetch_rows(connection, sql, values)]
        for index, (functions, expression) in converters.items():
            for row in rows:
                for convert in functions:
                    row[index] = convert(row[index], expression, connection)
        return rows

    def _compile(self, alias: str, *shape: Any) -> Statement:
        """Compile the queryset of this shape with a placeholder value for each keyword argument.

        Then put a ``Parameter`` in place of each placeholder among the SQL's parameters.
        """
        connection = connections[alias]
        placeholders = {
            name: _placeholder(number, field) for number, (name, field) in enumerate(self._fields.items())
        }
        compiler = self._make_queryset(*shape, **placeholders).query.get_compiler(alias)
        sql, params = compiler.as_sql()
        by_placeholder = {
            self._fields[name].get_db_prep_value(value, connection): Parameter(name)
            for name, value in placeholders.items()
        }
        converters = compiler.get_converters(expression for expression, *_ in compiler.select)
        return Statement(sql, [by_placeholder.get(each, each) for each in params], converters)


def _fetch_rows(connection: Any, sql: str, params: list[Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cast(list[Any], cursor.fetchall())


def _placeholder(number: int, field: "Field[Any, Any]") -> Any:
    """Returns a value of the field's type that occurs nowhere else in the statement."""
    if isinstance(field, DateTimeField):
        return PLACEHOLDER_DATETIME + timedelta(days=number)
    if isinstance(field, IntegerField):
        return PLACEHOLDER_INTEGER + number
    return f"<value {number}>"
