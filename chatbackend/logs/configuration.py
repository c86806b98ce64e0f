"""Makes Django's ``LOGGING``: each line on stdout is a JSON object, or plain text in development."""

import logging
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS

ARGUMENT_LENGTH = 200  # characters


def logging_configuration(level: str, *, as_json: bool) -> dict[str, Any]:
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {
            "hide_host": {"()": "django.utils.log.CallbackFilter", "callback": hide_host},
            "shorten": {"()": "django.utils.log.CallbackFilter", "callback": shorten_arguments},
            "no_caller_errors": {"()": "django.utils.log.CallbackFilter", "callback": is_no_caller_error},
            "line_limit": {"()": "chatbackend.logs.line_limit.LineLimit"},
        },
        "formatters": {
            "json": {
                "()": "pythonjsonlogger.json.JsonFormatter",
                "fmt": "%(asctime)s %(levelname)s %(name)s %(message)s",
                "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
                # Django adds the request to records. Leave it out: the URL of an attachment has a signature.
                "reserved_attrs": [*RESERVED_ATTRS, "request"],
            },
            "plain": {"format": "%(levelname)s %(name)s: %(message)s"},
        },
        "handlers": {
            "stdout": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "json" if as_json else "plain",
                "filters": ["line_limit"],
            }
        },
        "root": {"handlers": ["stdout"], "level": level},
        "loggers": {
            # Without this entry, Django's own handlers print these lines and mail some of them to ADMINS.
            "django": {"handlers": [], "level": "INFO", "propagate": True},
            "django.request": {"filters": ["shorten"]},
            "django.security.DisallowedHost": {"filters": ["hide_host"]},
            "uvicorn": {"handlers": [], "propagate": True},
            "uvicorn.access": {"handlers": [], "level": "WARNING", "propagate": True},
            # The ChatKit SDK logs each request at INFO, and each exception with a traceback. A caller's
            # mistake is also an exception, so a caller could fill the log.
            "chatkit": {"level": "WARNING", "filters": ["no_caller_errors"]},
            "httpx2": {"level": "WARNING"},
            # MCP's client logs the answers of tools that it cannot read. These answers are a part of a user's
            # conversation. support.assistant.mcp.tools logs the failures without the answers.
            "mcp": {"level": "CRITICAL"},
            "client": {"level": "CRITICAL"},
        },
    }


def hide_host(record: logging.LogRecord) -> bool:
    """Replace Django's error about a bad Host header with a short warning.

    Django quotes the header and adds a traceback. But the caller made the mistake.
    """
    record.msg, record.args, record.exc_info = "The Host of a request is not in ALLOWED_HOSTS", (), None
    record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


def shorten_arguments(record: logging.LogRecord) -> bool:
    """Cut the arguments of the record: the caller chooses the path of a 404, which may be long."""
    arguments = record.args or ()
    record.args = tuple(each[:ARGUMENT_LENGTH] if isinstance(each, str) else each for each in arguments)
    return True


def is_no_caller_error(record: logging.LogRecord) -> bool:
    """Whether to log the record. An exception that ``server_errors`` expects is not logged."""
    from support.chat.server_errors import is_expected  # Django must be set up before this import

    exc = record.exc_info[1] if record.exc_info else None
    return not (isinstance(exc, Exception) and is_expected(exc))
