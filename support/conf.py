"""The chat's settings, typed. Each is read when it is used, so that ``override_settings`` works."""

from typing import Any, cast

from django.conf import settings

DEFAULT_SERVER = "support.server.SupportServer"


class Conf:
    @property
    def CHATKIT_SERVER(self) -> str:
        """Dotted path of a ``ChatKitServer``: a class, a factory or an instance."""
        return cast(str, _setting("CHATKIT_SERVER", DEFAULT_SERVER))

    @property
    def CHATKIT_CONTEXT(self) -> str:
        """Dotted path of ``build(request) -> context``, what the server gets as its context."""
        return cast(str, _setting("CHATKIT_CONTEXT", "support.context.build"))

    @property
    def OPENAI_API_KEY(self) -> str:
        return cast(str, _setting("OPENAI_API_KEY", ""))

    @property
    def OPENAI_BASE_URL(self) -> str:
        """Any address that speaks OpenAI's Responses API; empty for OpenAI's own."""
        return cast(str, _setting("OPENAI_BASE_URL", ""))

    @property
    def SUPPORT_MODEL(self) -> str:
        """The model that answers; empty: the local responder does."""
        return cast(str, _setting("SUPPORT_MODEL", ""))

    @property
    def SUPPORT_INSTRUCTIONS(self) -> str:
        default = "You are a friendly, concise support assistant. If you do not know, say so."
        return cast(str, _setting("SUPPORT_INSTRUCTIONS", "")) or default

    @property
    def SUPPORT_RATE_PER_USER(self) -> str:
        """Requests a user may send, in DRF's notation: ``120/min``."""
        return cast(str, _setting("SUPPORT_RATE_PER_USER", "120/min"))


conf = Conf()


def _setting(name: str, default: Any) -> Any:
    return getattr(settings, name, default)
