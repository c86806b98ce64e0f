"""Columns and tables whose type or name depends on the adapter of Better Auth."""

from typing import Any

import pytest
from django.db import connection

from authn.tables import naming
from authn.tables.fields import StringListField


@pytest.mark.django_db
@pytest.mark.parametrize("value", ["""'["a", "b"]'::jsonb""", "ARRAY['a', 'b']", """'["a", "b"]'::text"""])
def test_a_list_of_strings_is_read_from_each_type_of_column(value: str) -> None:
    """Kysely's are jsonb, those of Drizzle and Prisma are arrays, and SQLite's are text."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {value}")
        [stored] = cursor.fetchone()

    assert StringListField().from_db_value(stored) == ["a", "b"]


@pytest.mark.parametrize("stored", ["{}", '"a"', "[1]", "[null]", "true", "a b", ["a", None], {"a": 1}])
def test_anything_else_is_an_error_and_no_empty_list(stored: Any) -> None:
    """Read as an empty list, the column ``resources`` would make a token good for every API."""
    with pytest.raises(ValueError, match=r"not a list of strings|Expecting value"):
        StringListField().from_db_value(stored)

    assert StringListField().from_db_value(None) is None


@pytest.mark.parametrize(
    ("naming_of_columns", "tables", "expected"),
    [
        ("camel", {}, "oauthAccessToken"),
        ("snake", {}, "oauth_access_token"),
        ("snake", {"oauthAccessToken": "oauth_access_tokens"}, "oauth_access_tokens"),
        ("camel", {"oauthAccessToken": "auth.tokens"}, '"auth"."tokens"'),
    ],
)
def test_a_table_is_named_like_the_columns_unless_the_settings_name_it(
    settings: Any, naming_of_columns: str, tables: dict[str, str], expected: str
) -> None:
    settings.BETTER_AUTH_NAMING, settings.BETTER_AUTH_TABLES = naming_of_columns, tables

    assert naming.table("oauthAccessToken") == expected
