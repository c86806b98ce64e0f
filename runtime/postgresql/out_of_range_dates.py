"""Moments outside Python's calendar, PostgreSQL's infinity or the year 33658, as one at its ends.

psycopg refuses to read them. A key or a session of Better Auth's that is to last for ever may well have one,
and a key set with one such row could not be read at all.
"""

from collections.abc import Callable
from datetime import datetime, tzinfo
from functools import cache
from typing import Any

from psycopg import DataError
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import AdaptersMap, Loader
from psycopg.pq import Format

# A day from the ends, so that a change of zone stays within.
EARLIEST, LATEST = datetime(1, 1, 2), datetime(9999, 12, 30)


def read_out_of_range_dates(adapters: AdaptersMap, like: AdaptersMap, timezone: tzinfo | None) -> None:
    """Have ``adapters`` read moments as ``like`` does, and what that cannot read as one that is there."""
    for name, zone in (("timestamptz", timezone), ("timestamp", None)):
        loader: Any = like.get_loader(like.types[name].oid, Format.TEXT)
        adapters.register_loader(name, _within_the_calendar(loader, zone))


@cache
def _within_the_calendar(loader: Callable[..., Loader], zone: tzinfo | None) -> type[Loader]:
    class MomentLoader(Loader):
        timezone = zone  # by which Django tells whether it is its own

        def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
            super().__init__(oid, context)
            self._load = loader(oid, context).load

        def load(self, data: Buffer) -> Any:
            try:
                return self._load(data)
            except DataError:
                text = bytes(data)
                end = EARLIEST if text.startswith(b"-") or text.endswith(b"BC") else LATEST
                return end.replace(tzinfo=zone)

    return MomentLoader
