"""``manage.py betterauth doctor``: is this deployment in order, and if not, what is to be done?

Each examination looks at one thing and yields findings. It reads, and changes nothing; what it asks
the database is bounded; what it says holds no password, secret or token.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.db import DatabaseError
from django.views.decorators.debug import sensitive_variables

from authn.diagnosis.doctor import (
    database,
    grants,
    issuer,
    keys,
    sessions,
    settings,
    tables,
    types_and_indexes,
)
from authn.diagnosis.doctor.deployment import Deployment
from authn.diagnosis.doctor.findings import ExaminationSkipped, Finding, Outcome

EXAMINATIONS: dict[str, Callable[[Deployment], Iterator[Finding]]] = {
    "settings": settings.system_checks,
    "plugins": settings.plugins,
    "database": database.reachable,
    "connections": database.connection_limit,
    "tables": tables.tables,
    "columns": tables.columns,
    "types": types_and_indexes.types,
    "time_zone": types_and_indexes.time_zone,
    "indexes": types_and_indexes.indexes,
    "grants": grants.missing,
    "least_privilege": grants.unneeded,
    "sessions": sessions.session_table,
    "secondary_storage": sessions.secondary_storage,
    "keys": keys.keys_table,
    "jwks": keys.jwks_url,
    "issuer": issuer.issuer,
    "audience": issuer.audience,
    "clock": database.clocks,
    "token": issuer.token,
}


@dataclass(frozen=True, slots=True)
class Examination:
    """``outcome``: the worst of its findings'."""

    name: str
    findings: list[Finding]

    @property
    def outcome(self) -> Outcome:
        outcomes = {finding.outcome for finding in self.findings}
        worst_first = (Outcome.FAILURE, Outcome.WARNING, Outcome.OK, Outcome.SKIPPED)
        return next((outcome for outcome in worst_first if outcome in outcomes), Outcome.SKIPPED)


@sensitive_variables()
def examine(token: str = "", processes: int = 1) -> Iterator[Examination]:
    """Each examination in turn, as it is done.

    ``token``: a Better Auth JWT, to see whether one is accepted. ``processes``: how many of ours share
    the database, each with connections of its own.
    """
    deployment = Deployment(token, processes)
    for name in EXAMINATIONS:
        yield make(name, deployment)


def make(name: str, deployment: Deployment) -> Examination:
    """One examination, whatever becomes of it."""
    findings: list[Finding] = []
    try:
        findings.extend(EXAMINATIONS[name](deployment))
    except ExaminationSkipped as why:
        findings.append(Finding(Outcome.SKIPPED, str(why)))
    except DatabaseError as exc:
        # PostgreSQL's own words may quote a row, so its code stands for them.
        code = getattr(exc.__cause__, "sqlstate", None) or type(exc).__name__
        hint = "Look the code up in PostgreSQL's appendix A; the findings above may explain it."
        findings.append(
            Finding(Outcome.WARNING, f"The database did not answer this question ({code}).", hint)
        )
    except Exception as exc:
        # One examination that breaks down must not keep the others from being made.
        hint = "Mend what is found above first, and report it if it stays."
        findings.append(Finding(Outcome.FAILURE, f"The examination broke down ({type(exc).__name__}).", hint))
    return Examination(name, findings)
