"""The tables: medians, spread, and ratios within a round."""

import pytest

from benchmarks.results.table import Column, percentile, table

COLUMNS = [
    Column("per_second", "requests/s", 0, spread=True),
    Column("p99", "p99 ms", 1),
    Column("errors", "errors", 0),
]


def row(name: str, text: str) -> list[str]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return next(cells for cells in lines if cells[0] == name)


def samples(*per_second: float, **others: float) -> list[dict[str, float]]:
    return [{"per_second": each, "p99": 1000 / each, "errors": 0.0} | others for each in per_second]


def test_a_row_shows_medians_with_their_spread_and_the_ratio_to_the_baseline() -> None:
    measured = {"ours": samples(300, 200, 400), "baseline": samples(100, 100, 200)}

    text = table(COLUMNS, "per_second", "baseline", measured)

    assert row("", text)[-1] == "relative to baseline"
    assert row("ours", text) == ["ours", "300 (200-400)", "3.3", "0", "2.00 (2.00-3.00)"]


def test_a_slow_round_does_not_change_the_ratio() -> None:
    measured = {"ours": samples(300, 30), "baseline": samples(100, 10)}

    text = table(COLUMNS, "per_second", "baseline", measured)

    assert row("ours", text)[-1] == "3.00 (3.00-3.00)"


def test_errors_are_added_up_and_a_stalled_server_is_marked() -> None:
    stalled = [*samples(10, errors=1.0), *samples(10, errors=2.0, stalled=1.0)]

    text = table(COLUMNS, "per_second", "planned", {"planned": stalled})

    assert row("planned", text)[3] == "3, stalled in 1 of 2"


def test_without_an_answer_of_the_baseline_there_is_no_ratio() -> None:
    measured = {"ours": samples(300), "baseline": [{"per_second": 0.0, "p99": 0.0, "errors": 0.0}]}

    text = table(COLUMNS, "per_second", "baseline", measured)

    assert row("ours", text)[-1] == "-"


@pytest.mark.parametrize(
    ("values", "share", "expected"), [([], 99, 0), ([7], 50, 7), (range(1, 101), 99, 99)]
)
def test_a_percentile_is_one_of_the_values(values: list[float], share: int, expected: float) -> None:
    assert percentile(list(values), share) == expected
