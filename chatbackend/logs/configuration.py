"""Django's ``LOGGING``: one JSON object per line on stdout, or plain text in development."""

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
                # Django attaches its request. The query of an attachment's URL contains a signature.
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
            # Without this, Django prints these lines with its own handlers and mails some of them to ADMINS.
            "django": {"handlers": [], "level": "INFO", "propagate": True},
            "django.request": {"filters": ["shorten"]},
            "django.security.DisallowedHost": {"filters": ["hide_host"]},
            "uvicorn": {"handlers": [], "propagate": True},
            "uvicorn.access": {"handlers": [], "level": "WARNING", "propagate": True},
            # ChatKit logs each request at INFO and each exception with a traceback. The 404 of a caller is
            # such an exception, so a caller could fill the log.
            "chatkit": {"level": "WARNING", "filters": ["no_caller_errors"]},
            "httpx2": {"level": "WARNING"},
            # MCP's client logs answers of tools that it cannot read. They belong to a user's conversation.
            # support.assistant.mcp.tools logs these failures without the answers.
            "mcp": {"level": "CRITICAL"},
            "client": {"level": "CRITICAL"},
        },
    }


def hide_host(record: logging.LogRecord) -> bool:
    """Django logs a bad Host header as an error, quotes it, and adds a traceback. It is no error of ours."""
    record.msg, record.args, record.exc_info = "The Host of a request is not in ALLOWED_HOSTS", (), None
    record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


def shorten_arguments(record: logging.LogRecord) -> bool:
    """The caller chooses the path of a 404. A long one could fill the log with one request."""
    arguments = record.args or ()
    record.args = tuple(each[:ARGUMENT_LENGTH] if isinstance(each, str) else each for each in arguments)
    return True


def is_no_caller_error(record: logging.LogRecord) -> bool:
    from support.chat.server_errors import is_expected  # this import needs Django's set-up

    exc = record.exc_info[1] if record.exc_info else None
    return not (isinstance(exc, Exception) and is_expected(exc))
