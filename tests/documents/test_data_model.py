"""docs/data-model.md, against the models and against a database that was migrated."""

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
DRAWN = dict(ENTITY.findall(DIAGRAM.text))
MODELS = [model for app in ("authn", "support") for model in apps.get_app_config(app).get_models()]


def test_the_diagram_is_of_mermaids_grammar() -> None:
    rest = RELATION.sub("", ENTITY.sub("", DIAGRAM.text))

    assert rest.split() == ["erDiagram"]


def test_every_table_that_we_read_or_write_is_drawn() -> None:
    assert DRAWN.keys() == {model._meta.db_table for model in MODELS}


@pytest.mark.django_db
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label_lower)
@pytest.mark.usefixtures("auth")
def test_its_columns_are_those_of_the_model_and_of_the_database(model: type) -> None:
    """Keys are the database's word: the models keep some of them to themselves."""
    table = model._meta.db_table  # type: ignore[attr-defined]
    with connection.cursor() as cursor:
        relations = connection.introspection.get_relations(cursor, table)

    def drawn(field: "Field[object, object]") -> str:
        kind = str(field.db_type(connection)).replace("timestamp with time zone", "timestamptz")
        is_unique_alone = field.unique and not field.primary_key
        keys = {"PK": field.primary_key, "FK": field.column in relations, "UK": is_unique_alone}
        named = ", ".join(name for name, is_one in keys.items() if is_one)
        return f"{kind} {field.column} {named}".rstrip()

    fields = model._meta.concrete_fields  # type: ignore[attr-defined]
    assert [line.strip() for line in DRAWN[table].splitlines()] == [drawn(field) for field in fields]


@pytest.mark.django_db
@pytest.mark.usefixtures("auth")
def test_a_solid_line_is_a_foreign_key_and_a_dotted_one_is_none() -> None:
    with connection.cursor() as cursor:
        keys = {
            (referred, table)
            for table in DRAWN
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
def test_every_table_of_the_database_is_said_to_be_somebodys() -> None:
    named = set(re.findall(r"`(\w+)`", table_under("| whose |")))

    assert named == set(connection.introspection.table_names())


def test_every_index_of_ours_is_said_to_be_for_something() -> None:
    named = set(
        re.findall(r"`(\w+)`", re.sub(r"\|[^|]*\|$", "", table_under("| index |"), flags=re.MULTILINE))
    )

    ours = apps.get_app_config("support").get_models()
    assert named == {each.name for model in ours for each in [*model._meta.indexes, *model._meta.constraints]}


def table_under(heading: str) -> str:
    return PAGE.partition(heading)[2].partition("\n\n")[0]
