"""Known vulnerabilities of what is installed: Python packages as PyPI knows them, Node's as npm does.

Fails on what is known. Where nobody can be asked, as behind a mirror, it says so and goes on.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chatbackend.dev.frontend import FRONTEND, node_and_npm
from chatbackend.dev.processes import TOP, StartError, say

ACCEPTED: dict[str, str] = {}  # by its id, why a vulnerability is none for us
GRAVE = {"high", "critical"}  # the page is a sample, and npm's lower ones are mostly of what builds
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
    asked = [each for each in packages if "skip_reason" not in each]
    _say("Python", len(asked), "PyPI's advisories cannot be reached from here", len(packages) - len(asked))
    return [
        f"{each['name']} {each['version']}: {fault['id']}, fixed in {fault['fix_versions'] or 'none'}"
        for each in asked
        for fault in each["vulns"]
        if fault["id"] not in ACCEPTED
    ]


def in_node(report: Any) -> list[str]:
    asked = report.get("metadata", {}).get("dependencies", {}).get("total", 0)
    _say("Node", asked, "npm's advisories cannot be reached from here")
    return [
        f"{name} {each['range']}: {each['severity']}"
        for name, each in report.get("vulnerabilities", {}).items()
        if each["severity"] in GRAVE
    ]


def _say(whose: str, asked: int, fault: str, left_out: int = 0) -> None:
    if not asked:
        say(f"{whose} packages were NOT audited: {fault}.")
    else:
        say(f"{asked} {whose} packages audited{f', {left_out} unknown there' if left_out else ''}.")


def _report(command: Sequence[str], folder: Path) -> Any:
    """What the tool says in JSON; both exit with an error when they find something, and when they cannot."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}
