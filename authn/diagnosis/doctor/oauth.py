"""Examines what OAuth access tokens need: the authorization server, and how Better Auth stores its tokens."""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from authn.conf import conf
from authn.diagnosis.doctor.catalogue import quoted
from authn.diagnosis.doctor.deployment import (
    HTTP_TIMEOUT_SECONDS,
    Deployment,
    printable_url,
    read_only_cursor,
)
from authn.diagnosis.doctor.findings import ExaminationSkipped, Finding, failure, ok, warning
from authn.diagnosis.doctor.tables import columns_of
from authn.tables import naming

MAX_BYTES = 64 * 1024

# Of a hundred tokens, how many are the base64url of a SHA-256.
HASHES = """
SELECT count(*) FILTER (WHERE stored ~ '^[A-Za-z0-9_-]{{43}}$'), count(*)
FROM (SELECT {token} AS stored FROM {table} LIMIT 100) some_tokens
"""


def access_tokens(deployment: Deployment) -> Iterator[Finding]:
    if not naming.is_declared("oauthAccessToken"):
        raise ExaminationSkipped(
            "BETTER_AUTH_PLUGINS does not list oauth-provider: no access token is accepted."
        )
    yield from _stored_tokens(deployment)
    yield from _authorization_server()


def _authorization_server() -> Iterator[Finding]:
    """Compares the expected issuer to the metadata of Better Auth (RFC 8414)."""
    url = _metadata_url(conf.BETTER_AUTH_OAUTH_ISSUER)
    found = _fetch(url)
    if isinstance(found, int):
        yield warning(
            f"{url} responds with {found}. OAuth clients look for Better Auth there.",
            "Add mcp() or oauthProvider() to Better Auth's plugins. If Better Auth is an app below another "
            "server, let that server serve this path too.",
        )
        return
    named = found.get("issuer")
    if named == conf.BETTER_AUTH_OAUTH_ISSUER:
        yield ok(f"{named} is the issuer of access tokens.")
    else:
        shown = printable_url(str(named)) or "no URL"
        yield failure(
            f"Better Auth's issuer of access tokens is {shown}, and {conf.BETTER_AUTH_OAUTH_ISSUER} is "
            "expected: tokens are refused.",
            f"BETTER_AUTH_OAUTH_ISSUER={shown}",
        )
    if "S256" not in (found.get("code_challenge_methods_supported") or []):
        yield warning("Better Auth offers no PKCE (S256).", "MCP clients need it: update @better-auth/mcp.")
    if "registration_endpoint" not in found and not found.get("client_id_metadata_document_supported"):
        yield warning(
            "No OAuth client can register itself at Better Auth.",
            "Add cimd() to Better Auth's plugins, or set allowDynamicClientRegistration in mcp().",
        )


def _stored_tokens(deployment: Deployment) -> Iterator[Finding]:
    """Finds opaque tokens that are stored in another form, because of the plugin's option ``storeTokens``."""
    table = deployment.catalogue.found("oauthAccessToken")
    columns = columns_of("oauthAccessToken", table) if table else {}
    is_readable = table is not None and columns.get("token") in table.readable
    if table is None or not is_readable or deployment.database.vendor != "postgresql":
        return  # the examinations "tables", "columns" and "grants" report it
    with read_only_cursor(deployment.database.alias) as cursor:
        cursor.execute(HASHES.format(token=quoted(columns["token"]), table=table.sql))
        hashes, number = cursor.fetchone()
    if number and not hashes:
        yield failure(
            "Opaque access tokens are not stored as a SHA-256: they are refused.",
            'Set storeTokens: "hashed" in Better Auth. It is the default.',
        )
    elif number:
        yield ok("Opaque access tokens are stored as a SHA-256.")
    else:
        yield ok("There are no opaque access tokens.")


def _metadata_url(issuer: str) -> str:
    parts = urlsplit(issuer)
    return parts._replace(path=f"/.well-known/oauth-authorization-server{parts.path.rstrip('/')}").geturl()


def _fetch(url: str) -> dict[str, Any] | int:
    """Returns the document, or the status of the response. Skips the examination if there is no response."""
    if find_spec("httpx2") is None:
        raise ExaminationSkipped('The package httpx2 is missing: pip install "chatbackend[jwks]"')
    import httpx2

    try:
        with httpx2.stream("GET", url, timeout=HTTP_TIMEOUT_SECONDS, follow_redirects=False) as response:
            body = b""
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > MAX_BYTES:
                    break
    except (httpx2.HTTPError, httpx2.InvalidURL):
        raise ExaminationSkipped(f"Nothing answers at {printable_url(url)}.") from None
    if response.status_code != httpx2.codes.OK:
        return int(response.status_code)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}
