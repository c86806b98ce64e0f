"""Examines the types of the columns, the time zone of their times, and their indexes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from django.conf import settings
from django.utils import timezone

from authn.conf import conf
from authn.diagnosis.doctor.catalogue import quoted
from authn.diagnosis.doctor.deployment import Deployment, read_only_cursor
from authn.diagnosis.doctor.findings import ExaminationSkipped, Finding, failure, ok, warning
from authn.diagnosis.doctor.tables import columns_of, found_tables

TYPES = {
    "id": {"text", "character varying", "character", "integer", "bigint", "smallint", "uuid"},
    "naive": {"timestamp without time zone"},
    "aware": {"timestamp with time zone"},
}
IDS = [
    ("user", "id"),
    ("session", "id"),
    ("session", "userId"),
    ("jwks", "id"),
    ("member", "userId"),
    ("member", "organizationId"),
    ("oauthAccessToken", "userId"),
    ("oauthAccessToken", "sessionId"),
    ("oauthConsent", "userId"),
]
# What happens without the index of the user's id.
COSTS = {
    "session": "every request reads all sessions",
    "member": "every request reads all members",
    "oauthConsent": "every request of an OAuth client reads all consents",
}
# An age of the newest session that shows that the time zone is right: a wrong one differs by 15 minutes or
# more.
MAX_AGE = timedelta(minutes=15)
INDEXES = """
SELECT pg_get_indexdef(i.indexrelid, 1, true), i.indisunique AND i.indnkeyatts = 1, i.indisvalid, x.relname
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = %s AND i.indpred IS NULL
"""


def types(deployment: Deployment) -> Iterator[Finding]:
    found, faults = found_tables(deployment), 0
    if deployment.database.vendor != "postgresql":
        raise ExaminationSkipped(f"{deployment.database.display_name} does not enforce types.")
    kinds: dict[tuple[str, str], str] = {}
    for model, name in IDS:
        if model not in found:
            continue
        column = columns_of(model, found[model]).get(name)
        if column is None:
            continue  # the examination "columns" reports it
        kind = kinds[model, name] = found[model].types[column]
        if kind not in TYPES["id"]:
            faults += 1
            yield failure(
                f"{found[model]}.{column} is {kind}. Better Auth's ids never have this type.",
                "Make it text, integer or uuid.",
            )
    owner, user = kinds.get(("session", "userId")), kinds.get(("user", "id"))
    if owner and user and owner != user:
        faults += 1
        yield failure(
            f"A session's user id is {owner} and a user's id is {user}: they cannot be joined.",
            "Give both columns the same type, as Better Auth's migration does.",
        )
    if not faults:
        yield ok(f"Ids are {', '.join(sorted(set(kinds.values())))}.")


def time_zone(deployment: Deployment) -> Iterator[Finding]:
    """Examines whether BETTER_AUTH_TIME_ZONE is the time zone of columns without a time zone.

    Such a column holds the local time of the process that wrote the row. The newest session shows the
    difference to our time.
    """
    found = found_tables(deployment)
    naive = [
        f"{table}.{column}"
        for model, table in found.items()
        for column in columns_of(model, table).values()
        if table.types[column] in TYPES["naive"]
    ]
    if not naive:
        yield ok("All times have a time zone.")
        return
    name = str(settings.DATABASES[conf.BETTER_AUTH_DATABASE].get("TIME_ZONE") or "UTC")
    shown = f"{len(naive)} columns have no time zone ({naive[0]}, …) and are read as {name}"
    newest = _newest(deployment, "session", "createdAt")
    if newest is None:
        yield warning(f"{shown}. There is no session yet to compare.", "Sign in once and run this again.")
        return
    written = newest.replace(tzinfo=None)
    age = timezone.now() - written.replace(tzinfo=ZoneInfo(name))
    if age < -conf.BETTER_AUTH_LEEWAY:
        offset = _offset_of(written)
        yield failure(
            f"{shown}. Then the newest session would begin in {_duration(-age)}.",
            f"BETTER_AUTH_TIME_ZONE={_zone_of(offset)} (now {_utc_offset(offset)}), or the output of this "
            "command where Better Auth runs: node -p 'Intl.DateTimeFormat().resolvedOptions().timeZone'",
        )
    elif age < MAX_AGE:
        yield ok(f"{shown}. The newest session agrees.")
    else:
        yield warning(
            f"{shown}. Then the newest session began {_duration(age)} ago.",
            "Sign in once and run this again: a new session shows whether the time zone is right.",
        )


def indexes(deployment: Deployment) -> Iterator[Finding]:
    found = found_tables(deployment)
    if deployment.database.vendor != "postgresql":
        raise ExaminationSkipped(f"{deployment.database.display_name} is only for development.")
    for model, name, unique in (
        ("session", "userId", False),
        ("user", "email", True),
        ("member", "userId", False),
        ("oauthAccessToken", "token", True),
        ("oauthClient", "clientId", True),
        ("oauthConsent", "userId", False),
    ):
        table = found.get(model)
        column = columns_of(model, table).get(name) if table else None
        if table is None or column is None:
            continue  # the examinations "tables" and "columns" report it
        with read_only_cursor(deployment.database.alias) as cursor:
            cursor.execute(INDEXES, [table.oid])
            existing = [row for row in cursor if row[0].strip('"') == column and (row[1] or not unique)]
        statement = (
            f"CREATE {'UNIQUE ' if unique else ''}INDEX CONCURRENTLY {quoted(f'{table.name}_{column}_idx')} "
            f"ON {table.sql} ({quoted(column)});"
        )
        if any(valid for _, _, valid, _ in existing):
            yield ok(f"{table}.{column} has {'a unique' if unique else 'an'} index.")
        elif existing:
            broken = f"{quoted(table.schema)}.{quoted(existing[0][3])}"
            yield warning(
                f"The index of {table}.{column} is invalid: CREATE INDEX CONCURRENTLY did not finish.",
                f"REINDEX INDEX CONCURRENTLY {broken};",
            )
        elif unique:
            yield failure(
                f"{table}.{column} has no unique index: two rows may have the same {column}.", statement
            )
        else:
            yield warning(
                f"{table}.{column} has no index (Better Auth makes one since 1.4): {COSTS[model]}.",
                statement,
            )


def _newest(deployment: Deployment, model: str, name: str) -> datetime | None:
    """Returns the newest value of a column as it is stored, without a conversion of time zones."""
    table = deployment.catalogue.found(model)
    column = columns_of(model, table).get(name) if table else None
    if table is None or column is None or column not in table.readable:
        return None
    with read_only_cursor(deployment.database.alias) as cursor:
        cursor.execute(f"SELECT max({quoted(column)}) FROM {table.sql}")  # noqa: S608 - quoted names of the catalogue
        newest: datetime | None = cursor.fetchone()[0]
    return newest


def _offset_of(written: datetime) -> timedelta:
    """Returns the smallest offset from UTC with which ``written`` is not in the future.

    It is a multiple of a quarter of an hour, like the offsets of all time zones.
    """
    quarter = timedelta(minutes=15)
    return -(-(written - timezone.now().astimezone(UTC).replace(tzinfo=None)) // quarter) * quarter


def _zone_of(offset: timedelta) -> str:
    """Returns a time zone that has this offset now, or "…"."""
    now = timezone.now()
    regions = ("Africa/", "America/", "Asia/", "Australia/", "Europe/", "Pacific/")
    zones = (zone for zone in sorted(available_timezones()) if zone.startswith(regions))
    return next((zone for zone in zones if now.astimezone(ZoneInfo(zone)).utcoffset() == offset), "…")


def _duration(length: timedelta) -> str:
    minutes = round(length / timedelta(minutes=1))
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _utc_offset(offset: timedelta) -> str:
    return f"UTC{'-' if offset < timedelta(0) else '+'}{_duration(abs(offset))}"
