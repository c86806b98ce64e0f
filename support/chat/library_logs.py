"""Keeps conversations and needless lines of the agent libraries out of the log."""

import logging

LEVELS = {
    # The ChatKit SDK logs each request at INFO.
    "chatkit": logging.WARNING,
    "httpx2": logging.WARNING,
    # MCP's client logs the answers of tools that it cannot read. These answers are a part of a user's
    # conversation. support.assistant.mcp_servers.connections logs the failures without the answers.
    "mcp": logging.CRITICAL,
    "client": logging.CRITICAL,
    # It logs each call of a tool with its arguments. support.tools.calls writes our own record.
    "django_mcpz": logging.WARNING,
}


def quiet() -> None:
    """Set the levels of these loggers, unless the project's LOGGING has set them."""
    for name, level in LEVELS.items():
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(level)
    logging.getLogger("chatkit").addFilter(is_no_caller_error)


def is_no_caller_error(record: logging.LogRecord) -> bool:
    """Whether to log the record. An exception that ``server_errors`` expects is not logged.

    The ChatKit SDK logs each exception with a traceback. A caller's mistake is also an exception, so a caller
    could fill the log.
    """
    from support.chat.server_errors import is_expected  # imports the agent libraries, which takes long

    exc = record.exc_info[1] if record.exc_info else None
    return not (isinstance(exc, Exception) and is_expected(exc))
