"""The Prometheus metrics. docs/metrics.md explains each of them.

authn and support send Django signals, and this module counts them. A signal without a receiver costs almost
nothing: only a server with a METRICS_PORT imports this module (chatbackend/metrics/exposition.py). Each label
has a fixed set of values, so a caller cannot increase the number of series.
"""

from functools import cache
from typing import Any, TypeVar

from django.dispatch import Signal
from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from authn import audit
from authn.diagnosis.reasons import REASONS
from runtime import worker_threads
from support import api_view
from support.assistant import answer
from support.assistant.provider import failure_messages
from support.chat import streaming
from support.tools import calls

disable_created_metrics()  # type: ignore[no-untyped-call]  # rate() does not need the second series that each metric would get

# The buckets of histograms, in seconds. MILLISECONDS is for authentication: it should take less than 20 ms,
# and 100 ms at most. Times below 0.5 ms are only noise.
MILLISECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
MINUTES = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)

ATTEMPTS = Counter(
    "chatbackend_authentication_attempts_total",
    "Authentication attempts, by the reasons of the audit log.",
    ["outcome", "reason"],
)
ATTEMPT_SECONDS = Histogram(
    "chatbackend_authentication_duration_seconds",
    "Time from reading the credential to the user and session, or to the refusal.",
    ["outcome"],
    buckets=MILLISECONDS,
)
REQUESTS = Counter(
    "chatbackend_requests_total",
    "Requests under /support/, by operation and status.",
    ["operation", "status"],
)
REQUEST_SECONDS = Histogram(
    "chatbackend_request_duration_seconds",
    "Time until the response is ready; for a stream, until its first event.",
    ["operation"],
    buckets=SECONDS,
)
STREAMS_OPEN = Gauge("chatbackend_streams_open", "Streams that are running.", multiprocess_mode="livesum")
STREAM_SECONDS = Histogram(
    "chatbackend_stream_duration_seconds",
    "Duration of streams, by how they ended.",
    ["ending"],
    buckets=MINUTES,
)
FIRST_EVENT_SECONDS = Histogram(
    "chatbackend_stream_first_event_seconds",
    "Time from a stream's start to its first event, before any model is called.",
    buckets=SECONDS,
)
FIRST_WORD_SECONDS = Histogram(
    "chatbackend_model_first_word_seconds",
    "Time from the start of a model's answer to its first word, including tool calls.",
    buckets=SECONDS,
)
MODEL_ERRORS = Counter(
    "chatbackend_model_errors_total", "Failed answers of a model, by kind of failure.", ["kind"]
)
TOOL_CALLS = Counter(
    "chatbackend_tool_calls_total",
    "Calls of SUPPORT_TOOLS, by who called and how the call ended.",
    ["via", "outcome"],
)
TOOL_SECONDS = Histogram(
    "chatbackend_tool_call_duration_seconds", "Duration of calls of SUPPORT_TOOLS.", ["via"], buckets=SECONDS
)
WORKERS_BUSY = Gauge(
    "chatbackend_workers_busy",
    "Busy worker threads. Each has its database connection.",
    multiprocess_mode="livesum",
)
WORKERS_LIMIT = Gauge(
    "chatbackend_workers_limit", "The value of WORKER_THREADS.", multiprocess_mode="livesum"
)
WORKERS_AWAITED = Gauge(
    "chatbackend_workers_awaited",
    "Requests, and calls of streams, that wait for a worker thread.",
    multiprocess_mode="livesum",
)

M = TypeVar("M", Counter, Histogram)

OTHER = "other"  # replaces a reason that is not in REASONS, which another authentication class gave

# Create all series at the start. Otherwise a series would appear with its first event: Prometheus's
# increase() would be 0 then, and an alert would miss the event.
for reason in REASONS | {OTHER: None}:
    ATTEMPTS.labels("refused", reason)
ATTEMPTS.labels("accepted", "ok")
for outcome in ("accepted", "refused"):
    ATTEMPT_SECONDS.labels(outcome)
for ending in streaming.STREAM_ENDINGS:
    STREAM_SECONDS.labels(ending)
for kind in failure_messages.KINDS:
    MODEL_ERRORS.labels(kind)
for via in calls.VIA:
    TOOL_SECONDS.labels(via)
    for outcome in calls.OUTCOMES:
        TOOL_CALLS.labels(via, outcome)


def listen() -> None:
    """Connect the metrics to the signals."""
    receivers: list[tuple[Signal, Any]] = [
        (audit.attempted, _attempted),
        (api_view.answered, _answered),
        (streaming.opened, _opened),
        (streaming.began, _began),
        (streaming.closed, _closed),
        (answer.first_word_received, _first_word_received),
        (failure_messages.model_failed, _model_failed),
        (calls.called, _tool_called),
    ]
    for signal, receiver in receivers:
        signal.connect(receiver)


def update_worker_gauges() -> None:
    busy, awaited = worker_threads.workers.load()
    WORKERS_BUSY.set(busy)
    WORKERS_LIMIT.set(worker_threads.workers.size)
    WORKERS_AWAITED.set(awaited)


def _attempted(outcome: str, reason: str, seconds: float, **kwargs: Any) -> None:
    known = reason if reason in REASONS or outcome == "accepted" else OTHER
    _with_labels(ATTEMPTS, outcome, known).inc()
    _with_labels(ATTEMPT_SECONDS, outcome).observe(seconds)


def _answered(operation: str, status: int, seconds: float, **kwargs: Any) -> None:
    _with_labels(REQUESTS, operation, status).inc()
    _with_labels(REQUEST_SECONDS, operation).observe(seconds)


def _opened(**kwargs: Any) -> None:
    STREAMS_OPEN.inc()


def _began(seconds: float, **kwargs: Any) -> None:
    FIRST_EVENT_SECONDS.observe(seconds)


def _closed(seconds: float, ending: str, **kwargs: Any) -> None:
    STREAMS_OPEN.dec()
    _with_labels(STREAM_SECONDS, ending).observe(seconds)


def _first_word_received(seconds: float, **kwargs: Any) -> None:
    FIRST_WORD_SECONDS.observe(seconds)


def _model_failed(kind: str, **kwargs: Any) -> None:
    MODEL_ERRORS.labels(kind).inc()


def _tool_called(via: str, outcome: str, seconds: float, **kwargs: Any) -> None:
    _with_labels(TOOL_CALLS, via, outcome).inc()
    _with_labels(TOOL_SECONDS, via).observe(seconds)


@cache
def _with_labels(metric: M, *labels: str | int) -> M:
    """Return the metric with these labels. Cached, because finding the labels takes longer than counting."""
    return metric.labels(*labels)
