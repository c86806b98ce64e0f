"""What is counted, for Prometheus. docs/metrics.md says what each number is good for.

authn and support tell what happens by signals, which cost nothing while nobody listens; only a server
that is to be scraped imports this (chatbackend/metrics/exposition.py). A label takes one of a few
words, which are ours and never a caller's: nobody can grow the number of series.
"""

from functools import cache
from typing import Any, TypeVar

from django.dispatch import Signal
from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from authn import audit
from authn.diagnosis.reasons import REASONS
from runtime import worker_threads
from support import views
from support.assistant import agent
from support.assistant.provider import model_errors
from support.chat import streaming

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, of no use to rate()

# 20 and 100 ms are what a user's look-up is to stay under; below 0.5 ms nothing can be told from noise.
MILLISECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
MINUTES = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)

ATTEMPTS = Counter(
    "chatbackend_authentication_attempts_total",
    "Attempts to get in, by the reasons of the audit log.",
    ["outcome", "reason"],
)
ATTEMPT_SECONDS = Histogram(
    "chatbackend_authentication_duration_seconds",
    "From the credential to the user and session, or to the refusal.",
    ["outcome"],
    buckets=MILLISECONDS,
)
REQUESTS = Counter(
    "chatbackend_requests_total", "Requests under /support/, by what they ask for.", ["operation", "status"]
)
REQUEST_SECONDS = Histogram(
    "chatbackend_request_duration_seconds",
    "Until the answer is there; of a stream, until its first event.",
    ["operation"],
    buckets=SECONDS,
)
STREAMS_OPEN = Gauge(
    "chatbackend_streams_open", "Streams whose work is under way.", multiprocess_mode="livesum"
)
STREAM_SECONDS = Histogram(
    "chatbackend_stream_duration_seconds", "Of a stream, by how it ended.", ["ending"], buckets=MINUTES
)
FIRST_EVENT_SECONDS = Histogram(
    "chatbackend_stream_first_event_seconds",
    "From the start of a stream's work to its first event, before any model is asked.",
    buckets=SECONDS,
)
FIRST_WORD_SECONDS = Histogram(
    "chatbackend_model_first_word_seconds",
    "From the beginning of a model's answer to its first word, tools included.",
    buckets=SECONDS,
)
MODEL_ERRORS = Counter("chatbackend_model_errors_total", "Answers that a model failed to give.", ["kind"])
WORKERS_BUSY = Gauge(
    "chatbackend_workers_busy",
    "Threads at work, each with its database connection.",
    multiprocess_mode="livesum",
)
WORKERS_LIMIT = Gauge("chatbackend_workers_limit", "WORKER_THREADS.", multiprocess_mode="livesum")
WORKERS_AWAITED = Gauge(
    "chatbackend_workers_awaited",
    "Requests, and calls of streams, that wait for a thread.",
    multiprocess_mode="livesum",
)

M = TypeVar("M", Counter, Histogram)

OTHER = "other"  # a reason of some class that is not ours

# A series that appears with its first event has no increase() then, and an alert would miss it.
for reason in REASONS | {OTHER: None}:
    ATTEMPTS.labels("refused", reason)
ATTEMPTS.labels("accepted", "ok")
for outcome in ("accepted", "refused"):
    ATTEMPT_SECONDS.labels(outcome)
for ending in streaming.ENDINGS:
    STREAM_SECONDS.labels(ending)
for kind in model_errors.KINDS:
    MODEL_ERRORS.labels(kind)


def listen() -> None:
    """Begin to count."""
    receivers: list[tuple[Signal, Any]] = [
        (audit.attempted, _attempted),
        (views.answered, _answered),
        (streaming.opened, _opened),
        (streaming.began, _began),
        (streaming.closed, _closed),
        (agent.model_spoke, _model_spoke),
        (model_errors.model_failed, _model_failed),
    ]
    for signal, receiver in receivers:
        signal.connect(receiver)


def look_at_workers() -> None:
    busy, awaited = worker_threads.workers.load()
    WORKERS_BUSY.set(busy)
    WORKERS_LIMIT.set(worker_threads.workers.size)
    WORKERS_AWAITED.set(awaited)


def _attempted(outcome: str, reason: str, seconds: float, **kwargs: Any) -> None:
    known = reason if reason in REASONS or outcome == "accepted" else OTHER
    _series(ATTEMPTS, outcome, known).inc()
    _series(ATTEMPT_SECONDS, outcome).observe(seconds)


def _answered(operation: str, status: int, seconds: float, **kwargs: Any) -> None:
    _series(REQUESTS, operation, status).inc()
    _series(REQUEST_SECONDS, operation).observe(seconds)


def _opened(**kwargs: Any) -> None:
    STREAMS_OPEN.inc()


def _began(seconds: float, **kwargs: Any) -> None:
    FIRST_EVENT_SECONDS.observe(seconds)


def _closed(seconds: float, ending: str, **kwargs: Any) -> None:
    STREAMS_OPEN.dec()
    _series(STREAM_SECONDS, ending).observe(seconds)


def _model_spoke(seconds: float, **kwargs: Any) -> None:
    FIRST_WORD_SECONDS.observe(seconds)


def _model_failed(kind: str, **kwargs: Any) -> None:
    MODEL_ERRORS.labels(kind).inc()


@cache
def _series(metric: M, *labels: str | int) -> M:
    """The library's own look-up takes longer than the counting."""
    return metric.labels(*labels)
