"""The files that docs/frontend.md shows, code, dotenv and css, are those of examples/nextjs.

tests/browser/test_nextjs.py runs both.
"""

import json

import pytest

from tests.fixtures.code_blocks import TOP, Block, every_block

EXAMPLE = TOP / "examples/nextjs"
SHOWN = [block for block in every_block() if block.document == "docs/frontend.md" and block.file]
# `npx create-next-app` writes these, so the document does not show them.
CREATED_BY_NEXT = {
    ".gitignore",
    "README.md",
    "package-lock.json",
    "package.json",
    "tsconfig.json",
}
MADE_BY_A_BUILD = {".env", ".next", "next-env.d.ts", "node_modules", "tsconfig.tsbuildinfo"}  # .gitignore
OF_THE_REPOSITORY = {".npmrc"}  # keeps the registry's host name out of the lockfile


@pytest.mark.parametrize("block", SHOWN, ids=lambda block: block.file)
def test_a_file_in_the_document_is_the_examples_file(block: Block) -> None:
    """The ``.env`` of a document is in the example's ``dotenv`` file, because ``.env`` is not committed."""
    file = EXAMPLE / (".env.example" if block.file == ".env" else block.file)

    assert block.text == file.read_text()


def test_the_document_shows_every_file_that_next_does_not_create() -> None:
    own = [each for each in EXAMPLE.iterdir() if each.name not in MADE_BY_A_BUILD]
    files = {
        str(file.relative_to(EXAMPLE)) for each in own for file in [each, *each.rglob("*")] if file.is_file()
    }
    shown = {".env.example" if block.file == ".env" else block.file for block in SHOWN}

    assert files == shown | CREATED_BY_NEXT | OF_THE_REPOSITORY


def test_the_document_installs_the_packages_of_the_example() -> None:
    package = json.loads((EXAMPLE / "package.json").read_text())
    [installing] = [block.text for block in every_block() if "create-next-app" in block.text]

    installed = {word for line in installing.splitlines() if "npm install" in line for word in line.split()}
    wanted = {*package["dependencies"], *package["devDependencies"]}
    from_next = {
        "next",
        "react",
        "react-dom",
        "typescript",
        "@types/node",
        "@types/react",
        "@types/react-dom",
    }
    assert wanted - from_next <= installed


def test_the_examples_lockfile_names_no_host_of_a_registry() -> None:
    packages = json.loads((EXAMPLE / "package-lock.json").read_text())["packages"]

    assert {name for name, package in packages.items() if "resolved" in package} == set()
