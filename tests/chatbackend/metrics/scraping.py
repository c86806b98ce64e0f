"""Reads the metrics of a server as Prometheus does."""

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from tests.fixtures.servers.api import Api, eventually, http
from tests.fixtures.servers.forkserver import python

ATTEMPTS = "chatbackend_authentication_attempts_total"
ATTEMPTS_TIMED = "chatbackend_authentication_duration_seconds_count"
REQUESTS = "chatbackend_requests_total"
STREAMS = "chatbackend_streams_open"
STREAMS_ENDED = "chatbackend_stream_duration_seconds_count"


class Metrics(dict[tuple[str, tuple[tuple[str, str], ...]], float]):
    """The values of one scrape, by name and labels."""

    def of(self, name: str, **labels: str) -> float:
        """The sum of the series with these labels."""
        return sum(
            value
            for (each, its_labels), value in self.items()
            if each == name and labels.items() <= dict(its_labels).items()
        )


def scrape(port: int) -> Metrics:
    answer = http.get(f"http://127.0.0.1:{port}/metrics")
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.text)
    samples = [sample for family in families for sample in family.samples]
    return Metrics({(each.name, tuple(sorted(each.labels.items()))): each.value for each in samples})


@dataclass
class ScrapedServer:
    api: Api
    port: int

    def metrics(self) -> Metrics:
        return scrape(self.port)

    def eventually(self, name: str, value: float, **labels: str) -> Metrics:
        """Wait until the value is reached. Some events are counted after the response is sent."""
        return eventually(self.metrics, lambda metrics: metrics.of(name, **labels) == value)


def output_of(program: str, **env: str) -> str:
    done = python(program, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout
