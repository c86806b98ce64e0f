"""Better Auth's tables and columns: under the names that the settings give them, or under which others?"""

from collections.abc import Iterator

from authn.conf import conf
from authn.diagnosis.doctor.catalogue import Table, quoted
from authn.diagnosis.doctor.deployment import Deployment, fields_of, read_only_cursor
from authn.diagnosis.doctor.findings import ExaminationSkipped, Finding, failure, ok
from authn.tables import naming

# Columns that Better Auth's own tables have had only since then; an empty name says that they are not there.
SINCE = {("jwks", "expiresAt"): "1.4", ("jwks", "alg"): "1.7"}
PLUGIN_OF = {
    **dict.fromkeys(["role", "banned", "banReason", "banExpires", "impersonatedBy"], "admin"),
    "isAnonymous": "anonymous",
    "activeOrganizationId": "organization",
    "twoFactorEnabled": "two-factor",
}


def needed() -> list[str]:
    """The models whose tables are read."""
    wanted = {
        "user": True,
        "session": conf.BETTER_AUTH_SESSION_SOURCE == "database",
        "jwks": conf.BETTER_AUTH_KEYS == "database",
    }
    return [model for model, is_wanted in wanted.items() if is_wanted]


def tables(deployment: Deployment) -> Iterator[Finding]:
    catalogue = deployment.catalogue
    missing = [model for model in needed() if catalogue.configured(model) is None]
    likely = {model: table for model in missing if (table := catalogue.likely(model))}
    if not likely and len(missing) == len(needed()):
        yield failure(
            f"None of Better Auth's tables is in {deployment.database.settings_dict['NAME']}.",
            "Write Better Auth's own database in DATABASE_URL, or run its migration there: "
            "npx auth@latest migrate",
        )
        return
    named = {model: table.setting for model, table in likely.items() if table.setting != f"public.{model}"}
    mapping = conf.BETTER_AUTH_TABLES | named
    rename = f"BETTER_AUTH_TABLES={','.join(f'{model}={name}' for model, name in mapping.items())}"
    for model in needed():
        table = catalogue.configured(model)
        wanted = conf.BETTER_AUTH_TABLES.get(model, model)
        if table is not None:
            yield ok(f"{model}: {table}.")
        elif model in likely and not likely[model].may_enter_schema:
            role = _role(deployment)
            yield failure(
                f"{model}: {likely[model]} is in a schema that {role} may not enter.",
                f"GRANT USAGE ON SCHEMA {quoted(likely[model].schema)} TO {quoted(role)};"
                + (f"\n{rename}" if model in named else ""),
            )
        elif model in likely:
            yield failure(f"{model}: there is no table {wanted}, but {likely[model]} looks like it.", rename)
        else:
            yield failure(f"{model}: there is no table {wanted}.", WITHOUT[model])


WITHOUT = {
    "user": "Write Better Auth's own database in DATABASE_URL, or run its migration: npx auth@latest migrate",
    "session": "Better Auth keeps its sessions in its secondaryStorage: give it session: "
    "{ storeSessionInDatabase: true } and run its migration, npx auth@latest migrate; or have them read "
    "there: BETTER_AUTH_SESSION_SOURCE=redis://…",
    "jwks": "Better Auth's jwt() plugin is missing, or its migration: add jwt() to plugins, then npx "
    "auth@latest "
    "migrate; or BETTER_AUTH_KEYS=jwks where its keys are elsewhere",
}


def columns(deployment: Deployment) -> Iterator[Finding]:
    """Under the names that the settings give; if there are none of these, under those they seem to have."""
    found = found_of(deployment)
    absent: list[tuple[str, str]] = []
    likely: dict[str, str] = {}
    for model, table in found.items():
        for name, column in fields_of(model).items():
            if column in table.types:
                continue
            absent.append((model, name))
            like = table.column_like(name) or ("" if (model, name) in SINCE else None)
            if like is not None:
                likely[f"{model}.{name}"] = like
    if not absent:
        yield ok(f"All that are read exist in {', '.join(map(str, found.values()))}.")
        return
    other_naming = _naming_that_fits(found)
    named = ",".join(f"{field}={column}" for field, column in (conf.BETTER_AUTH_COLUMNS | likely).items())
    for model, name in absent:
        fault = f"{found[model]} has no column {fields_of(model)[name]}"
        like = likely.get(f"{model}.{name}")
        if like is None:
            yield failure(f"{fault}.", _without(model, name))
        elif not like:
            yield failure(
                f"{fault}, as before Better Auth {SINCE[model, name]}.", f"BETTER_AUTH_COLUMNS={named}"
            )
        elif other_naming:
            yield failure(f"{fault}, but {like}.", f"BETTER_AUTH_NAMING={other_naming}")
        else:
            yield failure(f"{fault}, but {like}.", f"BETTER_AUTH_COLUMNS={named}")


def _naming_that_fits(found: dict[str, Table]) -> str | None:
    """The other spelling, if every column is there under it."""
    other = "camel" if conf.BETTER_AUTH_NAMING == "snake" else "snake"
    given = conf.BETTER_AUTH_COLUMNS
    renamed = (
        given.get(f"{model}.{name}", naming.convert(name, other)) in table.types
        for model, table in found.items()
        for name in fields_of(model)
    )
    return other if all(renamed) else None


def _without(model: str, name: str) -> str:
    if plugin := PLUGIN_OF.get(name):
        rest = ",".join(each for each in conf.BETTER_AUTH_PLUGINS if each != plugin)
        return (
            f"Run Better Auth's migration, npx auth@latest migrate; or, without its {plugin} plugin, "
            f"BETTER_AUTH_PLUGINS={rest}"
        )
    return f"Say what it is called: BETTER_AUTH_COLUMNS={model}.{name}=…"


def columns_of(model: str, table: Table) -> dict[str, str]:
    """The fields that we read and their columns: those of the settings or, where these are not there,
    those that look like them."""
    columns = {
        name: column if column in table.types else table.column_like(name)
        for name, column in fields_of(model).items()
    }
    return {name: column for name, column in columns.items() if column}


def found_of(deployment: Deployment) -> dict[str, Table]:
    found = {model: table for model in needed() if (table := deployment.catalogue.found(model))}
    if not found:
        raise ExaminationSkipped("There are no tables to look at.")
    return found


def _role(deployment: Deployment) -> str:
    with read_only_cursor(deployment.database.alias) as cursor:
        cursor.execute("SELECT current_user")
        return str(cursor.fetchone()[0])
