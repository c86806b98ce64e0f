"""What our role may do with Better Auth's tables: as much as it needs, and no more."""

from collections.abc import Iterable, Iterator

from django.db import connections

from authn.conf import conf
from authn.diagnosis.doctor.catalogue import Table, quoted
from authn.diagnosis.doctor.deployment import Deployment, read_only_cursor
from authn.diagnosis.doctor.findings import ExaminationSkipped, Finding, failure, ok, warning
from authn.diagnosis.doctor.tables import columns_of, needed

# Never needed here: what signs tokens, and what is a login by itself.
SECRETS = {"jwks": "privateKey", "session": "token"}

# Whoever our role is or acts for, and through whom it may do something with this table. 0 is PUBLIC.
GRANTEES = """
SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
FROM (
    SELECT (aclexplode(relacl)).grantee FROM pg_class WHERE oid = %(oid)s
    UNION SELECT (aclexplode(attacl)).grantee FROM pg_attribute WHERE attrelid = %(oid)s
) granted WHERE grantee = 0 OR pg_has_role(grantee, 'USAGE') ORDER BY 1
"""
# The roles it is in that give it every table: PostgreSQL's own two, and whichever are in one of these.
ROLE = """
SELECT current_user, rolsuper, ARRAY(
    SELECT DISTINCT quote_ident(pg_get_userbyid(roleid))
    FROM pg_auth_members, unnest(ARRAY['pg_read_all_data', 'pg_write_all_data']::name[]) every
    WHERE member = pg_roles.oid AND NOT rolsuper
        AND pg_has_role(roleid, 'USAGE') AND pg_has_role(roleid, every, 'USAGE') ORDER BY 1)
FROM pg_roles WHERE rolname = current_user
"""


def missing(deployment: Deployment) -> Iterator[Finding]:
    if deployment.database.vendor != "postgresql":
        raise ExaminationSkipped(f"{deployment.database.display_name} has no roles.")
    tables = _tables(deployment)
    role = _role(deployment)[0]
    lacking = False
    for model, table in tables.items():
        columns = list(columns_of(model, table).values())
        unreadable = [column for column in columns if column not in table.readable]
        if not unreadable and table.may_enter_schema:
            continue
        lacking = True
        statements = [] if table.may_enter_schema else [_enter(table, role)]
        yield failure(
            f"{role} may not read {table} ({', '.join(unreadable or columns)}).",
            "\n".join([*statements, _select(table, columns, role)]),
        )
    if not lacking:
        yield ok(f"{role} may read what is read.")


def unneeded(deployment: Deployment) -> Iterator[Finding]:
    """A failure where Better Auth's tables have a role of their own: that is all it is for."""
    if deployment.database.vendor != "postgresql":
        raise ExaminationSkipped(f"{deployment.database.display_name} has no roles.")
    tables = _tables(deployment)
    for model in ("account", "verification"):  # passwords, other people's tokens, codes
        if table := deployment.catalogue.found(model):
            tables[model] = table
    role, is_superuser, everything = _role(deployment)
    powers = {model: power for model, table in tables.items() if (power := _power(model, table))}
    if not powers:
        yield ok(f"{role} may do nothing else with Better Auth's tables.")
        return
    shown = "; ".join(f"{tables[model]}: {', '.join(power)}" for model, power in powers.items())
    message = f"{role} may do more than it needs: {shown}."
    is_owner = any(tables[model].is_ours for model in powers)
    if not _has_its_own_address():
        yield warning(message, _role_of_its_own(deployment, tables))
    elif is_superuser or is_owner:
        why = "a superuser" if is_superuser else "their owner, whom nothing can be revoked from for good"
        yield failure(f"{message} It is {why}.", _role_of_its_own(deployment, tables))
    else:
        yield failure(
            message, "\n".join(_revocations(deployment, {m: tables[m] for m in powers}, role, everything))
        )


def _has_its_own_address() -> bool:
    """Better Auth's tables have an alias of their own where their time zone is another, too."""
    names = ("USER", "HOST", "PORT", "NAME")
    default, theirs = (connections[alias].settings_dict for alias in ("default", conf.BETTER_AUTH_DATABASE))
    return any(default[name] != theirs[name] for name in names)


def _power(model: str, table: Table) -> list[str]:
    power = [verb.lower() for verb in table.writable]
    if model in SECRETS:
        secret = table.column_like(SECRETS[model])
        if secret in table.readable and secret not in columns_of(model, table).values():
            power.append(f"read {secret}")
    elif model not in needed() and table.readable:
        power.append("read")
    return power


def _tables(deployment: Deployment) -> dict[str, Table]:
    tables = {model: table for model in needed() if (table := deployment.catalogue.found(model))}
    if not tables:
        raise ExaminationSkipped("There are no tables to look at.")
    return tables


def _role(deployment: Deployment) -> tuple[str, bool, list[str]]:
    with read_only_cursor(deployment.database.alias) as cursor:
        cursor.execute(ROLE)
        name, is_superuser, everything = cursor.fetchone()
        return str(name), bool(is_superuser), list(everything)


def _revocations(
    deployment: Deployment, tables: dict[str, Table], role: str, everything: list[str]
) -> Iterator[str]:
    """All of it, for a privilege on a table makes a list of columns meaningless; then the columns again."""
    for group in everything:
        yield f"REVOKE {group} FROM {quoted(role)};"
    for model, table in tables.items():
        with read_only_cursor(deployment.database.alias) as cursor:
            cursor.execute(GRANTEES, {"oid": table.oid})
            grantees = ", ".join(name for (name,) in cursor if name not in everything)
        if grantees:
            yield f"REVOKE ALL ON {table.sql} FROM {grantees};"
        if model in needed():
            yield _select(table, list(columns_of(model, table).values()), role)


def _role_of_its_own(deployment: Deployment, tables: dict[str, Table]) -> str:
    role, settings = "chatbackend_reader", deployment.database.settings_dict
    server = ":".join(str(part) for part in (settings["HOST"], settings["PORT"]) if part)
    schemas = {table.schema: table for table in tables.values()}
    reads = [model for model in needed() if model in tables]
    return "\n".join([
        f"CREATE ROLE {quoted(role)} LOGIN NOINHERIT PASSWORD '…';",
        *[_enter(table, role) for table in schemas.values()],
        *[_select(tables[model], list(columns_of(model, tables[model]).values()), role) for model in reads],
        f"BETTER_AUTH_DATABASE_URL=postgresql://{role}:…@{server}/{settings['NAME']}",
    ])  # fmt: skip


def _enter(table: Table, role: str) -> str:
    return f"GRANT USAGE ON SCHEMA {quoted(table.schema)} TO {quoted(role)};"


def _select(table: Table, columns: Iterable[str], role: str) -> str:
    return f"GRANT SELECT ({', '.join(map(quoted, columns))}) ON {table.sql} TO {quoted(role)};"
