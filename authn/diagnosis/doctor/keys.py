"""Examines the keys that verify JWTs: those in the jwks table and those at the JWKS URL."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django.utils import timezone

from authn.conf import conf, origin
from authn.diagnosis.doctor.deployment import Deployment, printable_url, read_only_cursor
from authn.diagnosis.doctor.findings import ExaminationSkipped, Finding, failure, ok, warning
from authn.jwt import jwks, keys
from authn.models import SigningKey
from authn.tables import naming

MAX_ROWS = 200  # Better Auth never deletes a row, so there may be very many
WELL_KNOWN = "/.well-known/jwks.json"  # the jwksPath that Better Auth's documentation gives as an example


def keys_table(deployment: Deployment) -> Iterator[Finding]:
    """Examines the keys in the table that have not expired. Better Auth signs with the newest of them."""
    if conf.BETTER_AUTH_KEYS != "database":
        raise ExaminationSkipped(f"We do not use the table: BETTER_AUTH_KEYS={conf.BETTER_AUTH_KEYS}.")
    if deployment.catalogue.configured("jwks") is None:
        raise ExaminationSkipped("There is no table jwks.")
    now, unexpired, usable, faults = timezone.now(), 0, [], {}
    rows = _rows(deployment)
    for row in rows:
        if (expires_at := _expires_at(row)) is not None and expires_at <= now:
            continue
        unexpired += 1
        if fault := keys.why_unusable(row.public_key, getattr(row, "alg", None)):
            faults[row.kid] = fault
        else:
            usable.append(row)
    if not rows:
        yield warning(
            "The table is empty: Better Auth has made no token yet, or stores its keys elsewhere.",
            f"Open {printable_url(conf.BETTER_AUTH_JWKS_URL)} once: this makes the first key. If the jwt() "
            "plugin has a remoteUrl or an adapter, set BETTER_AUTH_KEYS=jwks.",
        )
    elif not unexpired:
        last = max(filter(None, map(_expires_at, rows)))
        yield warning(
            f"Every key has expired, the last one at {last:%Y-%m-%d %H:%M} UTC.",
            "With a rotationInterval, Better Auth makes a new key with its next token. Get a token and run "
            "this again.",
        )
    for kid, fault in faults.items():
        make_finding = warning if usable else failure
        yield make_finding(f"Key {kid} is not usable, so its tokens are refused: {fault}.", _remedy(fault))
    for row in usable:
        expires_at = _expires_at(row)
        until = f", until {expires_at:%Y-%m-%d %H:%M} UTC" if expires_at else ""
        yield ok(f"Key {row.kid} is usable{until}.")


def jwks_url(deployment: Deployment) -> Iterator[Finding]:
    """Examines the JWKS URL and the keys that it serves.

    If the URL serves a key that the table lacks, the URL and the table belong to different Better Auths. The
    table may have keys that the URL does not serve: Better Auth leaves out keys that expired long ago.
    """
    if conf.BETTER_AUTH_KEYS == "secret":
        raise ExaminationSkipped("No key is fetched: BETTER_AUTH_KEYS=secret.")
    url = conf.BETTER_AUTH_JWKS_URL
    if not origin(url):
        raise ExaminationSkipped("BETTER_AUTH_URL is not a URL.")
    make_finding: Any = failure if conf.BETTER_AUTH_KEYS == "jwks" else warning
    response, shown = deployment.jwks_response, printable_url(url)
    if response is None:
        remedy = "Start Better Auth, or set BETTER_AUTH_JWKS_URL to a URL that this machine can reach."
        yield make_finding(f"{shown} does not answer.", remedy)
        return
    if response.status != 200:
        to = f" to {response.location}" if response.location else ""
        yield make_finding(f"{shown} answers {response.status}{to}.", _remedy_for_url(response.location))
        return
    try:
        served = {jwk["kid"]: jwk for jwk in jwks.fetch(url, allow_private=_allow_private())}
    except jwks.PrivateAddressRefused:
        remedy = "BETTER_AUTH_JWKS_PRIVATE=True, if a private network is intended."
        yield failure(f"{shown} is in a private network.", remedy)
        return
    except Exception as exc:
        yield make_finding(f"{shown} has no JWKS document ({type(exc).__name__}).", _remedy_for_url(""))
        return
    if conf.BETTER_AUTH_KEYS == "jwks":
        yield from _examine_served_keys(served, shown)
    elif deployment.unreachable or deployment.catalogue.configured("jwks") is None:
        # The database does not answer or has no such table, so there is nothing to compare the keys with.
        yield ok(f"{shown} serves keys: {len(served)}.")
    else:
        kids = {row.kid for row in _rows(deployment)}
        if unknown := sorted(served.keys() - kids):
            yield failure(
                f"{shown} serves a key that the table does not have ({unknown[0]}): it belongs to another "
                "Better Auth.",
                "Make DATABASE_URL and BETTER_AUTH_URL point to the same Better Auth.",
            )
        else:
            yield ok(f"{shown} serves only keys of the table.")


def _allow_private() -> bool:
    """Whether the JWKS URL may lead to a private IP address.

    A private IP address is always allowed if BETTER_AUTH_KEYS is not "jwks". Then the URL's keys verify no
    JWT: we only compare them to the table's keys.
    """
    return conf.BETTER_AUTH_JWKS_PRIVATE or conf.BETTER_AUTH_KEYS != "jwks"


def _examine_served_keys(served: dict[str, Any], shown_url: str) -> Iterator[Finding]:
    """Yields a finding for each unusable key that the URL serves, and one for the usable keys.

    ``served``: the keys of the JWKS document by their kid.
    """
    faults = {kid: fault for kid, jwk in served.items() if (fault := keys.why_unusable(jwk, jwk.get("alg")))}
    usable = len(served) - len(faults)
    if not served:
        yield warning(
            f"{shown_url} serves no key.",
            "With a rotationInterval, Better Auth makes one with its next token.",
        )
    for kid, fault in faults.items():
        make_finding = warning if usable else failure
        yield make_finding(f"Key {kid} is not usable, so its tokens are refused: {fault}.", _remedy(fault))
    if usable:
        yield ok(f"{shown_url} serves usable keys: {usable}.")


def _remedy(fault: str) -> str:
    algorithm, found, _ = fault.partition(" is not in BETTER_AUTH_ALGORITHMS")
    if found:
        return f"BETTER_AUTH_ALGORITHMS={','.join([*conf.BETTER_AUTH_ALGORITHMS, algorithm])}"
    return (
        "Make Better Auth create a new key: set the expiresAt of this key to the past in Better Auth's own "
        "jwks table, and get a token."
    )


def _remedy_for_url(location: str) -> str:
    """Returns a remedy that names a working JWKS URL, if one of the usual URLs works.

    ``location``: the target of the redirect, which is tried first. "" without a redirect.
    """
    base = origin(conf.BETTER_AUTH_URL) + (urlsplit(conf.BETTER_AUTH_URL).path.rstrip("/") or "/api/auth")
    for url in (location, f"{base}/jwks", base + WELL_KNOWN, origin(base) + WELL_KNOWN):
        try:
            jwks.fetch(url, allow_private=_allow_private())
        except Exception:  # noqa: S112 - this URL has no key set
            continue
        return f"BETTER_AUTH_JWKS_URL={printable_url(url)}"
    return (
        "Check that jwt() is in Better Auth's plugins. If it has a jwks.jwksPath, set BETTER_AUTH_JWKS_URL "
        "to that URL."
    )


def _rows(deployment: Deployment) -> list[SigningKey]:
    """Returns at most MAX_ROWS rows: first the keys that never expire, then the keys that expire last.

    PostgreSQL sorts NULL first in a descending order. Without the column ``expiresAt``, the order is random.
    """
    with read_only_cursor(deployment.database.alias):
        order = ["-expires_at"] if naming.exists("jwks", "expiresAt") else []
        return list(SigningKey.objects.order_by(*order)[:MAX_ROWS])


def _expires_at(row: SigningKey) -> datetime | None:
    """``None`` if the key never expires, or if the table has no ``expiresAt`` (before Better Auth 1.4)."""
    return getattr(row, "expires_at", None)
