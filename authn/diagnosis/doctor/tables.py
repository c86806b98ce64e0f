"""Examines whether Better Auth's tables and columns have the names in the settings, and finds other names."""

from collections.abc import Iterator

from authn.conf import conf
from authn.diagnosis.doctor.catalogue import Table, quoted
from authn.diagnosis.doctor.deployment import Deployment, fields_of, read_only_cursor
from authn.diagnosis.doctor.findings import ExaminationSkipped, Finding, failure, ok
from authn.tables import naming

# The version of Better Auth that added a column. In an older database the column is missing: then the
# settings give it an empty name in BETTER_AUTH_COLUMNS.
ADDED_IN = {("jwks", "expiresAt"): "1.4", ("jwks", "alg"): "1.7"}
PLUGIN_OF = {
    **dict.fromkeys(["role", "banned", "banReason", "banExpires", "impersonatedBy"], "admin"),
    "isAnonymous": "anonymous",
    "activeOrganizationId": "organization",
    "twoFactorEnabled": "two-factor",
}


PLUGIN_OF_TABLE = {
    "member": "organization",
    **dict.fromkeys(["oauthAccessToken", "oauthClient", "oauthConsent"], "oauth-provider"),
}


def needed_models() -> list[str]:
    """Returns the models whose tables we read, with these settings."""
    wanted = {
        "user": True,
        "session": conf.BETTER_AUTH_SESSION_SOURCE == "database",
        "jwks": conf.BETTER_AUTH_KEYS == "database",
        **{model: naming.is_declared(model) for model in PLUGIN_OF_TABLE},
    }
    return [model for model, is_wanted in wanted.items() if is_wanted]


def tables(deployment: Deployment) -> Iterator[Finding]:
    catalogue = deployment.catalogue
    missing = [model for model in needed_models() if catalogue.configured(model) is None]
    likely = {model: table for model in missing if (table := catalogue.likely(model))}
    if not likely and len(missing) == len(needed_models()):
        yield failure(
            f"None of Better Auth's tables is in {deployment.database.settings_dict['NAME']}.",
            "Set DATABASE_URL to Better Auth's own database, or run its migration: npx auth@latest migrate",
        )
        return
    named = {model: table.setting for model, table in likely.items() if table.setting != f"public.{model}"}
    mapping = conf.BETTER_AUTH_TABLES | named
    rename = f"BETTER_AUTH_TABLES={','.join(f'{model}={name}' for model, name in mapping.items())}"
    for model in needed_models():
        table = catalogue.configured(model)
        wanted = ".".join(filter(None, naming.schema_and_table(model)))
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
            yield failure(f"{model}: there is no table {wanted}.", REMEDIES[model])


REMEDIES = {
    "user": "Set DATABASE_URL to Better Auth's own database, or run its migration: npx auth@latest migrate",
    "session": "Better Auth may store its sessions in its secondaryStorage. Set session: "
    "{ storeSessionInDatabase: true } there and run its migration, npx auth@latest migrate. Or set "
    "BETTER_AUTH_SESSION_SOURCE=redis://…",
    "jwks": "Better Auth's jwt() plugin or its migration is missing: add jwt() to plugins, then run "
    "npx auth@latest migrate. If its keys are elsewhere, set BETTER_AUTH_KEYS=jwks",
    "member": "Run Better Auth's migration, npx auth@latest migrate. Or, if it has no organization plugin, "
    "remove organization from BETTER_AUTH_PLUGINS",
    **dict.fromkeys(
        ["oauthAccessToken", "oauthClient", "oauthConsent"],
        "Run Better Auth's migration, npx auth@latest migrate. Or, if it has no mcp() or oauthProvider() "
        "plugin, remove oauth-provider from BETTER_AUTH_PLUGINS",
    ),
}


def columns(deployment: Deployment) -> Iterator[Finding]:
    """Compares the columns to the names in the settings. Suggests a similar column for a missing one."""
    found = found_tables(deployment)
    absent: list[tuple[str, str]] = []
    likely: dict[str, str] = {}
    for model, table in found.items():
        for name, column in fields_of(model).items():
            if column in table.types:
                continue
            absent.append((model, name))
            similar = table.column_like(name) or ("" if (model, name) in ADDED_IN else None)
            if similar is not None:
                likely[f"{model}.{name}"] = similar
    if not absent:
        yield ok(f"All columns that we read exist in {', '.join(map(str, found.values()))}.")
        return
    other_naming = _naming_that_fits(found)
    named = ",".join(f"{field}={column}" for field, column in (conf.BETTER_AUTH_COLUMNS | likely).items())
    plugins = set(filter(None, (_plugin_of(model, name) for model, name in absent)))
    for model, name in absent:
        fault = f"{found[model]} has no column {fields_of(model)[name]}"
        similar = likely.get(f"{model}.{name}")
        if similar is None:
            yield failure(f"{fault}.", _remedy(model, name, plugins))
        elif not similar:
            yield failure(
                f"{fault}. Better Auth added it in {ADDED_IN[model, name]}.", f"BETTER_AUTH_COLUMNS={named}"
            )
        elif other_naming:
            yield failure(f"{fault}, but {similar}.", f"BETTER_AUTH_NAMING={other_naming}")
        else:
            yield failure(f"{fault}, but {similar}.", f"BETTER_AUTH_COLUMNS={named}")


def _naming_that_fits(found: dict[str, Table]) -> str | None:
    """Returns the other BETTER_AUTH_NAMING if all columns have their names in that naming, or ``None``."""
    other = "camel" if conf.BETTER_AUTH_NAMING == "snake" else "snake"
    given = conf.BETTER_AUTH_COLUMNS
    renamed = (
        given.get(f"{model}.{name}", naming.convert(name, other)) in table.types
        for model, table in found.items()
        for name in fields_of(model)
    )
    return other if all(renamed) else None


def _remedy(model: str, name: str, plugins: set[str]) -> str:
    """``plugins``: those with a missing column. All their columns have the same remedy."""
    if _plugin_of(model, name):
        rest = ",".join(each for each in conf.BETTER_AUTH_PLUGINS if each not in plugins)
        listed = " or ".join(each for each in conf.BETTER_AUTH_PLUGINS if each in plugins)
        return (
            f"Run Better Auth's migration, npx auth@latest migrate. Or, if it has no {listed} plugin, set "
            f"BETTER_AUTH_PLUGINS={rest}"
        )
    return f"Write the column's name: BETTER_AUTH_COLUMNS={model}.{name}=…"


def _plugin_of(model: str, name: str) -> str | None:
    return PLUGIN_OF_TABLE.get(model) or PLUGIN_OF.get(name)


def columns_of(model: str, table: Table) -> dict[str, str]:
    """Returns the fields that we read, and for each its column in the table.

    This is the column that the settings name. If it is missing, it is a column with a similar name.
    """
    columns = {
        name: column if column in table.types else table.column_like(name)
        for name, column in fields_of(model).items()
    }
    return {name: column for name, column in columns.items() if column}


def found_tables(deployment: Deployment) -> dict[str, Table]:
    found = {model: table for model in needed_models() if (table := deployment.catalogue.found(model))}
    if not found:
        raise ExaminationSkipped("None of the tables was found.")
    return found


def _role(deployment: Deployment) -> str:
    with read_only_cursor(deployment.database.alias) as cursor:
        cursor.execute("SELECT current_user")
        return str(cursor.fetchone()[0])
