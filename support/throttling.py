from typing import Any

from rest_framework.request import Request
from rest_framework.throttling import UserRateThrottle

from authn import throttling
from authn.errors import Unavailable
from support.conf import conf


class PerUserThrottle(UserRateThrottle):
    """So many requests a user and period, over all of their sessions; counted in Django's cache."""

    def get_rate(self) -> str:
        return conf.SUPPORT_RATE_PER_USER

    def allow_request(self, request: Request, view: Any) -> bool:
        """Raises ``Unavailable`` when the cache does not answer: uncounted, a user could send without end."""
        if not throttling.cache_breaker.allows_call():
            raise Unavailable("cache_unavailable")
        try:
            is_allowed = bool(super().allow_request(request, view))
        except Exception as exc:  # each cache has errors of its own, and Redis' are no OSError
            throttling.cache_breaker.failed(exc)
            raise Unavailable("cache_unavailable") from exc
        throttling.cache_breaker.succeeded()
        return is_allowed
