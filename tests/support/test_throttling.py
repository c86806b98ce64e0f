"""The throttle of users' requests when its cache does not answer, and its counts."""

import os
import runpy
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from django.core.cache import CacheHandler

from authn.errors import Unavailable
from support.throttling import PerUserThrottle
from tests.fixtures.code_blocks import TOP


@pytest.fixture(params=["down", "hanging"])
def cache(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The cache of the project's settings, on a server that refuses connections or never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = {"CACHE_URL": f"redis://127.0.0.1:{silent.getsockname()[1]}/0"}
        if request.param == "down":
            silent.close()
        with mock.patch.dict(os.environ, address):
            yield CacheHandler(runpy.run_path(str(TOP / "chatbackend/settings.py"))["CACHES"])["default"]


def test_a_cache_that_does_not_answer_is_a_503(cache: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PerUserThrottle, "cache", cache)
    caller: Any = SimpleNamespace(user=SimpleNamespace(is_authenticated=True, pk="ada"))

    with pytest.raises(Unavailable) as refusal:
        PerUserThrottle().allow_request(caller, None)

    assert refusal.value.status_code == 503


def test_a_cache_that_hangs_is_not_asked_by_each_request(
    cache: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(PerUserThrottle, "cache", cache)
    monkeypatch.setattr(cache, "get", recording(cache.get, asked))
    caller: Any = SimpleNamespace(user=SimpleNamespace(is_authenticated=True, pk="ada"))

    for _ in range(5):
        with pytest.raises(Unavailable):
            PerUserThrottle().allow_request(caller, None)

    assert len(asked) == 1
    assert [record.name for record in caplog.records] == ["runtime.circuit_breaker"]


def recording(call: Any, asked: list[str]) -> Any:
    def recorded(key: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(key)
        return call(key, *args, **kwargs)

    return recorded


def test_the_local_cache_counts_the_requests_of_a_thousand_users(settings: Any) -> None:
    settings.SUPPORT_RATE_PER_USER = "1/hour"

    def is_let_in(number: int) -> bool:
        caller: Any = SimpleNamespace(user=SimpleNamespace(is_authenticated=True, pk=str(number)))
        return PerUserThrottle().allow_request(caller, None)

    assert [is_let_in(number) for number in range(1000)] == [True] * 1000
    assert [is_let_in(number) for number in range(1000)] == [False] * 1000
