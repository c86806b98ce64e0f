"""README.md's picture of a request, its list of folders and its order of imports, compared with the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.code_blocks import TOP, blocks

[DIAGRAM] = blocks("test_architecture.py", "mermaid")
FOLDERS, IMPORTS = (block.text for block in blocks("test_architecture.py", "text"))
APPS = ("runtime", "authn", "support", "chatbackend")
IGNORED_FOLDERS = {"__pycache__", "management", "migrations", "templates", "static"}


def test_every_line_of_the_diagram_is_of_mermaids_grammar() -> None:
    message = r"\w+(?:->>|-->>|--x)\w+: [^;#]+"
    line = rf"sequenceDiagram|participant \w+ as [\w ]+|Note over \w+(?:,\w+)?: [^;#]+|{message}"
    lines = [each.strip() for each in DIAGRAM.text.splitlines() if each]

    assert [each for each in lines if not re.fullmatch(line, each)] == []


def test_the_list_of_folders_is_complete() -> None:
    listed = dict(re.fullmatch(r"(\S+)/ +(\S.*)", line).groups() for line in FOLDERS.splitlines())  # type: ignore[union-attr]
    apps = [folder for app in (*APPS, "tests") for folder in (TOP / app, *subfolders(TOP / app))]
    expected = {str(folder.relative_to(TOP)) for folder in apps}

    assert {name for name in listed if name.partition("/")[0] in {*APPS, "tests"}} == expected
    assert [name for name in listed if not (TOP / name).is_dir()] == []


def subfolders(app: Path) -> Iterator[Path]:
    return (path for path in app.iterdir() if path.is_dir() and path.name not in IGNORED_FOLDERS)


def ranks(chain: str) -> dict[str, int]:
    """``a < b, c`` as ``{"a": 0, "b": 1, "c": 1}``."""
    return {name: rank for rank, names in enumerate(chain.split("<")) for name in re.findall(r"\w+", names)}


ORDERS = dict(re.findall(r"^(?:(\w+): )?(.+(?:\n +.+)*)", IMPORTS, re.MULTILINE))  # "": of the apps


NOT_YET = pytest.mark.xfail(strict=True, reason="runtime/ imports authn, support and chatbackend")


@pytest.mark.parametrize("app", [pytest.param(app, marks=[] if app else [NOT_YET]) for app in ORDERS])
def test_imports_point_to_the_left(app: str) -> None:
    allowed = ranks(ORDERS[app])
    upward = []
    for importer, imported in imports(app):
        if importer != imported and allowed[importer] <= allowed[imported]:
            upward.append(f"{importer} imports {imported}")

    assert upward == []


def imports(app: str) -> Iterator[tuple[str, str]]:
    """Pairs of importer and imported: packages, or with ``app`` the modules and folders directly in it."""
    depth = 1 if app else 0
    for path in (path for each in ([app] if app else APPS) for path in (TOP / each).rglob("*.py")):
        importer = path.relative_to(TOP).with_suffix("").parts
        if (importer[-1] == "__init__" and len(importer) == depth + 1) or "migrations" in importer:
            continue
        for name in imported_names(ast.parse(path.read_text())):
            parts = name.split(".")
            if parts[0] in APPS and (not app or (parts[0] == app and len(parts) > 1)):
                yield importer[depth], parts[depth]


def imported_names(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case _:
                yield from imported_names(child)
