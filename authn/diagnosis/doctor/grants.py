"""Examines our database role's grants on Better Auth's tables: grants that it lacks or does not need."""

from collections.abc import Iterable, Iterator

from django.db import connections

from authn.conf import conf
from authn.diagnosis.doctor.catalogue import Table, quoted
from authn.diagnosis.doctor.deployment import Deployment, read_only_cursor
from authn.diagnosis.doctor.findings import ExaminationSkipped, Finding, failure, ok, warning
from authn.diagnosis.doctor.tables import columns_of, needed_models

# Columns that we do not need to read: jwks.privateKey signs JWTs, session.token is enough to log in, and
# oauthClient.clientSecret is the password of an OAuth client.
SECRETS = {"jwks": "privateKey", "session": "token", "oauthClient": "clientSecret"}

# Selects those of our role, its groups and PUBLIC (0) that have grants on a table.
GRANTEES = """
SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
FROM (
    SELECT (aclexplode(relacl)).grantee FROM pg_class WHERE oid = %(oid)s
    UNION SELECT (aclexplode(attacl)).grantee FROM pg_attribute WHERE attrelid = %(oid)s
) granted WHERE grantee = 0 OR pg_has_role(grantee, 'USAGE') ORDER BY 1
"""
# Selects our role's name, whether it is a superuser, and its groups that may read or write all tables. These
# are pg_read_all_data, pg_write_all_data, and groups that are members of these two.
ROLE = """
SELECT current_user, rolsuper, ARRAY(
    SELECT DISTINCT quote_ident(pg_get_userbyid(roleid))
    FROM pg_auth_members, unnest(ARRAY['pg_read_all_data', 'pg_write_all_data']::name[]) every
    WHERE member = pg_roles.oid AND NOT rolsuper
        AND pg_has_role(roleid, 'USAGE') AND pg_has_role(roleid, every, 'USAGE') ORDER BY 1)
FROM pg_roles WHERE rolname = current_user
"""


def missing(deployment: Deployment) -> Iterator[Finding]:
    """Finds columns that we read and that our role may not read."""
    tables = _tables(deployment)
    if deployment.database.vendor != "postgresql":
        raise ExaminationSkipped(f"{deployment.database.display_name} has no roles.")
    role = _role(deployment)[0]
    lacking = False
    for model, table in tables.items():
        columns = list(columns_of(model, table).values())
        unreadable = [column for column in columns if column not in table.readable]
        if not unreadable and table.may_enter_schema:
            continue
        lacking = True
        statements = [] if table.may_enter_schema else [_grant_usage(table, role)]
        yield failure(
            f"{role} may not read {table} ({', '.join(unreadable or columns)}).",
            "\n".join([*statements, _grant_select(table, columns, role)]),
        )
    if not lacking:
        yield ok(f"{role} may read all columns that we read.")


def unneeded(deployment: Deployment) -> Iterator[Finding]:
    """Finds grants that our role does not need.

    This is only a warning if the same role is used for our own tables, because that role has to own them. It
    is a failure if the role is only used for Better Auth's tables.
    """
    tables = _tables(deployment)
    if deployment.database.vendor != "postgresql":
        raise ExaminationSkipped(f"{deployment.database.display_name} has no roles.")
    for model in ("account", "verification"):  # they hold passwords, codes, and tokens of other services
        if table := deployment.catalogue.found(model):
            tables[model] = table
    role, is_superuser, all_table_groups = _role(deployment)
    excess = {model: verbs for model, table in tables.items() if (verbs := _unneeded(model, table))}
    if not excess:
        yield ok(f"{role} may do nothing else with Better Auth's tables.")
        return
    shown = "; ".join(f"{tables[model]}: {', '.join(verbs)}" for model, verbs in excess.items())
    message = f"{role} may do more than it needs: {shown}."
    is_owner = any(tables[model].is_ours for model in excess)
    if not _has_own_url():
        yield warning(message, _create_role(deployment, tables))
    elif is_superuser or is_owner:
        why = "is a superuser" if is_superuser else "owns them, and an owner can always grant itself more"
        yield failure(f"{message} It {why}.", _create_role(deployment, tables))
    else:
        yield failure(
            message,
            "\n".join(_revocations(deployment, {m: tables[m] for m in excess}, role, all_table_groups)),
        )


def _has_own_url() -> bool:
    """Whether BETTER_AUTH_DATABASE_URL is set.

    A second database alias alone does not show this: there is also a second alias if only the time zone
    differs.
    """
    names = ("USER", "HOST", "PORT", "NAME")
    default, theirs = (connections[alias].settings_dict for alias in ("default", conf.BETTER_AUTH_DATABASE))
    return any(default[name] != theirs[name] for name in names)


def _unneeded(model: str, table: Table) -> list[str]:
    """Returns what our role may do with the table and does not need, such as "insert" or "read token"."""
    verbs = [verb.lower() for verb in table.writable]
    if model in SECRETS:
        secret = table.column_like(SECRETS[model])
        if secret in table.readable and secret not in columns_of(model, table).values():
            verbs.append(f"read {secret}")
    elif model not in needed_models() and table.readable:
        verbs.append("read")
    return verbs


def _tables(deployment: Deployment) -> dict[str, Table]:
    tables = {model: table for model in needed_models() if (table := deployment.catalogue.found(model))}
    if not tables:
        raise ExaminationSkipped("None of the tables was found.")
    return tables


def _role(deployment: Deployment) -> tuple[str, bool, list[str]]:
    with read_only_cursor(deployment.database.alias) as cursor:
        cursor.execute(ROLE)
        name, is_superuser, all_table_groups = cursor.fetchone()
        return str(name), bool(is_superuser), list(all_table_groups)


def _revocations(
    deployment: Deployment, tables: dict[str, Table], role: str, all_table_groups: list[str]
) -> Iterator[str]:
    """Yields SQL that revokes all grants, and then grants the needed columns.

    A grant on the whole table includes all columns, so the unneeded columns alone cannot be revoked.
    """
    for group in all_table_groups:
        yield f"REVOKE {group} FROM {quoted(role)};"
    for model, table in tables.items():
        with read_only_cursor(deployment.database.alias) as cursor:
            cursor.execute(GRANTEES, {"oid": table.oid})
            grantees = ", ".join(name for (name,) in cursor if name not in all_table_groups)
        if grantees:
            yield f"REVOKE ALL ON {table.sql} FROM {grantees};"
        if model in needed_models():
            yield _grant_select(table, list(columns_of(model, table).values()), role)


def _create_role(deployment: Deployment, tables: dict[str, Table]) -> str:
    """Returns SQL that creates a role with only the needed grants, and the setting that uses this role."""
    role, settings = "chatbackend_reader", deployment.database.settings_dict
    server = ":".join(str(part) for part in (settings["HOST"], settings["PORT"]) if part)
    schemas = {table.schema: table for table in tables.values()}
    reads = [model for model in needed_models() if model in tables]
    return "\n".join([
        f"CREATE ROLE {quoted(role)} LOGIN NOINHERIT PASSWORD '…';",
        *[_grant_usage(table, role) for table in schemas.values()],
        *[_grant_select(tables[model], columns_of(model, tables[model]).values(), role) for model in reads],
        f"BETTER_AUTH_DATABASE_URL=postgresql://{role}:…@{server}/{settings['NAME']}",
    ])  # fmt: skip


def _grant_usage(table: Table, role: str) -> str:
    return f"GRANT USAGE ON SCHEMA {quoted(table.schema)} TO {quoted(role)};"


def _grant_select(table: Table, columns: Iterable[str], role: str) -> str:
    return f"GRANT SELECT ({', '.join(map(quoted, columns))}) ON {table.sql} TO {quoted(role)};"
