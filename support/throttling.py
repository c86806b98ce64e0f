from functools import partial
from typing import Any

from django.core.cache import DEFAULT_CACHE_ALIAS
from rest_framework.request import Request
from rest_framework.throttling import UserRateThrottle

from authn import throttling
from authn.errors import Unavailable
from runtime.circuit_breaker import NoAnswer
from support.conf import conf


class PerUserThrottle(UserRateThrottle):
    """Limits the requests of a user, over all sessions of the user. Counts them in Django's default cache."""

    def get_rate(self) -> str:
        return conf.SUPPORT_RATE_PER_USER

    def allow_request(self, request: Request, view: Any) -> bool:
        """Whether the user may send this request. Raises ``Unavailable`` if the cache does not answer.

        Without counts there would be no limit, so requests are not let through then.
        """
        breaker = throttling.breaker_of(DEFAULT_CACHE_ALIAS)
        try:
            return bool(breaker.call(partial(super().allow_request, request, view)))
        except NoAnswer as exc:
            raise Unavailable("cache_unavailable") from exc
