"""A server whose metrics are scraped."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chatbackend.dev.processes import free_port
from tests.fixtures.servers.metrics import ScrapedServer


@pytest.fixture(scope="module")
def scraped(start_assistant: Callable[..., Any]) -> Iterator[ScrapedServer]:
    port = free_port()
    with start_assistant(METRICS_PORT=str(port)) as api:
        yield ScrapedServer(api, port)
