"""``manage.py betterauth doctor``: finds faults of a deployment, and says how to repair them.

Each examination looks at one part of the deployment and yields findings. It changes nothing, and each of its
queries has a time limit. The findings hold no password, secret or token.
"""

from collections.abc import Callable, Iterator

from django.db import DatabaseError
from django.views.decorators.debug import sensitive_variables

from authn.diagnosis.doctor import (
    database,
    grants,
    issuer,
    keys,
    oauth,
    sessions,
    system_checks,
    tables,
    types_and_indexes,
)
from authn.diagnosis.doctor.deployment import Deployment
from authn.diagnosis.doctor.findings import Examination, ExaminationSkipped, Finding, Outcome

# PostgreSQL's codes for a missing table and a missing column. The examinations "tables" and "columns" report
# what is missing.
MISSING = {"42P01", "42703"}

EXAMINATIONS: dict[str, Callable[[Deployment], Iterator[Finding]]] = {
    "settings": system_checks.failed_checks,
    "plugins": system_checks.plugins,
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
    "access_tokens": oauth.access_tokens,
    "clock": database.clocks,
    "token": issuer.token,
}


@sensitive_variables()
def examine(token: str = "", processes: int = 1) -> Iterator[Examination]:
    """Run all examinations, and yield each as soon as it is finished.

    ``token``: a JWT of Better Auth, to test whether it is accepted. "" tests none. ``processes``: the number
    of our server processes that share the database. Each process has its own connections.
    """
    deployment = Deployment(token, processes)
    for name in EXAMINATIONS:
        yield run(name, deployment)


def run(name: str, deployment: Deployment) -> Examination:
    """Run one examination. Its exceptions become findings."""
    findings: list[Finding] = []
    try:
        findings.extend(EXAMINATIONS[name](deployment))
    except ExaminationSkipped as skipped:
        findings.append(Finding(Outcome.SKIPPED, str(skipped)))
    except DatabaseError as exc:
        # Show only the code of PostgreSQL's error: its message may quote a row.
        code = getattr(exc.__cause__, "sqlstate", None) or type(exc).__name__
        if code in MISSING:
            findings.append(Finding(Outcome.SKIPPED, "A table or a column that it reads is missing."))
            return Examination(name, findings)
        remedy = "Look up the code in PostgreSQL's appendix A. The findings above may explain it."
        findings.append(Finding(Outcome.WARNING, f"The database raised an error ({code}).", remedy))
    except Exception as exc:
        # An error in one examination must not stop the others.
        remedy = "Repair the faults above first. If this error stays, report it as a bug."
        findings.append(Finding(Outcome.FAILURE, f"The examination failed ({type(exc).__name__}).", remedy))
    return Examination(name, findings)
