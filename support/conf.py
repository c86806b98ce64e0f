"""The settings of this app, with their types and defaults.

The defaults are for a project of a team's own that installs this app. chatbackend/settings.py sets each of
these settings from an environment variable, with the same defaults.
"""

from functools import cache, cached_property
from pathlib import Path
from typing import Any, cast

from django.conf import settings

from authn.conf import CachedSettings
from support import media_types

DEFAULT_SERVER = "support.server.SupportServer"
PER_USER, PER_ORGANIZATION = "user", "user_and_organization"  # the values of SUPPORT_CONVERSATIONS
# An MCP client in a browser sends these. With older versions of the protocol, it sends only some of them.
MCP_HEADERS = ["mcp-protocol-version", "mcp-method", "mcp-name", "mcp-session-id", "last-event-id"]
MCP_TOOLS = ["list_conversations", "read_conversation", "ask_assistant"]


class Conf(CachedSettings):
    @cached_property
    def CHATKIT_SERVER(self) -> str:
        """Dotted path of a ``ChatKitServer``: a class, a factory or an instance."""
        return cast(str, _setting("CHATKIT_SERVER", DEFAULT_SERVER))

    @cached_property
    def CHATKIT_CONTEXT(self) -> str:
        """Dotted path of a function ``build(request)`` that returns the context for the server's methods."""
        return cast(str, _setting("CHATKIT_CONTEXT", "support.context.build"))

    @cached_property
    def OPENAI_API_KEY(self) -> str:
        return cast(str, _setting("OPENAI_API_KEY", ""))

    @cached_property
    def OPENAI_BASE_URL(self) -> str:
        """Base URL of a provider with one of OpenAI's two APIs. Empty: OpenAI's own."""
        return cast(str, _setting("OPENAI_BASE_URL", ""))

    @cached_property
    def SUPPORT_MODEL(self) -> str:
        """The model that answers. Empty without SUPPORT_AGENT: the local responder answers."""
        return cast(str, _setting("SUPPORT_MODEL", ""))

    @cached_property
    def SUPPORT_MODELS(self) -> list[str]:
        """The models that a user may choose for a message. The user may always choose SUPPORT_MODEL."""
        return cast(list[str], _setting("SUPPORT_MODELS", []))

    @cached_property
    def SUPPORT_MODEL_API(self) -> str:
        """``responses`` or ``chat_completions``. Most other providers have only the second."""
        return cast(str, _setting("SUPPORT_MODEL_API", "responses"))

    @cached_property
    def SUPPORT_TITLE_MODEL(self) -> str:
        """The model that writes the titles of conversations. A small model is enough."""
        return cast(str, _setting("SUPPORT_TITLE_MODEL", "")) or self.SUPPORT_MODEL

    @cached_property
    def SUPPORT_TRANSCRIPTION_MODEL(self) -> str:
        """The model that transcribes dictation. Empty: there is no dictation."""
        return cast(str, _setting("SUPPORT_TRANSCRIPTION_MODEL", ""))

    @cached_property
    def SUPPORT_INSTRUCTIONS(self) -> str:
        """The instructions for the model: this setting, or else the text of SUPPORT_INSTRUCTIONS_FILE.

        Empty: ``support.assistant.instructions.DEFAULT_INSTRUCTIONS``.
        """
        instructions = cast(str, _setting("SUPPORT_INSTRUCTIONS", ""))
        if not instructions and self.SUPPORT_INSTRUCTIONS_FILE:
            return _read_text(self.SUPPORT_INSTRUCTIONS_FILE)
        return instructions

    @cached_property
    def SUPPORT_INSTRUCTIONS_FILE(self) -> str:
        """Path of a text file in UTF-8. The process reads it once."""
        return cast(str, _setting("SUPPORT_INSTRUCTIONS_FILE", ""))

    @cached_property
    def SUPPORT_MCP_SERVERS(self) -> Any:
        """The parsed JSON of the setting. ``support.assistant.mcp_servers.servers`` gives it its types."""
        return _setting("SUPPORT_MCP_SERVERS", [])

    @cached_property
    def SUPPORT_TOOLS(self) -> list[str]:
        """Dotted paths of functions, of lists of functions, or of modules with a list ``TOOLS``."""
        return cast(list[str], _setting("SUPPORT_TOOLS", []))

    @cached_property
    def SUPPORT_AGENT(self) -> str:
        """Dotted path of an ``Agent``, or of a function of the ``RequestContext`` that returns one.

        Empty: our own agent answers.
        """
        return cast(str, _setting("SUPPORT_AGENT", ""))

    @cached_property
    def SUPPORT_CONVERSATIONS(self) -> str:
        """``user``: users see all their conversations. ``user_and_organization``: users see those that they
        have begun in the organization that is active now."""
        return cast(str, _setting("SUPPORT_CONVERSATIONS", PER_USER))

    @cached_property
    def SUPPORT_MCP(self) -> bool:
        """Whether MCP clients may call our own endpoint, in the name of their users."""
        return bool(_setting("SUPPORT_MCP", False))

    @cached_property
    def SUPPORT_MCP_URL(self) -> str:
        """The URL of the endpoint as MCP clients see it. Empty: PUBLIC_URL and the path of the endpoint."""
        return cast(str, _setting("SUPPORT_MCP_URL", ""))

    @cached_property
    def SUPPORT_MCP_TOOLS(self) -> list[str]:
        """Our own tools that the endpoint offers, in addition to those of SUPPORT_TOOLS."""
        return cast(list[str], _setting("SUPPORT_MCP_TOOLS", MCP_TOOLS))

    @cached_property
    def SUPPORT_MCP_ACCEPT_SESSION_TOKENS(self) -> bool:
        """Whether the endpoint also accepts the JWTs of Better Auth's jwt() plugin, with every scope."""
        return bool(_setting("SUPPORT_MCP_ACCEPT_SESSION_TOKENS", False))

    @cached_property
    def SUPPORT_TRACING(self) -> bool:
        """Whether every conversation is also sent to OpenAI's tracing, whatever OPENAI_BASE_URL is."""
        return bool(_setting("SUPPORT_TRACING", False))

    @cached_property
    def SUPPORT_RATE_PER_USER(self) -> str:
        """How many requests a user may send, in DRF's notation for rates: ``120/min``."""
        return cast(str, _setting("SUPPORT_RATE_PER_USER", "120/min"))

    @cached_property
    def SUPPORT_STREAMS_PER_USER(self) -> int:
        """The most answers that one process streams to one user at the same time."""
        return cast(int, _setting("SUPPORT_STREAMS_PER_USER", 5))

    @cached_property
    def SUPPORT_MESSAGE_LENGTH(self) -> int:
        """The most characters in a user's message, including the text that it quotes."""
        return cast(int, _setting("SUPPORT_MESSAGE_LENGTH", 50_000))

    @cached_property
    def DATABASE_TIMEOUT_SECONDS(self) -> float:
        """The time limit for a statement, with the database backend ``runtime.postgresql``."""
        return cast(float, _setting("DATABASE_TIMEOUT_SECONDS", 5.0))

    @cached_property
    def PUBLIC_URL(self) -> str:
        """The URL at which clients reach this backend, without /support/. Empty: the host of the request."""
        return cast(str, _setting("PUBLIC_URL", ""))

    @cached_property
    def ATTACHMENT_DIRECTORY(self) -> str:
        """The directory of the files, unless STORAGES has a storage "attachments". By default a directory
        ``attachments`` in the project's BASE_DIR, or else in the working directory."""
        default = Path(_setting("BASE_DIR", "")) / "attachments"
        return str(Path(_setting("ATTACHMENT_DIRECTORY", "") or default).absolute())

    @cached_property
    def ATTACHMENT_TYPES(self) -> list[str]:
        """The media types that users may attach: all of ``media_types.SUPPORTED``, or some of them."""
        return cast(list[str], _setting("ATTACHMENT_TYPES", list(media_types.SUPPORTED)))

    @cached_property
    def ATTACHMENT_MAX_BYTES(self) -> int:
        return cast(int, _setting("ATTACHMENT_MAX_BYTES", 10_000_000))

    @cached_property
    def ATTACHMENT_BYTES_PER_USER(self) -> int:
        """The most bytes that all files of one user may have together. 0: no limit."""
        return cast(int, _setting("ATTACHMENT_BYTES_PER_USER", 1_000_000_000))

    @cached_property
    def ATTACHMENT_ADDRESS_SECONDS(self) -> int:
        """The longest time for which a signed URL of an attachment is valid. The shortest is half of it."""
        return cast(int, _setting("ATTACHMENT_ADDRESS_SECONDS", 600))


conf = Conf()


def _setting(name: str, default: Any) -> Any:
    return getattr(settings, name, default)


@cache
def _read_text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8").strip()
