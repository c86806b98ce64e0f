"""Checks of the settings for the ChatKit server and the model."""

from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.utils.module_loading import import_string

from authn import throttling
from authn.conf import conf as authn_conf
from support.conf import DEFAULT_SERVER, PER_ORGANIZATION, PER_USER, conf

MODEL_APIS = ("responses", "chat_completions")


def _dotted_paths() -> list[CheckMessage]:
    faults: list[CheckMessage] = []
    for number, name in enumerate(("CHATKIT_SERVER", "CHATKIT_CONTEXT"), start=1):
        if getattr(conf, name) == DEFAULT_SERVER:
            continue  # its import of the Agents SDK would add two seconds to each manage.py command
        try:
            imported = import_string(getattr(conf, name))
        except ImportError as exc:
            fault = f"{name} cannot be imported: {exc}"
        else:
            if callable(imported) or hasattr(imported, "process"):  # CHATKIT_SERVER may name an instance
                continue
            fault = f"{name} names something that is not callable."
        hint = "Write the dotted path of a class, function or server, such as shop.chat.ShopServer."
        faults.append(Error(fault, hint=hint, id=f"support.E00{number}"))
    return faults


def _rate() -> list[CheckMessage]:
    try:
        throttling.parse_rate(conf.SUPPORT_RATE_PER_USER)
    except ValueError:
        hint = "Write a number and a period: 120/min (s, min, hour, day)."
        return [Error("SUPPORT_RATE_PER_USER is not a rate.", hint=hint, id="support.E003")]
    return []


def _limits() -> list[CheckMessage]:
    hint = "Write a number above 0; the default is in .env.example."
    return [
        Error(f"{name} is below 1, so no message is possible.", hint=hint, id="support.E009")
        for name in ("SUPPORT_STREAMS_PER_USER", "SUPPORT_MESSAGE_LENGTH")
        if getattr(conf, name) < 1
    ]


def _model() -> list[CheckMessage]:
    if not (conf.OPENAI_API_KEY or conf.OPENAI_BASE_URL):
        hint = "Set OPENAI_API_KEY, or OPENAI_BASE_URL for another provider or a local model."
        return [
            Error(f"{name} is set, but there is no provider for it.", hint=hint, id="support.E004")
            for name in ("SUPPORT_MODEL", "SUPPORT_TRANSCRIPTION_MODEL")
            if getattr(conf, name)
        ]
    if conf.OPENAI_API_KEY and not (conf.SUPPORT_MODEL or conf.SUPPORT_AGENT):
        return [
            CheckWarning(
                "OPENAI_API_KEY is set, but SUPPORT_MODEL is not.",
                hint="Set SUPPORT_MODEL to the name of a model. Until then, the local responder answers.",
                id="support.W001",
            )
        ]
    return []


def _models() -> list[CheckMessage]:
    if conf.SUPPORT_MODELS and not conf.SUPPORT_MODEL:
        hint = "Set SUPPORT_MODEL to the model that answers if the user picks none."
        return [Error("SUPPORT_MODELS is set, but SUPPORT_MODEL is not.", hint=hint, id="support.E010")]
    return []


def _base_url() -> list[CheckMessage]:
    try:
        url = urlsplit(conf.OPENAI_BASE_URL)
    except ValueError:
        url = urlsplit("no.url")
    if not conf.OPENAI_BASE_URL or (url.scheme in {"http", "https"} and url.netloc):
        return []
    hint = "Write the URL without /responses at its end, such as http://localhost:11434/v1."
    return [Error("OPENAI_BASE_URL is not an http or https URL.", hint=hint, id="support.E005")]


def _model_api() -> list[CheckMessage]:
    if conf.SUPPORT_MODEL_API in MODEL_APIS:
        return []
    hint = f"Write {' or '.join(MODEL_APIS)}: the API of the provider at OPENAI_BASE_URL."
    return [Error("SUPPORT_MODEL_API is not a known API.", hint=hint, id="support.E006")]


def _instructions() -> list[CheckMessage]:
    if not conf.SUPPORT_INSTRUCTIONS_FILE:
        return []
    if getattr(settings, "SUPPORT_INSTRUCTIONS", ""):
        hint = "Set SUPPORT_INSTRUCTIONS or SUPPORT_INSTRUCTIONS_FILE, not both."
        return [Error("SUPPORT_INSTRUCTIONS_FILE would be ignored.", hint=hint, id="support.E007")]
    try:
        fault = "" if conf.SUPPORT_INSTRUCTIONS else "it is empty"
    except (OSError, UnicodeDecodeError) as exc:
        fault = exc.strerror if isinstance(exc, OSError) and exc.strerror else "it is not UTF-8"
    if not fault:
        return []
    hint = "Write the path of a text file in UTF-8. A relative path starts at the working directory."
    return [Error(f"SUPPORT_INSTRUCTIONS_FILE cannot be used: {fault}.", hint=hint, id="support.E007")]


def _conversations() -> list[CheckMessage]:
    if conf.SUPPORT_CONVERSATIONS not in (PER_USER, PER_ORGANIZATION):
        hint = f"Write {PER_USER} or {PER_ORGANIZATION}."
        return [Error("SUPPORT_CONVERSATIONS has an unknown value.", hint=hint, id="support.E025")]
    if (
        conf.SUPPORT_CONVERSATIONS == PER_ORGANIZATION
        and "organization" not in authn_conf.BETTER_AUTH_PLUGINS
    ):
        hint = (
            "Add organization to BETTER_AUTH_PLUGINS, if your Better Auth has this plugin. Otherwise write "
            f"SUPPORT_CONVERSATIONS={PER_USER}."
        )
        fault = f"SUPPORT_CONVERSATIONS is {PER_ORGANIZATION}, but we do not read the organizations of users."
        return [Error(fault, hint=hint, id="support.E026")]
    return []


CHECKS = (
    _conversations,
    _dotted_paths,
    _rate,
    _limits,
    _model,
    _models,
    _base_url,
    _model_api,
    _instructions,
)
