"""Whose tokens are expected, and for whom; and a token, if one is at hand."""

from collections.abc import Iterator

from authn.conf import conf, origin
from authn.diagnosis.doctor.deployment import Deployment
from authn.diagnosis.doctor.findings import ExaminationSkipped, Finding, Outcome, failure, ok, warning
from authn.diagnosis.explanation import explain


def issuer(deployment: Deployment) -> Iterator[Finding]:
    yield from _compared("issuer", "BETTER_AUTH_ISSUER", [conf.BETTER_AUTH_ISSUER], deployment)


def audience(deployment: Deployment) -> Iterator[Finding]:
    yield from _compared("audience", "BETTER_AUTH_AUDIENCE", conf.BETTER_AUTH_AUDIENCE, deployment)


def _compared(name: str, variable: str, wanted: list[str], deployment: Deployment) -> Iterator[Finding]:
    """With what Better Auth derives from its baseURL, unless its jwt() plugin is told another."""
    derived = origin(conf.BETTER_AUTH_URL)
    if not derived:
        raise ExaminationSkipped("BETTER_AUTH_URL is no address.")
    shown = ", ".join(wanted)
    if wanted == [derived]:
        yield ok(f"{derived}, which Better Auth derives from its baseURL.")
    elif deployment.token and explain(deployment.token).passed(name):
        yield ok(f"{shown}, as the token says.")
    elif derived not in wanted and derived in map(origin, wanted):
        yield failure(
            f"{shown} is not to the letter what Better Auth derives from its baseURL, {derived}: tokens are "
            f"refused.",
            f"Leave {variable} out; if jwt: {{ {name} }} of the jwt() plugin does say so, --token shows "
            f"that it is right.",
        )
    elif derived not in wanted:
        yield warning(
            f"{shown} is not what Better Auth derives from its baseURL, {derived}.",
            f"That is right where jwt: {{ {name} }} of the jwt() plugin says so: --token shows it. Else "
            f"leave {variable} out.",
        )
    else:
        yield ok(f"{shown}, among them what Better Auth derives from its baseURL.")


def token(deployment: Deployment) -> Iterator[Finding]:
    if not deployment.token:
        what = "BETTER_AUTH_SECRET" if conf.BETTER_AUTH_KEYS == "secret" else "Issuer, audience and keys"
        raise ExaminationSkipped(f"{what} can be tried on a token: --token - reads one from stdin.")
    explained = explain(deployment.token)
    if explained.accepted:
        yield ok("The token is accepted.")
    else:
        yield Finding(
            Outcome.FAILURE,
            f"The token is refused ({explained.reason}): {explained.message}",
            explained.remedy,
        )
