"""``make audit``: how it reads the reports of pip-audit and npm."""

from typing import Any

import pytest

from chatbackend.dev import audit
from chatbackend.dev.processes import StartError

SAFE = {"name": "django", "version": "5.2.19", "vulns": []}
VULNERABLE = {"name": "pillow", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}
UNKNOWN = {"name": "ours", "skip_reason": "Dependency not found on PyPI and could not be audited: ours (1)"}


def node(severity: str) -> dict[str, Any]:
    return {
        "vulnerabilities": {"kysely": {"severity": severity, "range": "<0.2"}},
        "metadata": {"dependencies": {"total": 60}},
    }


def audited(monkeypatch: pytest.MonkeyPatch, *python: Any, npm: Any) -> None:
    reports = iter([{"dependencies": [*python]}, npm])
    monkeypatch.setattr(audit, "_report", lambda *_: next(reports))
    audit.audit()


def test_a_known_vulnerability_is_an_error_that_names_the_fixed_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(StartError) as found:
        audited(monkeypatch, SAFE, VULNERABLE, UNKNOWN, npm=node("critical"))

    assert str(found.value).splitlines()[1:] == [
        "pillow 1.0: PYSEC-1, fixed in ['1.1']",
        "kysely <0.2: critical",
    ]


def test_an_accepted_vulnerability_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(audit.ACCEPTED, "PYSEC-1", "we never open such a file")

    audited(monkeypatch, VULNERABLE, npm=node("low"))


def test_the_audited_packages_are_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    audited(monkeypatch, SAFE, UNKNOWN, npm=node("low"))

    assert (
        capsys.readouterr().out == "1 Python packages audited, 1 unknown there.\n60 Node packages audited.\n"
    )


def test_an_unreachable_index_is_reported_and_does_not_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    audited(monkeypatch, UNKNOWN, npm={"message": "405 Method Not Allowed", "statusCode": 405})

    assert capsys.readouterr().out == (
        "Python packages were NOT audited: PyPI's advisories cannot be reached from here.\n"
        "Node packages were NOT audited: npm's advisories cannot be reached from here.\n"
    )


def test_a_tool_without_a_json_report_has_an_empty_report() -> None:
    assert audit._report(["python3", "-c", "raise SystemExit('no network')"], audit.TOP) == {}
    assert audit._report(["python3", "-c", "print('[]')"], audit.TOP) == {}
