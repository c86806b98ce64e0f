"""Makes tables from samples: medians over the rounds, their spread, and ratios within each round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Sample = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Column:
    """``spread``: show the minimum and maximum of all rounds after the median."""

    key: str
    heading: str
    digits: int
    spread: bool = False


def table(
    columns: Sequence[Column], ratio: str, baseline: str, samples: Mapping[str, Sequence[Sample]]
) -> str:
    """A Markdown table. ``samples``: for each target, one per round, in the order of the rounds.

    ``ratio``: the key that the last column compares with the baseline. It compares within each round, because
    both targets were slow in a slow minute.
    """
    against = samples.get(baseline, []) if len(samples) > 1 else []
    headings = [
        "",
        *(column.heading for column in columns),
        *([f"relative to {baseline}"] if against else []),
    ]
    rows = [headings, ["---", *["---:"] * (len(headings) - 1)]]
    for name, rounds in samples.items():
        cells = [_cell(column, rounds) for column in columns]
        rows.append([name, *cells, *([_ratio(ratio, rounds, against)] if against else [])])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def percentile(ordered: Sequence[float], share: int) -> float:
    """The smallest value that is at least as large as ``share`` per cent of all; 0 without values."""
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)] if ordered else 0.0


def _cell(column: Column, rounds: Sequence[Sample]) -> str:
    values = [sample[column.key] for sample in rounds if column.key in sample]
    if not values:
        return "-"
    if column.key == "errors":  # add them up: a median would hide a few errors
        stalled = sum(1 for sample in rounds if sample.get("stalled"))
        return f"{sum(values):.0f}{f', stalled in {stalled} of {len(rounds)}' if stalled else ''}"
    return _with_spread(values, column.digits) if column.spread else f"{median(values):.{column.digits}f}"


def _ratio(key: str, rounds: Sequence[Sample], against: Sequence[Sample]) -> str:
    ratios = [mine[key] / other[key] for mine, other in zip(rounds, against, strict=False) if other[key]]
    return _with_spread(ratios, 2) if ratios else "-"


def _with_spread(values: Sequence[float], digits: int) -> str:
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"
