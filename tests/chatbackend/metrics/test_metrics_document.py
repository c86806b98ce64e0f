"""docs/metrics.md and the dashboard agree with the exposed metrics."""

import json
import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from tests.fixtures.accounts.people import Person
from tests.fixtures.servers.api import create
from tests.fixtures.servers.metrics import (
    ScrapedServer,
)

TOP = Path(__file__).parents[3]
GUIDE = (TOP / "docs/metrics.md").read_text()
DASHBOARD = json.loads((TOP / "docs/grafana-dashboard.json").read_text())
RULES = yaml.safe_load(re.search(r"```yaml\n(groups:.*?)```", GUIDE, re.DOTALL)[1])

IN_THE_TABLE = re.findall(r"^\| .+\? \| `(.+)` \|$", GUIDE, re.MULTILINE)
ON_THE_DASHBOARD = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
IN_RULES = [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]


def selectors(query: str) -> list[promql_parser.VectorSelector]:
    """The selectors in a query. Raises ``ValueError`` if Prometheus could not parse it."""
    found = []

    def collect(part: Any) -> bool:
        if isinstance(part, promql_parser.VectorSelector):
            found.append(part)
        return True

    promql_parser.walk(promql_parser.parse(query), collect)
    return found


@pytest.mark.parametrize("query", [*IN_THE_TABLE, *IN_RULES])
def test_every_documented_query_uses_existing_series(
    scraped: ScrapedServer, person: Person, query: str
) -> None:
    scraped.api.events(create(), person.token())
    series = list(scraped.metrics())

    for selector in selectors(query):
        found = [dict(labels) for name, labels in series if name == selector.name]
        assert found, f"there is no {selector.name}"
        named = {label for by in re.findall(r"by \((.*?)\)", query) for label in by.split(", ")}
        assert named | {matcher.name for matcher in selector.matchers.matchers} <= set(found[0])
        for matcher in selector.matchers.matchers:
            values = matcher.value.split("|") if matcher.op == promql_parser.MatchOp.Re else [matcher.value]
            for value in filter(str.isidentifier, values):  # skip a pattern such as 5..
                assert value in {labels[matcher.name] for labels in found}


def test_the_dashboard_has_the_queries_of_the_guide() -> None:
    assert len(IN_THE_TABLE) == 12
    assert len(IN_RULES) == 7
    assert ON_THE_DASHBOARD == IN_THE_TABLE


def test_every_metric_is_documented_with_its_labels(scraped: ScrapedServer, person: Person) -> None:
    scraped.api.events(create(), person.token())
    described = {
        name: set(re.findall(r"`(\w+)`", labels))
        for name, labels in re.findall(r"^\| `(chatbackend_\w+)` \|([^|]*)\|", GUIDE, re.MULTILINE)
    }

    exposed: dict[str, set[str]] = {}
    for name, labels in scraped.metrics():
        if name.startswith("chatbackend_"):
            base = re.sub(r"_(bucket|count|sum)$", "", name)
            exposed.setdefault(base, set()).update(each for each, _ in labels if each != "le")
    assert exposed == described
