"""The minimum cost of each layer: the same work, done only by the library that our layer uses."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from statistics import median
from typing import Any

import psycopg
import uvloop
from django.core.cache import cache
from django.core.handlers.base import BaseHandler
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from django.urls import path
from rest_framework.views import APIView

from benchmarks.environment import LIST, PATH, Environment
from benchmarks.servers.memory import MemoryStore, Server
from support.chat import protocol

BATCHES = 7


def per_call(call: Callable[[], Any], count: int, clock: Callable[[], int] = time.thread_time_ns) -> float:
    """µs of one call: the median of the batches. CPU time of this thread, unless ``clock`` is given."""
    batches = []
    for _ in range(BATCHES):
        started = clock()
        for _ in range(count):
            call()
        batches.append((clock() - started) / count / 1000)
    return median(batches)


def thread_hop(count: int) -> float:
    """CPU time of both threads when an event loop runs an empty call in a thread."""

    async def call_repeatedly() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(count):
            await loop.run_in_executor(threads, int)

    with ThreadPoolExecutor(max_workers=1) as threads:
        return per_call(lambda: uvloop.run(call_repeatedly()), 1, time.process_time_ns) / count


def django(count: int) -> float:
    """From request to response without middleware, with one URL and an empty view."""
    urls = (path(PATH.lstrip("/"), lambda request: HttpResponse()),)
    with override_settings(MIDDLEWARE=[], ROOT_URLCONF=urls):
        handler, request = BaseHandler(), _request()
        handler.load_middleware()
        return per_call(lambda: handler.get_response(request), count)


def rest_framework(count: int) -> float:
    """An empty view without authentication."""

    class Empty(APIView):
        authentication_classes = ()
        permission_classes = ()

        def post(self, request: object) -> HttpResponse:
            return HttpResponse()

    view, request = Empty.as_view(), _request()
    return per_call(lambda: view(request), count)


def throttle(count: int) -> float:
    def get_and_set() -> None:
        cache.get("benchmark")
        cache.set("benchmark", [0.0])

    return per_call(get_and_set, count)


def token(token: str, count: int) -> float:
    """A look-up of the token in a cache."""
    cached = lru_cache(lambda text: text)
    return per_call(lambda: cached(token), count)


def statement(environment: Environment, sql: Any, parameters: Any, count: int) -> tuple[float, float]:
    """(CPU, elapsed) of psycopg alone, with a prepared statement on an open connection."""
    with psycopg.connect(environment.database_url, autocommit=True) as connection:

        def execute() -> None:
            connection.execute(sql, parameters, prepare=True).fetchall()

        return per_call(execute, count), per_call(execute, count, time.perf_counter_ns)


def in_postgresql(environment: Environment, sql: str, parameters: Any) -> float:
    """The execution time that PostgreSQL's EXPLAIN reports, in µs."""
    times: list[float] = []
    with psycopg.connect(environment.database_url, cursor_factory=psycopg.ClientCursor) as connection:
        for _ in range(30):
            plan = connection.execute(
                f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}", parameters
            ).fetchone()
            assert plan
            times.append(plan[0][0]["Execution Time"] * 1000)
    return median(times)


def chatkit(count: int) -> float:
    """``process`` with a cached parser and a store in memory."""
    protocol.cache_request_parser()
    server = Server(MemoryStore())

    def process() -> None:
        step = server.process(LIST, {"user_id": "somebody"})
        try:
            step.send(None)
        except StopIteration:
            return
        raise AssertionError("process awaited something, although the store is in memory")

    return per_call(process, count)


def log_line(count: int) -> float:
    """One line of plain text, written to a file."""
    logger = logging.getLogger("benchmarks.minimum")
    with open("/dev/null", "w") as nowhere:
        handler = logging.StreamHandler(nowhere)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
        try:
            return per_call(lambda: logger.info("accepted: %s", "ok"), count)
        finally:
            logger.removeHandler(handler)


def _request() -> HttpRequest:
    return RequestFactory().post(PATH, LIST, content_type="application/json", HTTP_HOST="127.0.0.1")
