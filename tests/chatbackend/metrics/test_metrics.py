"""The metrics, scraped from real servers before and after an event."""

import json
import os
import re
import signal
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import promql_parser
import psycopg
import pytest
import yaml
from django.conf import settings
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.parser import text_string_to_metric_families

from chatbackend.checks import check_settings
from chatbackend.dev.processes import free_port
from support import api_view
from tests.fixtures.accounts.people import Person
from tests.fixtures.conversations import deltas_of
from tests.fixtures.environment import process_environment
from tests.fixtures.model.server import Model
from tests.fixtures.servers.api import Api, add, create, eventually, http, operation
from tests.fixtures.servers.forkserver import python, uvicorn

TOP = Path(__file__).parents[2]
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
class Scraped:
    api: Api
    port: int

    def numbers(self) -> Metrics:
        return scrape(self.port)

    def eventually(self, name: str, value: float, **labels: str) -> Metrics:
        """Wait until the value is reached. Some events are counted after the response is sent."""
        return eventually(self.numbers, lambda numbers: numbers.of(name, **labels) == value)


@pytest.fixture(scope="module")
def scraped(start_assistant: Callable[..., Any]) -> Iterator[Scraped]:
    port = free_port()
    with start_assistant(METRICS_PORT=str(port)) as api:
        yield Scraped(api, port)


# --- Counted events -------------------------------------------------------------------------------


def test_an_accepted_request_is_counted_and_timed(scraped: Scraped, person: Person) -> None:
    before = scraped.numbers()

    assert scraped.api.post(operation("threads.list"), person.token()).status_code == 200

    after = scraped.numbers()
    assert after.of(ATTEMPTS, outcome="accepted", reason="ok") == before.of(ATTEMPTS, reason="ok") + 1
    assert after.of(ATTEMPTS_TIMED, outcome="accepted") == before.of(ATTEMPTS_TIMED, outcome="accepted") + 1
    listed = {"operation": "threads.list", "status": "200"}
    assert after.of(REQUESTS, **listed) == before.of(REQUESTS, **listed) + 1


@pytest.mark.parametrize(
    ("token", "reason"), [(None, "no_credentials"), ("a.b.c", "malformed"), ("x" * 9000, "malformed")]
)
def test_a_refused_request_is_counted_by_reason(scraped: Scraped, token: str | None, reason: str) -> None:
    before = scraped.numbers()

    assert scraped.api.post(operation("threads.list"), token).status_code == 401

    after = scraped.numbers()
    refused = {"outcome": "refused", "reason": reason}
    assert after.of(ATTEMPTS, **refused) == before.of(ATTEMPTS, **refused) + 1
    assert after.of(REQUESTS, status="401") == before.of(REQUESTS, status="401") + 1


def test_the_histogram_has_buckets_at_the_target_times(scraped: Scraped) -> None:
    name = "chatbackend_authentication_duration_seconds_bucket"
    buckets = {dict(labels)["le"] for each, labels in scraped.numbers() if each == name}

    assert {"0.0005", "0.02", "0.1", "1.0"} <= buckets


def test_a_stream_is_timed_until_its_first_event_its_first_word_and_its_end(
    scraped: Scraped, person: Person, model: Model
) -> None:
    before = scraped.numbers()

    assert deltas_of(scraped.api.events(create(), person.token())) == ["Good ", "morning", "!"]

    ended = {"ending": "complete"}
    after = scraped.eventually(STREAMS_ENDED, before.of(STREAMS_ENDED, **ended) + 1, **ended)
    for name in (
        "chatbackend_stream_first_event_seconds_count",
        "chatbackend_model_first_word_seconds_count",
    ):
        assert after.of(name) == before.of(name) + 1
    timed = "chatbackend_request_duration_seconds_count"
    started = {"operation": "threads.create"}
    assert after.of(timed, **started) == before.of(timed, **started) + 1


def test_a_stream_counts_as_open_until_its_client_disconnects(
    scraped: Scraped, person: Person, model: Model
) -> None:
    model.will_answer("Once ", ending="silence")
    cancelled = scraped.numbers().of(STREAMS_ENDED, ending="cancelled")

    with scraped.api.stream(create(), person.token()) as events:
        next(event for _, event in events if deltas_of([event]))
        assert scraped.numbers().of(STREAMS) == 1

    scraped.eventually(STREAMS, 0)
    assert scraped.numbers().of(STREAMS_ENDED, ending="cancelled") == cancelled + 1


def test_a_refused_stream_does_not_count_as_open(scraped: Scraped, person: Person) -> None:
    before = scraped.numbers()

    assert scraped.api.post(add("thr_nowhere"), person.token()).status_code == 404

    after = scraped.numbers()
    assert after.of(STREAMS_ENDED, ending="refused") == before.of(STREAMS_ENDED, ending="refused") + 1
    first = "chatbackend_stream_first_event_seconds_count"
    assert (after.of(STREAMS), after.of(first)) == (0, before.of(first))


@pytest.mark.parametrize(
    ("turn", "kind"),
    [
        ({"status": 500}, "unreachable"),
        ({"status": 429, "headers": {"Retry-After": "30"}}, "busy"),
        ({"status": 400}, "refused"),
        ({"status": 401}, "unavailable"),
        ({"ending": "nonsense"}, "broke_off"),
        ({"finish_reason": "length"}, "cut_off"),
        ({"finish_reason": "content_filter"}, "filtered"),
        ({}, "empty"),
    ],
)
def test_a_failing_model_is_counted_by_kind_and_its_stream_as_an_error(
    scraped: Scraped, person: Person, model: Model, turn: dict[str, Any], kind: str
) -> None:
    model.will_answer(**turn)
    before = scraped.numbers()

    scraped.api.events(create(), person.token())

    failed, ended = {"kind": kind}, {"ending": "error"}
    after = scraped.eventually(STREAMS_ENDED, before.of(STREAMS_ENDED, **ended) + 1, **ended)
    errors = "chatbackend_model_errors_total"
    assert after.of(errors, **failed) == before.of(errors, **failed) + 1
    assert after.of(errors) == before.of(errors) + 1


BUSY = "chatbackend_workers_busy"
AWAITED = "chatbackend_workers_awaited"


def test_busy_threads_and_waiting_calls_are_counted(
    start_api: Callable[..., Any], database_url: str, person: Person
) -> None:
    port, token = free_port(), person.token()
    env = {"METRICS_PORT": str(port), "WORKER_THREADS": "2"}
    with start_api(**env) as api, ThreadPoolExecutor(5) as clients:
        running = Scraped(api, port)
        assert api.post(operation("threads.list"), token).status_code == 200  # loads the keys

        with psycopg.connect(database_url) as connection:
            connection.execute('LOCK TABLE "session" IN ACCESS EXCLUSIVE MODE')
            answers = [clients.submit(api.post, operation("threads.list"), token) for _ in range(5)]
            busy = running.eventually(AWAITED, 3)
        assert [answer.result().status_code for answer in answers] == [200] * 5

        assert (busy.of(BUSY), busy.of("chatbackend_workers_limit")) == (2, 2)
        assert running.eventually(BUSY, 0).of(AWAITED) == 0


def test_an_exception_in_a_view_is_counted_as_a_500(rf: Any) -> None:
    class Broken(api_view.MeasuredView):
        authentication_classes = permission_classes = []

        def get(self, request: Any) -> None:
            raise RuntimeError

    counted = []

    def count(operation: str, status: int, **kwargs: Any) -> None:
        counted.append((operation, status))

    api_view.answered.connect(count)
    with pytest.raises(RuntimeError):
        Broken.as_view()(rf.get("/"))

    assert counted == [("unknown", 500)]


# --- No series for a caller's values --------------------------------------------------------------


def send_hostile_requests(api: Api, person: Person) -> None:
    """Requests with new random values wherever a client can choose one."""
    unique, token = uuid.uuid4().hex, person.token()
    for bearer in (None, unique, f"{unique}.b.c", f"a.{unique}", token[:-2] + "xx"):
        api.post(operation("threads.list"), bearer, User_Agent=unique, X_Request_ID=unique)
    http.post(api.url, headers={"Authorization": f"Bearer {token}, Bearer {token}", "Cookie": f"{unique}=1"})
    for body in (
        operation(unique),
        operation("threads.list", **{unique: 1}),
        unique.encode(),
        b"{}",
    ):
        api.post(body, token, Accept_Language=unique)
    for kind in ("threads.get_by_id", "threads.delete", "items.list"):
        api.post(operation(kind, thread_id=unique), token, X_Forwarded_For=f"10.{len(unique)}.1.1")
    api.post(add(unique), token)
    for path in (
        "",
        unique,
        f"{unique}/content?signature={unique}",
        f"{unique}/upload",
    ):
        http.get(f"{api.origin}/support/attachments/{path}", headers={"Authorization": f"Bearer {token}"})
    http.request("BREW", api.url, headers={"Authorization": f"Bearer {token}"})
    http.get(f"{api.origin}/{unique}?{unique}")


def test_no_client_can_grow_the_number_of_series(scraped: Scraped, person: Person) -> None:
    send_hostile_requests(scraped.api, person)
    before = scraped.numbers()

    for _ in range(3):
        send_hostile_requests(scraped.api, person)

    after = scraped.numbers()
    assert set(after) == set(before)
    assert after.of(REQUESTS) > before.of(REQUESTS)  # the requests were counted
    assert len([name for name, _ in after if name.startswith("chatbackend_")]) < 500


UNKNOWN_REASONS = """
import django; django.setup()
import prometheus_client
from authn import audit
from chatbackend.metrics import collectors as metrics
metrics.listen()
for number in range(9):
    audit.attempted.send(None, outcome="refused", reason=f"invented {number}", seconds=1)
print(prometheus_client.generate_latest().decode())
"""


def test_an_unknown_reason_is_counted_as_other() -> None:
    output = output_of(UNKNOWN_REASONS)

    assert f'{ATTEMPTS}{{outcome="refused",reason="other"}} 9.0' in output
    assert "invented" not in output


# --- Off, and wrong settings ----------------------------------------------------------------------

LIFESPAN = """
import asyncio, sys
from chatbackend.asgi import application
from authn import audit

async def main():
    received = asyncio.Queue()
    received.put_nowait({"type": "lifespan.startup"})
    sent = asyncio.Queue()
    running = asyncio.create_task(application({"type": "lifespan"}, received.get, sent.put))
    print((await sent.get())["type"], "prometheus_client" in sys.modules, bool(audit.attempted.receivers))
    running.cancel()

asyncio.run(main())
"""


def output_of(program: str, **env: str) -> str:
    done = python(program, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_a_port_nothing_is_served_counted_or_imported(auth: Any, database_url: str) -> None:
    output = output_of(LIFESPAN, DATABASE_URL=database_url)

    assert output.splitlines()[-1] == "lifespan.startup.complete False False"


def test_a_port_in_use_stops_the_start(auth: Any, scraped: Scraped, database_url: str) -> None:
    program = (
        f"from uvicorn.main import main; main(['chatbackend.asgi:application', '--port', '{free_port()}'])"
    )

    done = python(program, DATABASE_URL=database_url, METRICS_PORT=str(scraped.port))

    assert done.returncode != 0
    assert "METRICS_PORT" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"METRICS_PORT": 65_536}, "E006"),
        ({"METRICS_PORT": -1}, "E006"),
        ({"METRICS_ADDRESS": "localhost"}, "E007"),
        ({"METRICS_ADDRESS": ""}, "E007"),
        ({"METRICS_DIRECTORY": "/nowhere/at/all"}, "E008"),
        ({"METRICS_DIRECTORY": __file__}, "E008"),
        ({"WEB_CONCURRENCY": "2"}, "E009"),
    ],
    ids=str,
)
def test_a_wrong_metrics_setting_is_a_check_error(
    monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], fault: str
) -> None:
    for name, value in ({"METRICS_PORT": 9100} | wrong).items():
        if name == "WEB_CONCURRENCY":
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.setattr(settings, name, value)

    assert [message.id for message in check_settings()] == [f"chatbackend.{fault}"]


def test_valid_metrics_settings_pass_the_checks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings, "METRICS_PORT", 9100)
    monkeypatch.setattr(settings, "METRICS_ADDRESS", "::1")
    monkeypatch.setattr(settings, "METRICS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("WEB_CONCURRENCY", "4")

    assert check_settings() == []


# --- Several workers ------------------------------------------------------------------------------


@dataclass
class Workers(Scraped):
    directory: Path

    def process_ids(self) -> set[int]:
        return {int(file.stem.rpartition("_")[2]) for file in self.directory.glob("counter_*.db")}

    def value_of(self, process_id: int, name: str) -> float:
        """The value in the files of one worker."""
        files = [str(file) for file in self.directory.glob(f"*_{process_id}.db")]
        values = [each for file in files for each in MmapedDict.read_all_values_from_file(file)]
        return sum(value for key, value, *_ in values if json.loads(key)[1] == name)


@pytest.fixture
def workers(auth: Any, database_url: str, tmp_path: Path) -> Iterator[Workers]:
    """A server with two worker processes."""
    port, metrics_port = free_port(), free_port()
    env = process_environment(
        DATABASE_URL=database_url,
        CHATKIT_SERVER="tests.fixtures.chatkit.servers.SlowServer",
        SUPPORT_RATE_PER_USER="100000/min",
        METRICS_PORT=str(metrics_port),
        METRICS_DIRECTORY=str(tmp_path),
    )
    arguments = ["chatbackend.asgi:application", "--port", str(port), "--ws", "none"]
    arguments += ["--workers", "2", "--timeout-graceful-shutdown", "2"]
    with uvicorn(arguments, env, port, tmp_path / "log"):
        running = Workers(Api(f"http://localhost:{port}", tmp_path / "log"), metrics_port, tmp_path)
        eventually(running.process_ids, lambda found: len(found) == 2)
        yield running


def test_each_worker_answers_for_all_workers_even_for_one_that_has_ended(
    workers: Workers, person: Person
) -> None:
    token, asked = person.token(), 0

    def both_have_answered() -> bool:
        return all(workers.value_of(each, ATTEMPTS) for each in workers.process_ids())

    while asked < 200 and not both_have_answered():
        assert workers.api.post(operation("threads.list"), token).status_code == 200
        asked += 1
    assert both_have_answered()
    # The kernel chooses the worker. With 20 requests, both answer some.
    assert {workers.numbers().of(ATTEMPTS, reason="ok") for _ in range(20)} == {asked}

    with workers.api.stream(create("until I leave"), token) as events:
        next(events)
        eventually(workers.numbers, lambda numbers: numbers.of(STREAMS) == 1)
        [busy] = [each for each in workers.process_ids() if workers.value_of(each, STREAMS)]
        os.kill(busy, signal.SIGKILL)
        with pytest.raises(httpx2.HTTPError):
            list(events)

    # Its open stream is no longer counted. Its counters remain.
    eventually(lambda: scrape_or_nothing(workers), lambda numbers: numbers.of(STREAMS) == 0 and bool(numbers))
    assert workers.numbers().of(ATTEMPTS, reason="ok") == asked + 1
    assert not list(workers.directory.glob(f"gauge_live*_{busy}.db"))


def scrape_or_nothing(workers: Workers) -> Metrics:
    try:
        return workers.numbers()
    except httpx2.HTTPError:  # the request went to the worker that has ended
        return Metrics()


RESTARTED = """
import os, pathlib
for file in pathlib.Path(os.environ["METRICS_DIRECTORY"]).glob("*.db"):  # as if this process had the same id
    file.rename(file.with_name(f"{file.stem.rpartition('_')[0]}_{os.getpid()}.db"))
import django; django.setup()
from chatbackend.metrics import exposition
exposition.start()
from chatbackend.metrics import collectors as metrics
metrics.STREAMS_OPEN.inc()
metrics.MODEL_ERRORS.labels("busy").inc()
import prometheus_client
print(prometheus_client.generate_latest(exposition._registry()).decode())
"""


def test_a_worker_keeps_the_counters_of_an_earlier_process_with_its_id(tmp_path: Path) -> None:
    for times in ("1.0", "2.0"):
        env = {"METRICS_PORT": str(free_port()), "METRICS_DIRECTORY": str(tmp_path)}

        output = output_of(RESTARTED, **env)

        assert f'chatbackend_model_errors_total{{kind="busy"}} {times}' in output
        assert "chatbackend_streams_open 1.0" in output


# --- The documentation ----------------------------------------------------------------------------

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
def test_every_documented_query_uses_existing_series(scraped: Scraped, person: Person, query: str) -> None:
    scraped.api.events(create(), person.token())
    series = list(scraped.numbers())

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


def test_every_metric_is_documented_with_its_labels(scraped: Scraped, person: Person) -> None:
    scraped.api.events(create(), person.token())
    described = {
        name: set(re.findall(r"`(\w+)`", labels))
        for name, labels in re.findall(r"^\| `(chatbackend_\w+)` \|([^|]*)\|", GUIDE, re.MULTILINE)
    }

    exposed: dict[str, set[str]] = {}
    for name, labels in scraped.numbers():
        if name.startswith("chatbackend_"):
            base = re.sub(r"_(bucket|count|sum)$", "", name)
            exposed.setdefault(base, set()).update(each for each, _ in labels if each != "le")
    assert exposed == described
