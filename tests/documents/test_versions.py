"""The versions in README.md are those that we install and test, and the files for GitHub are valid."""

import json
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
import yaml

from chatbackend.dev.postgres import VERSION
from tests.fixtures.code_blocks import TOP

README = (TOP / "README.md").read_text()
GITHUB = TOP / ".github"
WORKFLOW = yaml.safe_load((GITHUB / "workflows/ci.yml").read_text())


def row(part: str) -> tuple[str, str]:
    """The versions of a part, and those that the tests run: a row of the README's table."""
    found = re.search(rf"^\| {re.escape(part)} \| (.*?) \| (.*?) \|$", README, re.MULTILINE)
    assert found, part
    return found[1], found[2]


def test_the_versions_of_python_are_those_of_ci() -> None:
    [job] = WORKFLOW["jobs"].values()
    oldest, newest = job["strategy"]["matrix"]["python-version"]

    assert row("Python") == (f"{oldest} and newer", f"{oldest} and {newest} in CI")
    assert f"Python {oldest} or newer is needed" in (TOP / "Makefile").read_text()


@pytest.mark.parametrize(
    ("part", "package"), [("Django", "django"), ("ChatKit SDK (`openai-chatkit`)", "openai-chatkit")]
)
def test_the_versions_of_a_package_are_those_of_the_requirements(part: str, package: str) -> None:
    [wanted] = re.findall(rf"^{package}([><=]\S*)", (TOP / "requirements.txt").read_text(), re.MULTILINE)

    assert row(part)[0] == f"`{wanted}`"


def test_the_versions_of_better_auth_are_those_that_the_tests_install() -> None:
    lockfile = json.loads((TOP / "tests/better_auth/package-lock.json").read_text())
    packages = ("better-auth-oldest", "better-auth-1.4", "better-auth")
    versions = [lockfile["packages"][f"node_modules/{name}"]["version"] for name in packages]

    oldest, *others, newest = versions

    assert row("Better Auth") == (
        f"{oldest} and newer",
        f"{', '.join([oldest, *others])} and {newest}",
    )


def test_the_version_of_postgresql_is_that_of_the_tests() -> None:
    assert row("PostgreSQL")[1] == str(VERSION)


def test_the_changelog_has_releases_with_a_date_and_the_newest_first() -> None:
    headings = re.findall(r"^## (.*)$", (TOP / "CHANGELOG.md").read_text(), re.MULTILINE)
    unreleased, *releases = headings
    found = [re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - (\d{4}-\d\d-\d\d)", each) for each in releases]

    assert unreleased == "[Unreleased]"
    assert all(found), releases
    versions = [tuple(map(int, each.groups()[:3])) for each in found if each]
    assert versions == sorted(versions, reverse=True)
    assert versions[-1] == (0, 1, 0)
    assert all(date.fromisoformat(each[4]) for each in found if each)


def test_ci_runs_the_same_script_as_a_developer() -> None:
    [job] = WORKFLOW["jobs"].values()

    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", ["workflows/ci.yml"]),
        ("vendor.github-issue-forms", ["ISSUE_TEMPLATE/fault.yml", "ISSUE_TEMPLATE/wish.yml"]),
        ("vendor.github-issue-config", ["ISSUE_TEMPLATE/config.yml"]),
    ],
)
def test_the_files_for_github_are_valid(schema: str, files: list[str]) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]

    done = subprocess.run([*command, *(str(GITHUB / file) for file in files)], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout


def test_every_file_for_github_is_checked() -> None:
    known = {"ci.yml", "fault.yml", "wish.yml", "config.yml", "PULL_REQUEST_TEMPLATE.md"}

    assert {Path(file).name for file in GITHUB.rglob("*") if file.is_file()} == known
