"""Makes an entry of Django's ``DATABASES`` from a database URL that may be written for another program.

Prisma, node-postgres, JDBC and SQLAlchemy have parameters of their own, which libpq refuses. This module:

- translates parameters for which libpq has an equivalent
- ignores parameters about connection pools
- refuses all other parameters
"""

import re
from typing import Any
from urllib.parse import parse_qsl, quote, unquote
from warnings import catch_warnings

import environ
import psycopg
from psycopg.conninfo import make_conninfo

POSTGRESQL = {"postgresql", "postgres", "pgsql", "psql"}
LIBPQ = {each.keyword.decode() for each in psycopg.pq.Conninfo.get_defaults()}
NUMBERS = {"connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"}
DJANGO_KEYS = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}

TRUE, FALSE = {"true", "1", "on", "yes", ""}, {"false", "0", "off", "no"}
RENAMED = {
    "ApplicationName": "application_name",
    "connectTimeout": "connect_timeout",
    "currentSchema": "schema",
    "loginTimeout": "connect_timeout",
    "search_path": "schema",
    "ssl": "sslmode",
}
MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# Node's no-verify is like libpq's require: it encrypts the connection and does not check the certificate.
SSL_MODES = dict.fromkeys([*TRUE, "no-verify"], "require") | dict.fromkeys(FALSE, "disable")
# A pooler may not support prepared statements. These are the drivers' parameters that turn them off, with the
# values that do so.
NO_PREPARED_STATEMENTS = {
    "pgbouncer": TRUE,
    "prepare": FALSE,
    "prepareThreshold": {"0"},
    "prepared_statement_cache_size": {"0"},
    "prepared_statements": FALSE,
    "statement_cache_size": {"0"},
}
IGNORED = {
    # The size and times of a connection pool. We have no pool: we keep WORKER_THREADS connections.
    *("connection_limit", "pool_timeout", "max_connection_lifetime", "max_idle_connection_lifetime"),
    *("pool", "pool_size", "pool_max_conns", "max_overflow", "max", "conn_max_age", "conn_health_checks"),
    "uselibpqcompat",  # makes node-postgres behave like libpq, and we use libpq
    "encoding",  # Django always uses UTF-8
    "supa",  # only for Supabase's pooler
}

ENCODE = "Percent-encode special characters in the user's name and password: %40 for @, %2F for /, %3F for ?."
TIMEOUT = "Set the timeout of statements in DATABASE_TIMEOUT_SECONDS."
HINTS = {
    "lock_timeout": TIMEOUT,
    "query_timeout": TIMEOUT,
    "socketTimeout": TIMEOUT,
    "socket_timeout": TIMEOUT,
    "sslaccept": "Write sslmode=verify-full and sslrootcert=, a file with the certificates to trust.",
    "sslidentity": "Write sslcert= and sslkey=, two PEM files.",
    "statement_timeout": TIMEOUT,
}
DOCUMENTED = "libpq's parameters: https://www.postgresql.org/docs/current/libpq-connect.html"


class UnusableUrl(Exception):
    """The database URL cannot be used.

    ``fault``: the end of a sentence that begins with the variable's name. ``hint``: how to fix the URL. Both
    quote no value of the URL: if the password is badly encoded, any value may contain a part of the password.
    """

    def __init__(self, fault: str, hint: str) -> None:
        super().__init__(fault)
        self.fault, self.hint = fault, hint


def configure(parsed: dict[str, Any], timeout_seconds: float, *, keeps_connections: bool) -> dict[str, Any]:
    """Return an entry of ``DATABASES``.

    ``parsed``: the result of ``parse``. If it is empty, the entry has no engine. ``timeout_seconds``: the
    time limit for a connection attempt. ``keeps_connections``: whether threads keep their connections.
    """
    # The health checks find dead connections after the database was restarted, or suspended as at Neon.
    kept = {"CONN_HEALTH_CHECKS": True, "CONN_MAX_AGE": None if keeps_connections else 0}
    entry: dict[str, Any] = {"ENGINE": "", **kept, **parsed}
    if entry["ENGINE"].endswith(".sqlite3"):  # only for Better Auth's tables on a developer's machine
        # Open the file read-only, and do not create it. ``detect_types``: Python's own converters would read
        # Better Auth's dates as None.
        return entry | {"NAME": f"file:{quote(entry['NAME'])}?mode=ro", "OPTIONS": {"detect_types": 0}}
    # Leave out an engine that Django does not have. It would stop the start before any system check runs.
    entry["ENGINE"] = "runtime.postgresql" if entry["ENGINE"].endswith(".postgresql") else ""
    options = {
        "connect_timeout": int(timeout_seconds),
        # Keepalives detect that the database server is gone. They also keep a NAT from dropping an idle
        # connection.
        "keepalives_idle": 60,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        # Prepare frequent statements on the server.
        "server_side_binding": True,
        "prepare_threshold": 5,
    }
    return entry | {"OPTIONS": options | parsed.get("OPTIONS", {})}


def parse(url: str) -> dict[str, Any]:
    """Return the values of the URL under the keys of ``DATABASES``.

    Returns an empty dict if the URL is not one of PostgreSQL or SQLite. Raises ``UnusableUrl`` for a
    PostgreSQL URL that libpq would refuse.
    """
    url = url.strip().removeprefix("jdbc:")
    scheme, _, rest = url.partition("://")
    kind = scheme.lower().partition("+")[0]  # without SQLAlchemy's +psycopg2
    if kind == "prisma":
        hint = "Write the URL of the database itself. It begins with postgresql://."
        raise UnusableUrl("is the URL of a Prisma service", hint)
    if kind == "sqlite":
        return _read(url)
    if kind not in POSTGRESQL:
        return {}
    location, _, query = rest.partition("?")
    database = _read(f"postgresql://{location}")
    return database and database | _read_parameters(database, query)


def _read(url: str) -> dict[str, Any]:
    if "\0" in unquote(url):
        return {}
    try:
        with catch_warnings(action="ignore"):  # a warning would print the URL with its password
            return dict(environ.Env.db_url_config(url))
    except ValueError:
        return {}


def _read_parameters(database: dict[str, Any], query: str) -> dict[str, Any]:
    """Return the keys of ``database`` that the URL's parameters add or replace, with their values."""
    given = dict(parse_qsl(query, keep_blank_values=True))
    for theirs, ours in RENAMED.items():
        if theirs in given:
            given.setdefault(ours, given.pop(theirs))
    if "sslmode" in given:
        given["sslmode"] = SSL_MODES.get(given["sslmode"].lower(), given["sslmode"])
    turned_off = [
        given.pop(name).lower() in values for name, values in NO_PREPARED_STATEMENTS.items() if name in given
    ]
    is_pooled = any(turned_off) or "pooler" in str(database["HOST"])
    if (schema := given.pop("schema", "")) not in ("", "public"):
        given["options"] = f"{given.get('options', '')} {_search_path(schema, is_pooled)}".lstrip()
    options: dict[str, Any] = {name: value for name, value in given.items() if name not in IGNORED}
    _check(options, query)
    read = {DJANGO_KEYS[name]: options.pop(name) for name in DJANGO_KEYS if name in options}
    if any(turned_off):
        # Such a pooler also breaks server-side cursors: between two reads of a cursor, it may give the
        # connection to another client.
        options["prepare_threshold"], read["DISABLE_SERVER_SIDE_CURSORS"] = None, True
    return read | {"OPTIONS": options}


def _search_path(schemas: str, is_pooled: bool) -> str:
    if is_pooled:  # PgBouncer and Neon's pooler refuse connections that set a search path
        raise UnusableUrl(
            "names a schema, which a pooler does not pass on",
            "Leave it out, and run: ALTER ROLE … SET search_path = …; or write the direct URL.",
        )
    names = (name.strip().replace('"', '""') for name in schemas.split(","))
    quoted = ",".join(f'"{name}"' for name in names)
    return "-c search_path=" + re.sub(r"([\\\s])", r"\\\1", quoted)  # PostgreSQL's escapes


def _check(given: dict[str, str], query: str) -> None:
    unknown = sorted(given.keys() - LIBPQ)
    if unknown and ("@" in query or not all(name.isidentifier() for name in unknown)):
        # Do not quote these names: a name may be a part of the password.
        raise UnusableUrl("cannot be read as a URL", ENCODE)
    if unknown:
        names = ", ".join(unknown)
        instead = dict.fromkeys(HINTS[name] for name in unknown if name in HINTS)
        hint = " ".join([f"Leave out {names}.", *instead, DOCUMENTED])
        raise UnusableUrl(f"has parameters that are not libpq's: {names}", hint)
    wrong = [name for name in NUMBERS & given.keys() if not given[name].isdecimal()]
    if wrong := sorted(wrong) or _refused_by_libpq(given):
        raise UnusableUrl(
            f"has a value that libpq refuses for {', '.join(wrong)}",
            f"sslmode is one of {', '.join(MODES)}." if "sslmode" in wrong else DOCUMENTED,
        )


def _refused_by_libpq(given: dict[str, str]) -> list[str]:
    """Return the parameters that libpq refuses. libpq checks all values before it connects.

    The host does not exist, so the attempt cannot connect.
    """
    nowhere = {name: value for name, value in given.items() if name != "service"}
    nowhere |= {"host": "/nowhere", "hostaddr": "", "port": given.get("port", "").partition(",")[0]}
    try:
        connection = psycopg.pq.PGconn.connect_start(make_conninfo(**nowhere).encode())
    except (psycopg.Error, ValueError):
        return sorted(given)
    message = connection.error_message.decode(errors="replace")
    return [name for name in given if re.search(rf"\b{name}\b", message)]
