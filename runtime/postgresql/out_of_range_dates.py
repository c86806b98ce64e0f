"""Reads dates that Python cannot represent as the nearest date that it can.

PostgreSQL has ``infinity`` and the year 294276; psycopg raises on them. A signing key or a session of Better
Auth that never expires may have such a date. One such row would make the whole key set unreadable.
"""

from collections.abc import Callable
from datetime import datetime, tzinfo
from functools import cache
from typing import Any

from psycopg import DataError, adapters
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import AdaptersMap, Loader
from psycopg.pq import Format

# One day from Python's own limits, so that a conversion to another time zone does not overflow.
EARLIEST, LATEST = datetime(1, 1, 2), datetime(9999, 12, 30)


def clamp_out_of_range_dates(connection_adapters: AdaptersMap, timezone: tzinfo | None) -> None:
    """Wrap psycopg's own loaders of timestamps. ``timezone``: the one that Django gives the connection.

    psycopg's loaders are in C, and Django's loader is in Python.
    """
    for name, zone in (("timestamptz", timezone), ("timestamp", None)):
        loader: Any = adapters.get_loader(adapters.types[name].oid, Format.TEXT)
        connection_adapters.register_loader(name, _clamping(loader, zone))


@cache
def _clamping(loader: Callable[..., Loader], zone: tzinfo | None) -> type[Loader]:
    class ClampingLoader(Loader):
        timezone = zone  # Django reads it to recognize its own loader

        def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
            super().__init__(oid, context)
            self._load = loader(oid, context).load

        def load(self, data: Buffer) -> Any:
            try:
                return self._load(data).replace(tzinfo=zone)  # as Django's loader does
            except DataError:
                text = bytes(data)
                nearest = EARLIEST if text.startswith(b"-") or text.endswith(b"BC") else LATEST
                return nearest.replace(tzinfo=zone)

    return ClampingLoader
