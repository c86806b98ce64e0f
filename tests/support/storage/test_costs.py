"""The cost of an operation: its SQL statements, and the rows that PostgreSQL reads with a long history."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from weakref import WeakSet

import django
import pytest
from chatkit.types import ImageAttachment
from django.db import connection, transaction
from django.db.backends.signals import connection_created
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from authn.sessions import Organization
from support import models
from support.files import signed_urls
from tests.fixtures.accounts.people import Person
from tests.fixtures.owner import Owner, message, thread_metadata
from tests.fixtures.servers.api import Api, add, create, operation

# --- Statements in the SQL log of a server --------------------------------------------------------


@pytest.fixture(scope="module")
def sql_logging_api(auth: Any, start_api: Callable[..., Any]) -> Iterator[Api]:
    with start_api(CHATKIT_SERVER="tests.fixtures.chatkit.servers.make_sql_logging_server") as running:
        yield running


def logged_statements(api: Api, body: Any, token: str) -> list[str]:
    """The statements of one operation without those of authentication. BEGIN and COMMIT count too."""
    before = api.log.stat().st_size
    response = api.post(body, token)
    assert response.status_code == 200, response.text
    lines = [json.loads(line) for line in api.log.read_bytes()[before:].splitlines()]
    said = [line["sql"].replace('"', "").split() for line in lines if line["logger"] == "django.db.backends"]
    return [
        " ".join([words[0], *(word for word in words if word.startswith("support_"))][:2]).split(".")[0]
        for words in said
        if len(words) == 1 or any("support_" in word for word in words)
    ]


# Since Django 6, bulk_create needs no transaction for a single statement.
BULK_CREATE = (
    ["INSERT support_feedback"] if django.VERSION >= (6,) else ["BEGIN", "INSERT support_feedback", "COMMIT"]
)


def test_every_operation_makes_the_expected_number_of_statements(
    sql_logging_api: Api, person: Person
) -> None:
    token = person.token()
    events = sql_logging_api.events(create(), token)
    thread_id, message_id = events[0]["thread"]["id"], events[1]["item"]["id"]
    answer_id = events[-1]["item"]["id"]
    thread = {"thread_id": thread_id}
    turn = ["INSERT support_item", "INSERT support_item"]
    budgets = [
        (create(), ["WITH support_thread", "INSERT support_item"]),
        (add(thread_id), ["SELECT support_thread", *turn]),
        (operation("threads.list"), ["SELECT support_thread"]),
        (operation("threads.list", after=thread_id, order="asc"), ["SELECT support_thread"]),
        (operation("items.list", **thread), ["SELECT support_item"]),
        (operation("items.list", **thread, after=message_id, order="asc"), ["SELECT support_item"]),
        (operation("threads.get_by_id", **thread), ["SELECT support_thread", "SELECT support_item"]),
        (
            operation("threads.update", **thread, title="x"),
            ["SELECT support_thread", "UPDATE support_thread"],
        ),
        (
            operation("items.feedback", **thread, item_ids=[answer_id], kind="positive"),
            ["SELECT support_item", *BULK_CREATE],
        ),
        (
            operation("attachments.create", name="a.png", size=1, mime_type="image/png"),
            ["SELECT support_attachment", "INSERT support_attachment"],  # for the quota
        ),
        (
            operation("threads.retry_after_item", **thread, item_id=message_id),
            [
                *["SELECT support_thread", "SELECT support_item"],
                *["BEGIN", "DELETE support_item", "COMMIT"] * 3,
                "INSERT support_item",
            ],
        ),
        (
            operation("threads.delete", **thread),
            [
                "BEGIN",
                "SELECT support_thread",
                "SELECT support_attachment",
                "DELETE support_thread",
                "COMMIT",
            ],
        ),
    ]

    for body, budget in budgets:
        assert logged_statements(sql_logging_api, body, token) == budget, body


# --- The owner in each statement ------------------------------------------------------------------


ACME = Organization("acme", "member")


@dataclass
class Statement:
    sql: str
    params: Any


@pytest.fixture
def executed(every_connection: WeakSet[Any]) -> Iterator[list[Statement]]:
    """The statements of all connections, those of the worker threads included."""
    said: list[Statement] = []

    def record(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        said.append(Statement(sql, params))
        return execute(sql, params, many, context)

    def listen(connection: Any, **_: Any) -> None:
        if record not in connection.execute_wrappers:
            connection.execute_wrappers.append(record)

    for each in every_connection:
        listen(each)
    connection_created.connect(listen)
    yield said
    connection_created.disconnect(listen)
    for each in every_connection:
        if record in each.execute_wrappers:
            each.execute_wrappers.remove(record)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("per", "owner", "organization_id"),
    [
        ("user", Owner("ada", ACME), None),
        ("user_and_organization", Owner("ada", ACME), "acme"),
        ("user_and_organization", Owner("ada"), ""),
    ],
)
def test_every_call_is_one_statement_that_filters_by_the_owner(
    settings: Any, executed: list[Statement], per: str, owner: Owner, organization_id: str | None
) -> None:
    settings.SUPPORT_CONVERSATIONS = per
    owner.starts("thr_0")
    calls: list[tuple[str, list[Any]]] = [
        ("save_thread", [thread_metadata()]),
        ("save_thread", [thread_metadata(title="again")]),
        ("add_thread_item", ["thr_1", message()]),
        ("save_item", ["thr_1", message()]),
        ("add_missing_items", ["thr_1", [message("msg_2")]]),
        ("save_attachment", [picture()]),
        ("load_attachment", ["atc_1"]),
        ("require_sendable", [["atc_1"]]),
        ("save_attachment", [picture().model_copy(update={"thread_id": "thr_1"})]),
        ("load_thread", ["thr_1"]),
        ("load_threads", [20, None, "desc"]),
        ("load_threads", [20, "thr_1", "desc"]),
        ("load_thread_items", ["thr_1", None, 20, "asc"]),
        ("load_thread_items", ["thr_1", "msg_1", 20, "asc"]),
        ("load_item", ["thr_1", "msg_1"]),
        ("delete_thread_item", ["thr_1", "msg_2"]),
    ]
    for method, arguments in calls:
        executed.clear()

        getattr(owner, method)(*arguments)

        [statement] = executed
        conditions = statement.sql.partition("WHERE")[2] + statement.sql.partition("CONFLICT")[2]
        assert "user_id" in conditions
        assert "ada" in statement.params
        assert ("organization_id" in conditions) == (per != "user")
        assert organization_id is None or organization_id in statement.params


@pytest.mark.django_db(transaction=True)
def test_deleting_a_thread_reads_its_files_first(ada: Owner, executed: list[Statement]) -> None:
    ada.starts()
    executed.clear()

    ada.delete_thread("thr_1")

    assert [statement.sql.split()[0] for statement in executed] == ["SELECT", "SELECT", "DELETE"]
    assert all("ada" in statement.params for statement in executed)


def picture() -> ImageAttachment:
    return ImageAttachment(
        id="atc_1", name="a.png", mime_type="image/png", preview_url=signed_urls.content_url("ada", "atc_1")
    )


# --- A long history -------------------------------------------------------------------------------

MANY, FEW = 100_000, 30
THREADS = """
    INSERT INTO support_thread (user_id, organization_id, thread_id, created_at, data)
    SELECT %s, CASE WHEN n <= 30 THEN 'acme' ELSE '' END, 'thr_' || n, now(),
        jsonb_build_object('id', 'thr_' || n, 'created_at', '2026-03-01T12:30:15')
    FROM generate_series(1, %s) n
"""
ITEMS = """
    INSERT INTO support_item (thread_id, item_id, type, created_at, data)
    SELECT id, 'msg_' || n, 'end_of_turn', now(), jsonb_build_object(
        'type', 'end_of_turn', 'id', 'msg_' || n, 'thread_id', thread_id, 'created_at', '2026-03-01T12:30:15'
    ) FROM support_thread, generate_series(1, %s) n WHERE user_id = %s AND thread_id = 'thr_1'
"""


FEEDBACK = """
    INSERT INTO support_feedback (item_id, kind, created_at, updated_at)
    SELECT id, 'positive', now(), now() FROM support_item
"""


@pytest.fixture(scope="module")
def histories(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Ada has 100,000 threads, and 100,000 items in one of them. Bob has 30 of each. Others have rows too.

    The first 30 threads of each are those of an organization.
    """
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("TRUNCATE support_thread CASCADE")
        for user_id, number in [("eve", 20_000), ("ada", MANY), ("bob", FEW), ("mallory", 20_000)]:
            cursor.execute(THREADS, [user_id, number])
            cursor.execute(ITEMS, [number, user_id])
        cursor.execute(FEEDBACK)
        cursor.execute("VACUUM ANALYZE support_thread, support_item, support_feedback")
        yield
        cursor.execute("TRUNCATE support_thread CASCADE")
        connection.close()


@dataclass
class Cost:
    """What PostgreSQL did for a statement. ``rows``: the rows that it read, filtered ones included."""

    steps: list[str]
    rows: float
    pages: int


def cost_of(statement: Statement) -> Cost:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.sql}", statement.params)
        plan = cursor.fetchone()[0][0]["Plan"]
        transaction.set_rollback(True)
    steps = list(steps_of(plan))
    visited = [
        step["Actual Loops"] * (step["Actual Rows"] + step.get("Rows Removed by Filter", 0)) for step in steps
    ]
    pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return Cost([f"{step['Node Type']} {step.get('Index Name', '')}" for step in steps], sum(visited), pages)


def steps_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from steps_of(part)


LISTS = [
    (method, order, first, per)
    for method in ("load_threads", "load_thread_items")
    for order in ("asc", "desc")
    for first in (True, False)
    for per in ("user", "user_and_organization")
]


@pytest.mark.parametrize(("method", "order", "first", "per"), LISTS)
def test_a_page_costs_the_same_with_thirty_and_with_a_hundred_thousand_threads(
    histories: None,
    django_db_blocker: DjangoDbBlocker,
    ada: Owner,
    bob: Owner,
    executed: list[Statement],
    settings: Any,
    method: str,
    order: str,
    first: bool,
    per: str,
) -> None:
    settings.SUPPORT_CONVERSATIONS = per
    ada.organization = bob.organization = ACME

    def cost_of_a_page(owner: Owner, number: int) -> Cost:
        executed.clear()
        if (method, per) == ("load_threads", "user_and_organization"):
            number = FEW
        kind, of = ("thr", []) if method == "load_threads" else ("msg", ["thr_1"])
        middle = None if first else f"{kind}_{number // 2}"
        page = getattr(owner, method)(*of, limit=10, after=middle, order=order)
        assert (len(page.data), page.has_more) == (10, True)
        [statement] = executed
        return cost_of(statement)

    with django_db_blocker.unblock():
        long, short = cost_of_a_page(ada, MANY), cost_of_a_page(bob, FEW)

    assert long.steps == short.steps
    assert long.rows == short.rows
    assert long.pages <= short.pages + 4  # a page of the list may start in the middle of a disk block
    assert not [step for step in long.steps if step.startswith(("Sort", "Seq Scan"))]


def test_deletion_and_pruning_use_only_indexes(
    histories: None, django_db_blocker: DjangoDbBlocker, executed: list[Statement]
) -> None:
    """Deleting a thread with its items and feedback, and finding old threads, reads no whole table."""
    bobs = models.Thread.objects.owned_by("bob").filter(thread_id="thr_1")
    old = models.Thread.objects.inactive_since(timezone.now() - timedelta(days=1))

    with django_db_blocker.unblock(), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")  # PostgreSQL would read a small table whole
        before = scanned()
        bobs.delete()
        assert not old.exists()
        after = scanned()
        transaction.set_rollback(True)

    sequential, fetched = after[0] - before[0], after[1] - before[1]
    assert sequential == 0
    assert 2 * FEW <= fetched < 4 * FEW  # its items and their feedback


def scanned() -> tuple[int, int]:
    """How often this connection read a whole table, and how many rows it read by indexes."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT sum(seq_scan), sum(idx_tup_fetch) FROM pg_stat_xact_user_tables")
        sequential, fetched = cursor.fetchone()
        return int(sequential), int(fetched)
