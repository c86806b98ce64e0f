"""The links, anchors and variables in the documents exist, and a test runs each of their code blocks."""

import re
from pathlib import Path

import pytest
from django.conf import global_settings

from tests.fixtures.code_blocks import DOCUMENTS, FENCE, RUN_BY, TOP, every_block

LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#]*)(?:#(?P<anchor>[^)]*))?\)")
VARIABLE = re.compile(r"(?<![\w.])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?![\w(])")

ENV_EXAMPLE = (TOP / ".env.example").read_text()
# Lines with a value, commented out or not.
NAMED = set(re.findall(r"^#?([A-Z_]+)=", ENV_EXAMPLE, re.MULTILINE))
READ = set(
    re.findall(
        r'\b(?:env\.\w+|number|flag|names|mapping|from_json|database)\(\s*"(\w+)"',
        (TOP / "chatbackend/settings.py").read_text(),
    )
)
# Variables that our settings do not read, and words that only look like variables.
NOT_OURS = {
    "AWS_ACCESS_KEY_ID": "boto3",
    "AWS_SECRET_ACCESS_KEY": "boto3",
    "ASGI_APPLICATION": "of a Django project, for runserver",
    "BASE_DIR": "of a Django project",
    "BETTER_AUTH_CACHE": "an alias of CACHES, for a Django project; our own settings have one cache",
    "BETTER_AUTH_DATABASE": "an alias of DATABASES; our own settings choose it",
    "CONN_HEALTH_CHECKS": "of Django's DATABASES",
    "CONN_MAX_AGE": "of Django's DATABASES",
    "CONFIG_KWARGS": "uvicorn-worker's",
    "DO_NOTHING": "Django's on_delete",
    "ENV_FILE": "of the tests",
    "EXCEPTION_HANDLER": "DRF's",
    "EXTRA_PACKAGES": "of the image's build",
    "FRONTEND_PORT": "of make run",
    "NEW_DATABASE_URL": "of the shell, in an example",
    "NEXT_PUBLIC_CHATKIT_DOMAIN_KEY": "of a Next.js page",
    "NEXT_PUBLIC_CHATKIT_URL": "of a Next.js page",
    "OAUTH_TOOL_SCOPES": "of the page's server",
    "PAGE_SUGGESTIONS": "of the page's server",
    "POSTGRES_PASSWORD": "of compose.yaml",
    "PROMETHEUS_MULTIPROC_DIR": "prometheus_client's",
    "REST_FRAMEWORK": "DRF's",
    "STORE_OPERATIONS": "a constant of support/views.py",
    "TODO_SECRET": "of the example's tool server",
    "TODO_URL": "of the example's tool server",
    "UVICORN_PORT": "uvicorn's",
    "USER_ID": "of the shell, in an example",
    "WEB_CONCURRENCY": "of uvicorn",
}

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))


def test_a_test_runs_every_code_block() -> None:
    assert [str(block) for block in every_block() if not block.run_by] == []


def test_the_test_that_runs_a_documents_blocks_reads_that_document() -> None:
    for name, language, test in RUN_BY:
        text = (TOP / test).read_text()

        assert Path(name).name.replace("*", "blocks(") in text, (name, test)
        assert language == "*" or language in text, (language, test)


@every_document
def test_every_fence_is_closed_and_not_indented(document: Path) -> None:
    """No test would find the block of an indented or unclosed fence."""
    assert "```" not in FENCE.sub("", document.read_text())
    assert "~~~" not in document.read_text()


@every_document
def test_every_link_has_a_target(document: Path) -> None:
    for link in LINK.finditer(prose(document)):
        target = (document.parent / link["path"]).resolve() if link["path"] else document

        assert target.exists(), link[0]
        assert not link["anchor"] or link["anchor"] in anchors(target), link[0]


def test_the_example_and_the_page_on_deployment_agree_on_sslmode_for_neon() -> None:
    page = (TOP / "docs/deployment.md").read_text()
    [url] = re.findall(r"^DATABASE_URL='.*neon\.tech.*'$", page, re.MULTILINE)
    [advice] = re.findall(r"For Neon, add \?(sslmode=[\w-]+)", ENV_EXAMPLE)

    assert f"?{advice}&" in url


def test_the_index_lists_every_document() -> None:
    index = (TOP / "docs/README.md").read_text()
    others = [path for path in (TOP / "docs").iterdir() if path.is_file() and path.name != "README.md"]

    assert [path.name for path in others if f"]({path.name})" not in index] == []


@every_document
def test_every_named_variable_is_read_by_the_settings(document: Path) -> None:
    named = set(VARIABLE.findall(document.read_text()))
    djangos = set(dir(global_settings))

    assert named - NOT_OURS.keys() - READ - djangos == set()


def test_the_example_names_exactly_the_variables_that_are_read() -> None:
    assert NAMED - NOT_OURS.keys() == READ - NOT_OURS.keys()


@every_document
def test_the_first_sentence_names_the_readers_of_the_page(document: Path) -> None:
    title, _, first = document.read_text().split("\n", 2)

    assert title.startswith("# ")
    assert first.startswith("For ")


def prose(document: Path) -> str:
    return FENCE.sub("", document.read_text())


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub makes from the headings."""
    headings = re.findall(r"^#+ (.*)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
