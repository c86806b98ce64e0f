"""Checks the installed packages for known vulnerabilities: Python packages at PyPI, Node packages at npm.

The audit fails if it finds a vulnerability. If PyPI or npm cannot be reached, for example behind a mirror,
the audit prints this and goes on.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chatbackend.dev.frontend import FRONTEND, node_and_npm
from chatbackend.dev.processes import TOP, StartError, say

ACCEPTED: dict[str, str] = {}  # the reason why a vulnerability does not affect us, by its id
SERIOUS = {"high", "critical"}  # the page is a sample; most lower findings of npm are about build tools
PIP_AUDIT = [
    "pip_audit",
    "--vulnerability-service=pypi",
    "--format=json",
    "--progress-spinner=off",
    "--timeout=10",
]


def audit() -> None:
    python = _report([sys.executable, "-m", *PIP_AUDIT], TOP)
    _program, npm = node_and_npm()
    node = _report([*npm, "audit", "--json", "--omit=dev"], FRONTEND)
    found = [*in_python(python), *in_node(node)]
    if found:
        raise StartError("\n".join(["Known vulnerabilities:", *found]))


def in_python(report: Any) -> list[str]:
    packages = report.get("dependencies", [])
    audited = [each for each in packages if "skip_reason" not in each]
    _say(
        "Python", len(audited), "PyPI's advisories cannot be reached from here", len(packages) - len(audited)
    )
    return [
        f"{each['name']} {each['version']}: {fault['id']}, fixed in {fault['fix_versions'] or 'none'}"
        for each in audited
        for fault in each["vulns"]
        if fault["id"] not in ACCEPTED
    ]


def in_node(report: Any) -> list[str]:
    audited = report.get("metadata", {}).get("dependencies", {}).get("total", 0)
    _say("Node", audited, "npm's advisories cannot be reached from here")
    return [
        f"{name} {each['range']}: {each['severity']}"
        for name, each in report.get("vulnerabilities", {}).items()
        if each["severity"] in SERIOUS
    ]


def _say(kind: str, audited: int, fault: str, unknown: int = 0) -> None:
    if not audited:
        say(f"{kind} packages were NOT audited: {fault}.")
    else:
        say(f"{audited} {kind} packages audited{f', {unknown} unknown there' if unknown else ''}.")


def _report(command: Sequence[str], folder: Path) -> Any:
    """Run the tool and return its JSON report. Empty if there is none.

    Ignores the exit status, because a tool that finds a vulnerability fails.
    """
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}
