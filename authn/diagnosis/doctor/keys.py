"""The keys that verify tokens: in the table, at Better Auth's address, and whether these are the same."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django.utils import timezone

from authn.conf import conf, origin
from authn.diagnosis.doctor.deployment import Deployment, address, read_only_cursor
from authn.diagnosis.doctor.findings import ExaminationSkipped, Finding, failure, ok, warning
from authn.jwt import jwks, keys
from authn.models import SigningKey
from authn.tables import naming

MOST = 200  # Better Auth never deletes a row, and only the last few can matter
WELL_KNOWN = "/.well-known/jwks.json"  # what its documentation gives as another jwksPath


def keys_table(deployment: Deployment) -> Iterator[Finding]:
    """Better Auth signs with the newest key that has not expired."""
    if conf.BETTER_AUTH_KEYS != "database":
        raise ExaminationSkipped(f"The table is not read: BETTER_AUTH_KEYS={conf.BETTER_AUTH_KEYS}.")
    if deployment.catalogue.configured("jwks") is None:
        raise ExaminationSkipped("There is no table of keys.")
    now, live, usable, faults = timezone.now(), 0, [], {}
    rows = _rows(deployment)
    for row in rows:
        if (expires_at := _expires_at(row)) is not None and expires_at <= now:
            continue
        live += 1
        if fault := keys.why_unusable(row.public_key, getattr(row, "alg", None)):
            faults[row.kid] = fault
        else:
            usable.append(row)
    if not rows:
        yield warning(
            "The table is empty: Better Auth has made no token yet, or has its keys elsewhere.",
            f"Open {address(conf.BETTER_AUTH_JWKS_URL)} once, which makes the first key; or "
            f"BETTER_AUTH_KEYS=jwks "
            "where the jwt() plugin is given a remoteUrl or an adapter.",
        )
    elif not live:
        last = max(filter(None, map(_expires_at, rows)))
        yield warning(
            f"Every key is retired, the last one since {last:%Y-%m-%d %H:%M} UTC.",
            "With a rotationInterval Better Auth makes another at its next token: get one and run this "
            "again.",
        )
    for kid, fault in faults.items():
        say = warning if usable else failure
        yield say(f"Key {kid} is not usable, and tokens that it signs are refused: {fault}.", _remedy(fault))
    for row in usable:
        expires_at = _expires_at(row)
        until = f", until {expires_at:%Y-%m-%d %H:%M} UTC" if expires_at else ""
        yield ok(f"Key {row.kid} is usable{until}.")


def jwks_url(deployment: Deployment) -> Iterator[Finding]:
    """Somebody else's keys there are somebody else's tables here, or the other way round."""
    if conf.BETTER_AUTH_KEYS == "secret":
        raise ExaminationSkipped("No key is fetched: BETTER_AUTH_KEYS=secret.")
    url = conf.BETTER_AUTH_JWKS_URL
    if not origin(url):
        raise ExaminationSkipped("BETTER_AUTH_URL is no address.")
    say: Any = failure if conf.BETTER_AUTH_KEYS == "jwks" else warning
    answer, shown = deployment.answer, address(url)
    if answer is None:
        hint = "Start Better Auth, or write the address that it has for this machine in BETTER_AUTH_JWKS_URL."
        yield say(f"{shown} does not answer.", hint)
        return
    if answer.status != 200:
        to = f" to {answer.location}" if answer.location else ""
        yield say(f"{shown} answers {answer.status}{to}.", _elsewhere(answer.location))
        return
    try:
        served = {jwk["kid"]: jwk for jwk in jwks.fetch(url, allow_private=_allow_private())}
    except jwks.PrivateAddressRefused:
        yield failure(f"{shown} is in a private network.", "BETTER_AUTH_JWKS_PRIVATE=True, if that is meant.")
        return
    except Exception as exc:
        yield say(f"{shown} is no JWKS document ({type(exc).__name__}).", _elsewhere(""))
        return
    if conf.BETTER_AUTH_KEYS == "jwks":
        yield from _served(served, shown)
    elif deployment.unreachable or deployment.catalogue.configured("jwks") is None:
        yield ok(f"{shown} serves {len(served)} keys.")
    else:
        kids = {row.kid for row in _rows(deployment)}
        if strange := sorted(served.keys() - kids):
            yield failure(
                f"{shown} serves a key that the table does not have ({strange[0]}): it is another Better "
                f"Auth's.",
                "Write this Better Auth's database in DATABASE_URL, or that one's address in "
                "BETTER_AUTH_URL.",
            )
        else:
            yield ok(f"{shown} serves the keys of the table.")


def _allow_private() -> bool:
    """What is only compared with the table, and verifies nothing, may come from anywhere."""
    return conf.BETTER_AUTH_JWKS_PRIVATE or conf.BETTER_AUTH_KEYS != "jwks"


def _served(served: dict[str, Any], shown: str) -> Iterator[Finding]:
    faults = {kid: fault for kid, jwk in served.items() if (fault := keys.why_unusable(jwk, jwk.get("alg")))}
    usable = len(served) - len(faults)
    if not served:
        yield warning(
            f"{shown} serves no key.", "With a rotationInterval Better Auth makes one at its next token."
        )
    for kid, fault in faults.items():
        say = warning if usable else failure
        yield say(f"Key {kid} is not usable, and tokens that it signs are refused: {fault}.", _remedy(fault))
    if usable:
        yield ok(f"{shown} serves {usable} usable keys.")


def _remedy(fault: str) -> str:
    algorithm = fault.partition(" is not in BETTER_AUTH_ALGORITHMS")
    if algorithm[1]:
        return f"BETTER_AUTH_ALGORITHMS={','.join([*conf.BETTER_AUTH_ALGORITHMS, algorithm[0]])}"
    return "Have Better Auth make another: set this row's expiresAt to the past, and get a token."


def _elsewhere(location: str) -> str:
    """The usual other places, tried."""
    base = origin(conf.BETTER_AUTH_URL) + (urlsplit(conf.BETTER_AUTH_URL).path.rstrip("/") or "/api/auth")
    for url in (location, f"{base}/jwks", base + WELL_KNOWN, origin(base) + WELL_KNOWN):
        try:
            jwks.fetch(url, allow_private=_allow_private())
        except Exception:  # noqa: S112 - it is not there either
            continue
        return f"BETTER_AUTH_JWKS_URL={address(url)}"
    return (
        "BETTER_AUTH_JWKS_URL=… the address of the jwt() plugin's jwks.jwksPath; is jwt() in Better "
        "Auth's plugins?"
    )


def _rows(deployment: Deployment) -> list[SigningKey]:
    with read_only_cursor(deployment.database.alias):
        newest_first = ["-expires_at"] if naming.exists("jwks", "expiresAt") else []
        return list(SigningKey.objects.order_by(*newest_first)[:MOST])


def _expires_at(row: SigningKey) -> datetime | None:
    """Tables from before Better Auth 1.4 do not say."""
    return getattr(row, "expires_at", None)
