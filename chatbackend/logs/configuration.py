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
