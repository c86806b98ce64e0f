"""Checks of the settings that limit refused attempts: proxies, the rate and the cache."""

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.checks import CheckMessage, Error

from authn import throttling
from authn.conf import conf

MAX_PROXIES = 10


def check_proxies() -> list[CheckMessage]:
    if 0 <= conf.NUM_PROXIES <= MAX_PROXIES:
        return []
    return [
        Error(
            f"NUM_PROXIES is not a number from 0 to {MAX_PROXIES}.",
            hint="Write how many of your own proxies are in front of this server, such as 1, or 0.",
            id="authn.E014",
        )
    ]


def check_rate() -> list[CheckMessage]:
    try:
        throttling.parse_rate(conf.REFUSED_RATE_PER_ADDRESS)
    except ValueError:
        return [
            Error(
                "REFUSED_RATE_PER_ADDRESS is not a rate.",
                hint="Write a number and a period: 60/min (s, min, hour, day).",
                id="authn.E015",
            )
        ]
    return []


def check_cache() -> list[CheckMessage]:
    """Refuses a cache backend that inherits Django's default ``incr``.

    The default ``incr`` reads the number and writes it back with the cache's default timeout. So two attempts
    at the same time count as one attempt, and each attempt starts a new period.
    """
    alias = conf.BETTER_AUTH_CACHE
    if alias in caches.settings and type(caches[alias]).incr is not BaseCache.incr:
        return []
    return [
        Error(
            f"CACHES[{alias!r}] (CACHE_URL, BETTER_AUTH_CACHE) cannot count refused attempts.",
            hint="Write the URL of a Redis or Memcached, or locmemcache:// to count in each process. In a "
            "project of your own, BETTER_AUTH_CACHE may name another entry of CACHES.",
            id="authn.E016",
        )
    ]


CHECKS = (check_proxies, check_rate, check_cache)
