"""Compares docs/data-model.md with the models and with a migrated database."""

import re

import pytest
from django.apps import apps
from django.db import connection
from django.db.models import Field

from tests.fixtures.code_blocks import TOP, blocks

PAGE = (TOP / "docs/data-model.md").read_text()
[DIAGRAM] = blocks("test_data_model.py", "mermaid")
ENTITY = re.compile(
    r"^    (\w+) \{\n((?:        \S+ \w+(?: (?:PK|FK|UK)(?:, (?:PK|FK|UK))*)?\n)+)    \}\n", re.MULTILINE
)
RELATION = re.compile(r'^    (\w+) [|}][|o](--|\.\.)[|o][|{] (\w+) : "[^"\n]+"\n', re.MULTILINE)
TABLES = dict(ENTITY.findall(DIAGRAM.text))
MODELS = [model for app in ("authn", "support") for model in apps.get_app_config(app).get_models()]


def test_the_diagram_is_valid_mermaid() -> None:
    rest = RELATION.sub("", ENTITY.sub("", DIAGRAM.text))

    assert rest.split() == ["erDiagram"]


def test_the_diagram_shows_exactly_the_tables_of_our_models() -> None:
    assert TABLES.keys() == {model._meta.db_table for model in MODELS}


@pytest.mark.django_db
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label_lower)
@pytest.mark.usefixtures("auth")
def test_a_tables_columns_types_and_keys_are_those_of_the_model_and_the_database(model: type) -> None:
    """Foreign keys are those of the database: the models do not declare all of them."""
    table = model._meta.db_table  # type: ignore[attr-defined]
    with connection.cursor() as cursor:
        relations = connection.introspection.get_relations(cursor, table)

    def line_of(field: "Field[object, object]") -> str:
        kind = str(field.db_type(connection)).replace("timestamp with time zone", "timestamptz")
        is_unique_alone = field.unique and not field.primary_key
        keys = {"PK": field.primary_key, "FK": field.column in relations, "UK": is_unique_alone}
        present = ", ".join(name for name, is_key in keys.items() if is_key)
        return f"{kind} {field.column} {present}".rstrip()

    fields = model._meta.concrete_fields  # type: ignore[attr-defined]
    assert [line.strip() for line in TABLES[table].splitlines()] == [line_of(field) for field in fields]


@pytest.mark.django_db
@pytest.mark.usefixtures("auth")
def test_solid_lines_are_foreign_keys_and_dotted_lines_are_user_ids_without_one() -> None:
    with connection.cursor() as cursor:
        keys = {
            (referred, table)
            for table in TABLES
            for _, referred in connection.introspection.get_relations(cursor, table).values()
        }

    lines = RELATION.findall(DIAGRAM.text)
    assert {(of, table) for of, line, table in lines if line == "--"} == keys
    assert {(of, table) for of, line, table in lines if line == ".."} == {
        ("user", model._meta.db_table)
        for model in MODELS
        if "user_id" in {each.column for each in model._meta.fields}
    }


@pytest.mark.django_db
@pytest.mark.usefixtures("auth")
def test_the_page_says_who_owns_each_table_of_the_database() -> None:
    named = set(re.findall(r"`(\w+)`", table_under("| owner |")))

    assert named == set(connection.introspection.table_names())


def test_the_page_says_what_each_of_our_indexes_and_constraints_is_for() -> None:
    named = set(
        re.findall(r"`(\w+)`", re.sub(r"\|[^|]*\|$", "", table_under("| index |"), flags=re.MULTILINE))
    )

    ours = apps.get_app_config("support").get_models()
    assert named == {each.name for model in ours for each in [*model._meta.indexes, *model._meta.constraints]}


def table_under(heading: str) -> str:
    return PAGE.partition(heading)[2].partition("\n\n")[0]
