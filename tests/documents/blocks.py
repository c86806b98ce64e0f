"""The documents' blocks of code, and who runs them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

TOP = Path(__file__).parent.parent.parent
DOCUMENTS = sorted([*TOP.glob("*.md"), *TOP.glob("docs/*.md")])
FENCE = re.compile(r"^```(?P<language>\S*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)

# Document, language, and the test that runs it: the first line that fits. What none fits, nobody runs.
RUN_BY = [
    ("docs/quickstart.md", "console", "tests/documents/test_quickstart.py"),
    ("docs/compatibility.md", "shell", "tests/authn/test_compatibility.py"),
    ("docs/compatibility.md", "sql", "tests/authn/test_least_privilege.py"),
    ("docs/data-model.md", "mermaid", "tests/documents/test_data_model.py"),
    ("docs/deployment.md", "ini", "tests/documents/test_deployment.py"),
    ("docs/deployment.md", "sql", "tests/documents/test_deployment.py"),
    ("docs/deployment.md", "nginx", "tests/documents/test_deployment.py"),
    ("docs/deployment.md", "caddy", "tests/documents/test_deployment.py"),
    ("docs/deployment.md", "logrotate", "tests/documents/test_deployment.py"),
    ("docs/image.md", "console", "tests/test_image.py"),
    ("docs/image.md", "dockerfile", "tests/test_image.py"),
    ("docs/moving-from-fastapi.md", "*", "tests/support/test_moving_from_fastapi.py"),
    ("docs/restarts.md", "*", "tests/documents/test_restarts.py"),
    ("docs/tools.md", "python", "tests/support/test_tool_servers.py"),
    ("*", "console", "tests/documents/test_snippets.py"),
    ("*", "shell", "tests/documents/test_snippets.py"),
    ("*", "python", "tests/documents/test_snippets.py"),
    ("*", "ts", "tests/documents/test_snippets.py"),
    ("*", "tsx", "tests/documents/test_snippets.py"),
    ("*", "json", "tests/documents/test_snippets.py"),
    ("*", "yaml", "tests/documents/test_snippets.py"),
    ("*", "promql", "tests/documents/test_snippets.py"),
]


@dataclass(frozen=True)
class Block:
    document: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def run_by(self) -> str:
        fits = (
            test
            for name, language, test in RUN_BY
            if fnmatch(self.document, name) and fnmatch(self.language, language)
        )
        return next(fits, "")

    @property
    def dialogue(self) -> list[tuple[str, str]]:
        """Of a ``console`` block: each command, which stands behind a $, and what it is said to answer."""
        turns = re.split(r"^\$ (.*)\n", self.text, flags=re.MULTILINE)
        assert turns[0] == "", f"{self} begins without a command"
        return list(zip(turns[1::2], turns[2::2], strict=True))


def blocks(test: str, *languages: str) -> list[Block]:
    """Those that this test, named as in RUN_BY, runs."""
    return [each for each in every_block() if each.run_by.endswith(test) and each.language in languages]


def every_block() -> Iterator[Block]:
    for path in DOCUMENTS:
        text = path.read_text()
        for found in FENCE.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            yield Block(str(path.relative_to(TOP)), line, found["language"], found["text"])
