"""Generates mutants: copies of a module with one small fault each.

We use the operators of mutmut, which change values, operators and arguments, but not its runner. It changes
only plain functions, and most of our guards are in decorated functions, constants or SQL. So we apply the
operators to the whole module. OWN_OPERATORS also remove guards, calls and elements of lists.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any

import libcst as cst
from libcst import matchers as m
from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper, PositionProvider
from mutmut.mutation import mutators

from chatbackend.dev.processes import TOP

# No mutants of types, which have no effect at run time, of imports, and of docstrings.
IGNORED = (
    m.Annotation()
    | m.ClassDef(bases=[m.Arg(m.Name("Protocol"))])
    | m.AssignTarget()
    | m.Import()
    | m.ImportFrom()
    | m.Call(func=m.Name("TypeVar") | m.Name("cast"))
    | m.Decorator(decorator=m.Call(func=m.Name("dataclass")))
    | m.SimpleStatementLine(body=[m.Expr(m.SimpleString())])
)
# Texts with spaces are messages, or SQL. SQL_CHANGES has the mutants of SQL.
WORDS = m.MatchRegex(r"(?s).* .*")
PROSE = m.SimpleString(value=WORDS) | m.FormattedString(
    parts=[m.ZeroOrMore(), m.FormattedStringText(value=WORDS), m.ZeroOrMore()]
)
STATEMENTS = (cst.SimpleStatementLine, cst.BaseCompoundStatement, cst.ExceptHandler)
SQL_CHANGES = {
    " AND ": [" OR "],
    " OR ": [" AND "],
    " = ": [" <> "],
    " IS NULL": [" IS NOT NULL"],
    " FOR KEY SHARE": [""],
    "coalesce(support_attachment.thread_id, excluded.thread_id)": [
        "support_attachment.thread_id",
        "excluded.thread_id",
    ],
}


@dataclass(frozen=True)
class Mutant:
    """``lines``: of the changed statement. ``diff``: these lines without and with the fault."""

    file: Path
    lines: range
    code: str
    diff: str


def mutants(file: Path) -> Iterator[Mutant]:
    source = (TOP / file).read_bytes()
    found = _Changes()
    MetadataWrapper(cst.parse_module(source)).visit(found)
    seen = {source.decode()}
    for lines, start, end, replacement in found.changes:
        code = (source[:start] + replacement.encode() + source[end:]).decode()
        if code not in seen and _compiles(code):
            seen.add(code)
            yield Mutant(file, lines, code, _diff(source.decode(), code))


def _compiles(code: str) -> bool:
    try:
        compile(code, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _diff(source: str, code: str) -> str:
    lines = unified_diff(source.splitlines(), code.splitlines(), n=0, lineterm="")
    changed = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    return "\n".join(f"{line[0]} {line[1:].strip()}" for line in changed)


class _Changes(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider, ByteSpanPositionProvider)

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[tuple[range, int, int, str]] = []
        self._statements = [range(0)]

    def on_visit(self, node: cst.CSTNode) -> bool:
        if m.matches(node, IGNORED):
            return False
        if isinstance(node, STATEMENTS):
            self._statements.append(self._lines(node))
        for kind, operator in OPERATORS:
            if isinstance(node, kind):
                for change in operator(node):
                    self._note(*(change if isinstance(change, tuple) else (node, change)))
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, STATEMENTS) and not m.matches(original_node, IGNORED):
            self._statements.pop()

    def _note(self, node: cst.CSTNode, changed: cst.CSTNode) -> None:
        span = self.get_metadata(ByteSpanPositionProvider, node)
        text = cst.Module([]).code_for_node(changed)
        self.changes.append((self._statements[-1], span.start, span.start + span.length, text))

    def _lines(self, node: cst.CSTNode) -> range:
        """The lines of a statement. For a compound one, only its head: its body has its own statements."""
        place = self.get_metadata(PositionProvider, node)
        body = getattr(node, "body", None)
        is_compound = isinstance(body, cst.BaseSuite)
        last = self.get_metadata(PositionProvider, body).start.line if is_compound else place.end.line
        return range(place.start.line, max(place.start.line, last) + 1)


def _arguments(node: cst.Call) -> Iterator[cst.CSTNode]:
    """Mutants of arguments, except those without a positional one: such a call always raises TypeError."""

    def kept(call: cst.Call) -> tuple[int, int]:
        prose = sum(m.matches(arg.value, PROSE) for arg in call.args)
        return sum(arg.keyword is None for arg in call.args), prose

    for changed in mutators.operator_arg_removal(node):
        if kept(changed) == kept(node):
            yield changed


def _strings(node: cst.BaseString) -> Iterator[cst.CSTNode]:
    """One mutant for each string. A pattern also gets those that change upper and lower case."""
    changed = [] if m.matches(node, PROSE) else list(mutators.operator_string(node))
    is_raw = isinstance(node, cst.SimpleString) and "r" in node.prefix
    yield from changed if is_raw else changed[:1]


def _constant_condition(node: cst.If) -> Iterator[tuple[cst.CSTNode, cst.CSTNode]]:
    for always in ("False", "True"):
        yield node.test, cst.Name(always)


def _remove_statement(node: cst.Raise | cst.Expr) -> Iterator[cst.CSTNode]:
    if m.matches(node, m.Raise() | m.Expr(m.Call() | m.Await())):
        yield cst.Pass()


def _return_none(node: cst.Return) -> Iterator[cst.CSTNode]:
    if node.value:
        yield cst.Return(cst.Name("None"))


def _remove_decorator(node: cst.Decorator) -> Iterator[cst.CSTNode]:
    yield cst.EmptyLine(newline=cst.Newline(value=""))


def _remove_context(node: cst.WithItem) -> Iterator[tuple[cst.CSTNode, cst.CSTNode]]:
    if node.asname is None:
        yield node.item, cst.parse_expression('__import__("contextlib").nullcontext()')


def _remove_element(node: cst.Tuple | cst.List | cst.Dict) -> Iterator[cst.CSTNode]:
    if len(node.elements) > 1:
        for each in node.elements:
            kept = [other.with_changes(comma=cst.Comma()) for other in node.elements if other is not each]
            yield node.with_changes(elements=kept)


def _decrement(node: cst.Integer) -> Iterator[cst.CSTNode]:
    if node.evaluated_value > 0:
        yield node.with_changes(value=str(node.evaluated_value - 1))


def _change_sql(node: cst.SimpleString) -> Iterator[cst.CSTNode]:
    if not node.value.startswith('"""'):
        return
    for words, others in SQL_CHANGES.items():
        head, *rest = node.value.split(words)
        for place in range(len(rest)):
            for other in others:
                joins = [other if number == place else words for number in range(len(rest))]
                tail = "".join(join + part for join, part in zip(joins, rest, strict=True))
                yield node.with_changes(value=head + tail)


REPLACEMENTS = {
    mutators.operator_arg_removal: _arguments,
    mutators.operator_string: _strings,
    mutators.operator_assignment: None,  # assigns None, which only makes the next use crash
}
OWN_OPERATORS: list[tuple[Any, Any]] = [
    (cst.If, _constant_condition),
    (cst.Raise | cst.Expr, _remove_statement),
    (cst.Return, _return_none),
    (cst.Decorator, _remove_decorator),
    (cst.WithItem, _remove_context),
    (cst.Tuple | cst.List | cst.Dict, _remove_element),
    (cst.Integer, _decrement),
    (cst.SimpleString, _change_sql),
]
OPERATORS: list[tuple[Any, Any]] = [
    (kind, REPLACEMENTS.get(operator, operator))
    for kind, operator in mutators.mutation_operators
    if REPLACEMENTS.get(operator, operator)
] + OWN_OPERATORS
