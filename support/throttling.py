from typing import Any

from rest_framework.request import Request
from rest_framework.throttling import UserRateThrottle

from authn import throttling
from authn.errors import Unavailable
from support.conf import conf


class PerUserThrottle(UserRateThrottle):
    """Limits the requests of a user, over all sessions of the user. Counts the requests in Django's cache."""

    def get_rate(self) -> str:
        return conf.SUPPORT_RATE_PER_USER

    def allow_request(self, request: Request, view: Any) -> bool:
        """Whether the user may send this request. Raises ``Unavailable`` if the cache does not answer.

        Without counts there would be no limit, so requests are not let through then.
        """
        if not throttling.cache_breaker.allows_call():
            raise Unavailable("cache_unavailable")
        try:
            is_allowed = bool(super().allow_request(request, view))
        except Exception as exc:  # each cache backend has its own errors, and those of Redis are not OSError
            throttling.cache_breaker.failed(exc)
            raise Unavailable("cache_unavailable") from exc
        throttling.cache_breaker.succeeded()
        return is_allowed
