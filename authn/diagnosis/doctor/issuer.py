"""Examines the expected issuer and audience, and a token if one is given."""

from collections.abc import Iterator

from authn.conf import conf, origin
from authn.diagnosis.doctor.deployment import Deployment
from authn.diagnosis.doctor.findings import ExaminationSkipped, Finding, Outcome, failure, ok, warning
from authn.diagnosis.explanation import JWT_STEPS, explain


def issuer(deployment: Deployment) -> Iterator[Finding]:
    yield from _compared("issuer", "BETTER_AUTH_ISSUER", [conf.BETTER_AUTH_ISSUER], deployment)


def audience(deployment: Deployment) -> Iterator[Finding]:
    yield from _compared("audience", "BETTER_AUTH_AUDIENCE", conf.BETTER_AUTH_AUDIENCE, deployment)


def _compared(name: str, variable: str, expected: list[str], deployment: Deployment) -> Iterator[Finding]:
    """Compares a setting to Better Auth's default. The jwt() plugin's options can change the value in Better
    Auth, so a different setting may be right."""
    default = origin(conf.BETTER_AUTH_URL)
    if not default:
        raise ExaminationSkipped("BETTER_AUTH_URL is not a URL.")
    shown = ", ".join(expected)
    if expected == [default]:
        yield ok(f"{default} is Better Auth's default.")
    elif deployment.token and _passed(deployment.token, name):
        yield ok(f"{shown} is the token's {name}.")
    elif default not in expected and default in map(origin, expected):
        yield failure(
            f"{shown} is not exactly Better Auth's default, {default}: tokens are refused.",
            f"Remove {variable}. If the jwt() plugin's option jwt: {{ {name} }} has this value, run this "
            "again with --token to confirm it.",
        )
    elif default not in expected:
        yield warning(
            f"{shown} is not Better Auth's default, {default}.",
            f"If the jwt() plugin's option jwt: {{ {name} }} has this value, run this again with --token to "
            f"confirm it. Otherwise remove {variable}.",
        )
    else:
        yield ok(f"{shown} includes Better Auth's default.")


def _passed(given: str, step: str) -> bool:
    """Whether a JWT of the jwt() plugin has passed the step. An access token has another issuer."""
    explained = explain(given)
    return explained.all_steps is JWT_STEPS and explained.passed(step)


def token(deployment: Deployment) -> Iterator[Finding]:
    if not deployment.token:
        tested = "BETTER_AUTH_SECRET" if conf.BETTER_AUTH_KEYS == "secret" else "issuer, audience and keys"
        raise ExaminationSkipped(f"To test {tested} with a token, use --token - and give it on stdin.")
    explained = explain(deployment.token)
    if explained.accepted:
        yield ok("The token is accepted.")
    else:
        yield Finding(
            Outcome.FAILURE,
            f"The token is refused ({explained.reason}): {explained.message}",
            explained.remedy,
        )
