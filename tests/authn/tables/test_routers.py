"""The router: in which database Better Auth's tables are read, and that we never write or migrate them."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.core.exceptions import PermissionDenied
from django.db import router
from django.utils import timezone

from authn.diagnosis.checks import check_settings
from authn.models import Session, SigningKey, User
from chatbackend.settings import database
from support.models import Thread

BETTER_AUTHS = [User, Session, SigningKey]


@pytest.mark.parametrize("model", BETTER_AUTHS)
def test_better_auths_tables_are_read_in_their_own_database(settings: Any, model: Any) -> None:
    settings.BETTER_AUTH_DATABASE = "better_auth"

    assert router.db_for_read(model) == "better_auth"
    assert router.db_for_read(Thread) == "default"


class ReadsFromReplica:
    """A team's own router."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica"


@pytest.mark.parametrize("model", BETTER_AUTHS)
def test_better_auths_tables_are_read_from_the_primary_and_not_from_a_replica(
    settings: Any, model: Any
) -> None:
    settings.DATABASE_ROUTERS = [
        *settings.DATABASE_ROUTERS,
        "tests.authn.tables.test_routers.ReadsFromReplica",
    ]

    assert router.db_for_read(Thread) == "replica"
    assert router.db_for_read(model) == "default"
    assert [message.id for message in check_settings()] == []


def test_a_router_that_sends_reads_to_a_replica_is_an_error(settings: Any) -> None:
    settings.DATABASE_ROUTERS = [
        "tests.authn.tables.test_routers.ReadsFromReplica",
        *settings.DATABASE_ROUTERS,
    ]

    assert [message.id for message in check_settings()] == ["authn.E012"]


@pytest.mark.parametrize("model", BETTER_AUTHS)
@pytest.mark.parametrize(
    "write",
    [
        lambda model: model().save(),
        lambda model: model(pk="1").delete(),
        lambda model: model.objects.bulk_create([model()]),
        lambda model: model.objects.update(**{model._meta.pk.name: "1"}),
        lambda model: model.objects.all().delete(),
        lambda model: model.objects.select_for_update().get_or_create(pk="1"),
    ],
    ids=["save", "delete", "bulk_create", "update", "delete all", "get_or_create"],
)
@pytest.mark.django_db
def test_no_write_reaches_better_auths_tables(model: Any, write: Any) -> None:
    with pytest.raises(PermissionDenied):
        write(model)


def test_no_migration_runs_in_better_auths_own_database(settings: Any) -> None:
    settings.BETTER_AUTH_DATABASE = "better_auth"

    assert not router.allow_migrate("better_auth", "support")
    assert not router.allow_migrate("better_auth", "authn")
    assert not router.allow_migrate("default", "authn")
    assert router.allow_migrate("default", "support")


def test_a_sqlite_file_is_only_read_and_never_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, missing = tmp_path / "auth #1?.db", tmp_path / "missing.db"
    with closing(sqlite3.connect(file)) as owner, owner:
        owner.execute("CREATE TABLE user (id text)")

    def as_we_open(path: Path) -> closing[sqlite3.Connection]:
        monkeypatch.setenv("BETTER_AUTH_DATABASE_URL", f"sqlite:///{quote(str(path))}")
        return closing(sqlite3.connect(database("BETTER_AUTH_DATABASE_URL")["NAME"], uri=True))

    with as_we_open(file) as connection:
        assert connection.execute("SELECT count(*) FROM user").fetchone() == (0,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM user")
    with pytest.raises(sqlite3.OperationalError), as_we_open(missing):
        pass
    assert not missing.exists()


def test_our_own_tables_can_be_written(settings: Any) -> None:
    settings.BETTER_AUTH_DATABASE = "better_auth"

    assert router.db_for_write(Thread, instance=Thread(created_at=timezone.now())) == "default"
