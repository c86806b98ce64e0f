"""``--write`` replaces the measured part of a document, and nothing else."""

import pytest

from benchmarks.results.report import BEGIN, END, with_measured
from chatbackend.dev.processes import TOP, StartError


def test_only_the_part_between_the_marks_is_replaced() -> None:
    document = f"# Benchmarks\n\nBy hand.\n\n{BEGIN}\n\nold\n\n{END}\n\nAlso by hand.\n"

    once = with_measured(document, "new\n")

    assert once == f"# Benchmarks\n\nBy hand.\n\n{BEGIN}\n\nnew\n\n{END}\n\nAlso by hand.\n"
    assert with_measured(once, "new\n") == once


@pytest.mark.parametrize("document", ["By hand.", f"{BEGIN}\nold", f"{END}\nold\n{BEGIN}"])
def test_a_document_without_the_marks_is_refused(document: str) -> None:
    with pytest.raises(StartError):
        with_measured(document, "new")


def test_our_document_has_the_marks() -> None:
    document = (TOP / "docs/benchmarks.md").read_text()

    measured = document.partition(BEGIN)[2].partition(END)[0].strip("\n")

    assert with_measured(document, measured + "\n") == document
