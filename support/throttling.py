from rest_framework.throttling import UserRateThrottle

from support.conf import conf


class PerUserThrottle(UserRateThrottle):
    """So many requests a user and period, over all of their sessions; counted in Django's cache."""

    def get_rate(self) -> str:
        return conf.SUPPORT_RATE_PER_USER
