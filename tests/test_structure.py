"""The structure of the code: folders, the length of modules, and which module may import which.

README.md shows the way of a request in a diagram, the folders in a ``text`` block, and the order of imports
in another. The tests read all three.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fixtures.code_blocks import TOP, blocks

MAX_MODULES, MAX_LINES = 12, 300
ORDERED = ["runtime", "authn", "support", "chatbackend"]  # each may import only the packages to its left
SOURCE = [*ORDERED, "benchmarks", "faults"]
MIRRORED = [name for name in SOURCE if (TOP / "tests" / name).is_dir()]
NAMED_BY_DJANGO = {"management", "commands", "migrations"}  # Django prescribes these folders
SHARED_BY_TESTS = {"fixtures", "fuzz", "mutation"}  # folders of tests/. The last two are tools
TEST_MODULE = re.compile(r"test_\w+|conftest")

DOTTED_PATH = re.compile(rf"({'|'.join([*ORDERED, 'tests'])})\.[a-z_]+(\.\w+)*")


@dataclass(frozen=True)
class Reference:
    """A name of ours in a module: an import, or a string with a dotted path."""

    line: int
    name: str
    is_import: bool = True

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    @property
    def part(self) -> str:
        """The module or folder directly in the package; empty for the package itself."""
        return self.name.split(".")[1] if "." in self.name else ""


def modules(*packages: str) -> list[Path]:
    """All Python files below these top-level folders, relative to the top."""
    files = (file.relative_to(TOP) for package in packages for file in (TOP / package).rglob("*.py"))
    return sorted(file for file in files if "node_modules" not in file.parts)


def folders(*packages: str) -> list[Path]:
    return sorted({module.parent for module in modules(*packages)})


def references(module: Path) -> Iterator[Reference]:
    """Imports anywhere in the module, those in functions too, and dotted paths in strings.

    Imports below ``if TYPE_CHECKING`` do not run and are left out.
    """
    pending: list[ast.AST] = [ast.parse((TOP / module).read_text())]
    while pending:
        match node := pending.pop():
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                pending += node.orelse
                continue
            case ast.Import(names=names):
                yield from (Reference(node.lineno, each.name) for each in names)
            case ast.ImportFrom(module=name, names=names, level=level):
                assert level == 0, f"{module}:{node.lineno} imports relatively"
                yield from (Reference(node.lineno, f"{name}.{each.name}") for each in names)
            case ast.Constant(value=str(text)) if DOTTED_PATH.fullmatch(text):
                yield Reference(node.lineno, text, is_import=False)
        pending += ast.iter_child_nodes(node)


# --- Folders and modules --------------------------------------------------------------------------


@pytest.mark.parametrize("folder", folders(*SOURCE, "tests"), ids=str)
def test_a_folder_has_at_most_twelve_modules(folder: Path) -> None:
    if folder.name == "migrations":
        return
    names = [file.name for file in (TOP / folder).glob("*.py") if file.name != "__init__.py"]

    assert len(names) <= MAX_MODULES, names


def test_no_module_of_source_has_more_than_three_hundred_lines() -> None:
    lengths = {str(module): len((TOP / module).read_text().splitlines()) for module in modules(*SOURCE)}

    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_no_module_of_source_only_imports_from_others() -> None:
    """Such a module gives a second path to a name. An ``__init__.py`` may import what registers itself."""

    def only_imports(module: Path) -> bool:
        body = ast.parse((TOP / module).read_text()).body
        return all(isinstance(each, ast.Import | ast.ImportFrom) or _is_docstring(each) for each in body)

    named = [module for module in modules(*SOURCE) if module.name != "__init__.py"]

    assert [str(module) for module in named if only_imports(module)] == []


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def test_a_module_of_tests_outside_the_shared_folders_is_a_test_or_a_conftest() -> None:
    own = [module for module in modules("tests") if module.parts[1] not in SHARED_BY_TESTS]
    others = {str(module) for module in own if not TEST_MODULE.fullmatch(module.stem)}

    assert {name for name in others if not name.endswith("__init__.py")} == {"tests/settings.py"}


def test_nothing_is_imported_from_a_module_of_tests() -> None:
    """What several tests need is in tests/fixtures. A dotted path to a name of the same module is allowed."""
    wrong = [
        f"{module}:{reference.line} names {reference.name}"
        for module in modules(*SOURCE, "tests")
        for reference in references(module)
        if reference.package == "tests" and any(map(TEST_MODULE.fullmatch, reference.name.split(".")))
        if not reference.name.startswith(".".join([*module.with_suffix("").parts, ""]))
    ]

    assert wrong == []


@pytest.mark.parametrize("folder", folders(*(f"tests/{name}" for name in MIRRORED)), ids=str)
def test_a_folder_of_tests_has_the_path_of_the_folder_that_it_tests(folder: Path) -> None:
    assert (TOP / folder.relative_to("tests")).is_dir()


# --- Imports between the packages -----------------------------------------------------------------


@pytest.mark.parametrize("package", ORDERED)
def test_a_package_names_only_itself_and_the_packages_to_its_left(package: str) -> None:
    to_its_right = ORDERED[ORDERED.index(package) + 1 :]

    wrong = [
        f"{module}:{reference.line} names {reference.name}"
        for module in modules(package)
        for reference in references(module)
        if reference.package in to_its_right
    ]

    assert wrong == []


@pytest.mark.parametrize("package", SOURCE)
def test_source_imports_nothing_from_the_tests(package: str) -> None:
    importing = {
        module for module in modules(package) for each in references(module) if each.package == "tests"
    }

    assert importing == set()


# --- The README's blocks --------------------------------------------------------------------------

BLOCKS = [block.text for block in blocks("test_structure.py", "text") if block.document == "README.md"]
[TREE] = [text for text in BLOCKS if text.startswith("runtime/")]
[ORDER] = [text for text in BLOCKS if text.startswith(" < ".join(ORDERED))]

# package -> its modules and folders in layers; those of one layer do not import each other
LAYERS: dict[str, list[list[str]]] = {
    package: [re.findall(r"\w+", layer) for layer in layers.split("<")]
    for package, layers in re.findall(r"^(\w+): ((?:.|\n +)*)", ORDER, re.MULTILINE)
}


def test_every_line_of_the_readmes_diagram_is_valid_mermaid() -> None:
    message = r"\w+(?:->>|-->>|--x)\w+: [^;#]+"
    line = rf"sequenceDiagram|participant \w+ as [\w ]+|Note over \w+(?:,\w+)?: [^;#]+|{message}"
    [diagram] = blocks("test_structure.py", "mermaid")

    assert [each for each in diagram.text.split("\n") if not re.fullmatch(rf"\s*({line})?", each)] == []


def test_the_readme_shows_exactly_the_folders_that_there_are() -> None:
    shown = re.findall(r"^(\S+)/ +\S", TREE, re.MULTILINE)
    rooms = {str(each) for each in folders(*ORDERED, "tests") if len(each.parts) <= 2}
    rooms -= {name for name in rooms if Path(name).name in NAMED_BY_DJANGO}

    assert len(shown) == len(TREE.splitlines())
    assert [folder for folder in shown if not (TOP / folder).is_dir()] == []
    assert rooms - set(shown) == set()
    assert set(SOURCE) - set(shown) == set()


@pytest.mark.parametrize("package", LAYERS)
def test_the_readme_gives_every_module_of_a_package_one_layer(package: str) -> None:
    named = [name for layer in LAYERS[package] for name in layer]
    parts = {module.parts[1].removesuffix(".py") for module in modules(package)}

    assert sorted(named) == sorted(parts - {"__init__", "migrations"})


@pytest.mark.parametrize("package", LAYERS)
def test_a_module_imports_only_from_the_layers_to_the_left_of_its_own(package: str) -> None:
    layer_of = {name: number for number, layer in enumerate(LAYERS[package]) for name in layer}

    wrong = [
        f"{module}:{reference.line} imports {reference.name}"
        for module in modules(package)
        if (part := module.parts[1].removesuffix(".py")) in layer_of
        for reference in references(module)
        if reference.is_import and reference.package == package and reference.part not in ("", part)
        if layer_of[reference.part] >= layer_of[part]
    ]

    assert wrong == []
