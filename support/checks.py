"""System checks: a wrong setting stops the start, and the hint says what to write."""

from typing import Any
from urllib.parse import urlsplit

from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.utils.module_loading import import_string

from support.conf import DEFAULT_SERVER, conf
from support.throttling import PerUserThrottle


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    return [message for check in (_paths, _rate, _model, _base_url) for message in check()]


def _paths() -> list[CheckMessage]:
    faults: list[CheckMessage] = []
    for number, name in enumerate(("CHATKIT_SERVER", "CHATKIT_CONTEXT"), start=1):
        if getattr(conf, name) == DEFAULT_SERVER:
            continue  # to import it is to import the agent stack, two seconds of every manage.py command
        try:
            named = import_string(getattr(conf, name))
        except ImportError as exc:
            fault = f"{name} cannot be imported: {exc}"
        else:
            if callable(named) or hasattr(named, "process"):  # a server may be named as a ready instance
                continue
            fault = f"{name} names nothing that can be called."
        hint = "Write the dotted path of a class, function or server, such as shop.chat.ShopServer."
        faults.append(Error(fault, hint=hint, id=f"support.E00{number}"))
    return faults


def _rate() -> list[CheckMessage]:
    try:
        number, _seconds = PerUserThrottle().parse_rate(conf.SUPPORT_RATE_PER_USER)
        is_rate = (number or 0) > 0
    except (ValueError, KeyError, IndexError):
        is_rate = False
    if is_rate:
        return []
    hint = "Write a number and a period: 120/min (s, min, hour, day)."
    return [Error("SUPPORT_RATE_PER_USER is no rate.", hint=hint, id="support.E003")]


def _model() -> list[CheckMessage]:
    if conf.SUPPORT_MODEL and not (conf.OPENAI_API_KEY or conf.OPENAI_BASE_URL):
        return [
            Error(
                "SUPPORT_MODEL is set, but nothing says where it is.",
                hint="Set OPENAI_API_KEY, or OPENAI_BASE_URL for another provider or a local model.",
                id="support.E004",
            )
        ]
    if conf.OPENAI_API_KEY and not conf.SUPPORT_MODEL:
        return [
            CheckWarning(
                "OPENAI_API_KEY is set, but no model answers.",
                hint="Set SUPPORT_MODEL to the model's name; until then the local responder answers.",
                id="support.W001",
            )
        ]
    return []


def _base_url() -> list[CheckMessage]:
    try:
        url = urlsplit(conf.OPENAI_BASE_URL)
    except ValueError:
        url = urlsplit("no.url")
    if not conf.OPENAI_BASE_URL or (url.scheme in {"http", "https"} and url.netloc):
        return []
    hint = "Write the address before /responses, such as http://localhost:11434/v1."
    return [Error("OPENAI_BASE_URL is no address.", hint=hint, id="support.E005")]
