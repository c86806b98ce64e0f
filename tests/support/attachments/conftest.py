"""A server of the tests of attachments."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fixtures.attachments import LIMIT
from tests.fixtures.servers.api import Api


@pytest.fixture(scope="module")
def small(start_api: Callable[..., Any], auth: Any) -> Iterator[Api]:
    """A server with small limits and without a PUBLIC_URL."""
    with start_api(
        ATTACHMENT_MAX_BYTES=str(LIMIT),
        ATTACHMENT_TYPES="image/png,text/plain,text/csv",
        DATA_UPLOAD_MAX_MEMORY_SIZE="100000",
        PUBLIC_URL="",
        SUPPORT_RATE_PER_USER="100000/min",
    ) as running:
        yield running
