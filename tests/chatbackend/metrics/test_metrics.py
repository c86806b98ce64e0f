"""The counted events, scraped from real servers before and after an event."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from chatbackend.dev.processes import free_port
from support import api_view
from tests.fixtures.accounts.people import Person
from tests.fixtures.conversations import deltas_of
from tests.fixtures.model.server import Model
from tests.fixtures.servers.api import Api, add, create, http, operation
from tests.fixtures.servers.metrics import (
    ATTEMPTS,
    ATTEMPTS_TIMED,
    REQUESTS,
    STREAMS,
    STREAMS_ENDED,
    ScrapedServer,
    output_of,
)


def test_an_accepted_request_is_counted_and_timed(scraped: ScrapedServer, person: Person) -> None:
    before = scraped.metrics()

    assert scraped.api.post(operation("threads.list"), person.token()).status_code == 200

    after = scraped.metrics()
    assert after.of(ATTEMPTS, outcome="accepted", reason="ok") == before.of(ATTEMPTS, reason="ok") + 1
    assert after.of(ATTEMPTS_TIMED, outcome="accepted") == before.of(ATTEMPTS_TIMED, outcome="accepted") + 1
    listed = {"operation": "threads.list", "status": "200"}
    assert after.of(REQUESTS, **listed) == before.of(REQUESTS, **listed) + 1


@pytest.mark.parametrize(
    ("token", "reason"), [(None, "no_credentials"), ("a.b.c", "malformed"), ("x" * 9000, "malformed")]
)
def test_a_refused_request_is_counted_by_reason(
    scraped: ScrapedServer, token: str | None, reason: str
) -> None:
    before = scraped.metrics()

    assert scraped.api.post(operation("threads.list"), token).status_code == 401

    after = scraped.metrics()
    refused = {"outcome": "refused", "reason": reason}
    assert after.of(ATTEMPTS, **refused) == before.of(ATTEMPTS, **refused) + 1
    assert after.of(REQUESTS, status="401") == before.of(REQUESTS, status="401") + 1


def test_the_histogram_has_buckets_at_the_target_times(scraped: ScrapedServer) -> None:
    name = "chatbackend_authentication_duration_seconds_bucket"
    buckets = {dict(labels)["le"] for each, labels in scraped.metrics() if each == name}

    assert {"0.0005", "0.02", "0.1", "1.0"} <= buckets


def test_a_stream_is_timed_until_its_first_event_its_first_word_and_its_end(
    scraped: ScrapedServer, person: Person, model: Model
) -> None:
    before = scraped.metrics()

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
    scraped: ScrapedServer, person: Person, model: Model
) -> None:
    model.will_answer("Once ", ending="silence")
    cancelled = scraped.metrics().of(STREAMS_ENDED, ending="cancelled")

    with scraped.api.stream(create(), person.token()) as events:
        next(event for _, event in events if deltas_of([event]))
        assert scraped.metrics().of(STREAMS) == 1

    scraped.eventually(STREAMS, 0)
    assert scraped.metrics().of(STREAMS_ENDED, ending="cancelled") == cancelled + 1


def test_a_refused_stream_does_not_count_as_open(scraped: ScrapedServer, person: Person) -> None:
    before = scraped.metrics()

    assert scraped.api.post(add("thr_nowhere"), person.token()).status_code == 404

    after = scraped.metrics()
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
    scraped: ScrapedServer, person: Person, model: Model, turn: dict[str, Any], kind: str
) -> None:
    model.will_answer(**turn)
    before = scraped.metrics()

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
        running = ScrapedServer(api, port)
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


def test_no_client_can_grow_the_number_of_series(scraped: ScrapedServer, person: Person) -> None:
    send_hostile_requests(scraped.api, person)
    before = scraped.metrics()

    for _ in range(3):
        send_hostile_requests(scraped.api, person)

    after = scraped.metrics()
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
    audit.attempted.send(None, outcome="refused", reason=f"invented {number}", status=401, seconds=1)
print(prometheus_client.generate_latest().decode())
"""


def test_an_unknown_reason_is_counted_as_other() -> None:
    output = output_of(UNKNOWN_REASONS)

    assert f'{ATTEMPTS}{{outcome="refused",reason="other"}} 9.0' in output
    assert "invented" not in output
