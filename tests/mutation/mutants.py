"""Small faults, one at a time, as somebody could write them into a module by mistake.

mutmut's operators change values, operators and arguments. Its own runner makes mutants of plain functions
alone; most guards here stand in decorated ones, in constants or in SQL, so the operators are applied to
the whole module, and OWN_OPERATORS add to them: a guard that is gone, a call that is not made, a rule fewer.
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

# Types, which nothing asks for at run time, what only makes a class of them, and words for people.
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
# For people as well, or SQL, of which SQL_CHANGES has what is worth a mutant.
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
    """``lines``: of the statement that is changed. ``diff``: its lines without and with the fault."""

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
        """Of a compound statement its head alone: what is below are statements of their own."""
        place = self.get_metadata(PositionProvider, node)
        body = getattr(node, "body", None)
        is_compound = isinstance(body, cst.BaseSuite)
        last = self.get_metadata(PositionProvider, body).start.line if is_compound else place.end.line
        return range(place.start.line, max(place.start.line, last) + 1)


def _arguments(node: cst.Call) -> Iterator[cst.CSTNode]:
    """Without the positional arguments that are gone: the call has too few then, and no test is needed."""

    def kept(call: cst.Call) -> tuple[int, int]:
        said = sum(m.matches(arg.value, PROSE) for arg in call.args)
        return sum(arg.keyword is None for arg in call.args), said

    for changed in mutators.operator_arg_removal(node):
        if kept(changed) == kept(node):
            yield changed


def _strings(node: cst.BaseString) -> Iterator[cst.CSTNode]:
    """Once each; the cases of a pattern's letters are worth a mutant of their own."""
    changed = [] if m.matches(node, PROSE) else list(mutators.operator_string(node))
    is_raw = isinstance(node, cst.SimpleString) and "r" in node.prefix
    yield from changed if is_raw else changed[:1]


def _without_guard(node: cst.If) -> Iterator[tuple[cst.CSTNode, cst.CSTNode]]:
    for always in ("False", "True"):
        yield node.test, cst.Name(always)


def _not_done(node: cst.Raise | cst.Expr) -> Iterator[cst.CSTNode]:
    if m.matches(node, m.Raise() | m.Expr(m.Call() | m.Await())):
        yield cst.Pass()


def _nothing(node: cst.Return) -> Iterator[cst.CSTNode]:
    if node.value:
        yield cst.Return(cst.Name("None"))


def _gone(node: cst.Decorator) -> Iterator[cst.CSTNode]:
    yield cst.EmptyLine(newline=cst.Newline(value=""))


def _without_context(node: cst.WithItem) -> Iterator[tuple[cst.CSTNode, cst.CSTNode]]:
    if node.asname is None:
        yield node.item, cst.parse_expression('__import__("contextlib").nullcontext()')


def _one_fewer(node: cst.Tuple | cst.List | cst.Dict) -> Iterator[cst.CSTNode]:
    if len(node.elements) > 1:
        for each in node.elements:
            kept = [other.with_changes(comma=cst.Comma()) for other in node.elements if other is not each]
            yield node.with_changes(elements=kept)


def _one_less(node: cst.Integer) -> Iterator[cst.CSTNode]:
    if node.evaluated_value > 0:
        yield node.with_changes(value=str(node.evaluated_value - 1))


def _other_sql(node: cst.SimpleString) -> Iterator[cst.CSTNode]:
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
    mutators.operator_assignment: None,  # to None: what is assigned is used, so it only crashes
}
OWN_OPERATORS: list[tuple[Any, Any]] = [
    (cst.If, _without_guard),
    (cst.Raise | cst.Expr, _not_done),
    (cst.Return, _nothing),
    (cst.Decorator, _gone),
    (cst.WithItem, _without_context),
    (cst.Tuple | cst.List | cst.Dict, _one_fewer),
    (cst.Integer, _one_less),
    (cst.SimpleString, _other_sql),
]
OPERATORS: list[tuple[Any, Any]] = [
    (kind, REPLACEMENTS.get(operator, operator))
    for kind, operator in mutators.mutation_operators
    if REPLACEMENTS.get(operator, operator)
] + OWN_OPERATORS
