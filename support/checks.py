"""System checks: a wrong setting stops the start, and the hint says what to write."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.core.files.storage import FileSystemStorage
from django.utils.module_loading import import_string

from authn import throttling
from support.assistant.mcp import servers
from support.conf import DEFAULT_SERVER, conf
from support.files import media_types, stored_files

MODEL_APIS = ("responses", "chat_completions")
HERE = {"localhost", "127.0.0.1", "::1"}


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    checks = (
        *(_paths, _rate, _bounds, _model, _models, _base_url, _model_api, _instructions, _tool_servers),
        *(_public_url, _attachments, _storage),
    )
    return [message for check in checks for message in check()]


def check_deployment(**kwargs: Any) -> list[CheckMessage]:
    """For ``check --deploy`` alone."""
    if conf.PUBLIC_URL:
        return []
    hint = "Write where clients reach this backend, such as https://api.example.com."
    fault = "PUBLIC_URL is not set: the Host header decides where attachments are said to be."
    return [CheckWarning(fault, hint=hint, id="support.W101")]


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
        throttling.rate(conf.SUPPORT_RATE_PER_USER)
    except ValueError:
        hint = "Write a number and a period: 120/min (s, min, hour, day)."
        return [Error("SUPPORT_RATE_PER_USER is no rate.", hint=hint, id="support.E003")]
    return []


def _bounds() -> list[CheckMessage]:
    hint = "Write a number above 0; the default is in .env.example."
    return [
        Error(f"{name} lets nobody speak.", hint=hint, id="support.E009")
        for name in ("SUPPORT_STREAMS_PER_USER", "SUPPORT_MESSAGE_LENGTH")
        if getattr(conf, name) < 1
    ]


def _model() -> list[CheckMessage]:
    if not (conf.OPENAI_API_KEY or conf.OPENAI_BASE_URL):
        hint = "Set OPENAI_API_KEY, or OPENAI_BASE_URL for another provider or a local model."
        return [
            Error(f"{name} is set, but nothing says where it is.", hint=hint, id="support.E004")
            for name in ("SUPPORT_MODEL", "SUPPORT_TRANSCRIPTION_MODEL")
            if getattr(conf, name)
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


def _models() -> list[CheckMessage]:
    if conf.SUPPORT_MODELS and not conf.SUPPORT_MODEL:
        hint = "Set SUPPORT_MODEL to the model that answers where nobody picks one."
        return [Error("SUPPORT_MODELS is set, but SUPPORT_MODEL is not.", hint=hint, id="support.E010")]
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


def _model_api() -> list[CheckMessage]:
    if conf.SUPPORT_MODEL_API in MODEL_APIS:
        return []
    hint = f"Write {' or '.join(MODEL_APIS)}: the API that OPENAI_BASE_URL speaks."
    return [Error("SUPPORT_MODEL_API is unknown.", hint=hint, id="support.E006")]


def _instructions() -> list[CheckMessage]:
    if not conf.SUPPORT_INSTRUCTIONS_FILE:
        return []
    if getattr(settings, "SUPPORT_INSTRUCTIONS", ""):
        hint = "Set SUPPORT_INSTRUCTIONS or SUPPORT_INSTRUCTIONS_FILE, not both."
        return [Error("SUPPORT_INSTRUCTIONS_FILE would not be read.", hint=hint, id="support.E007")]
    try:
        fault = "" if conf.SUPPORT_INSTRUCTIONS else "it is empty"
    except (OSError, UnicodeDecodeError) as exc:
        fault = exc.strerror if isinstance(exc, OSError) and exc.strerror else "it is not UTF-8"
    if not fault:
        return []
    hint = "Write the path of a text file in UTF-8; a relative one starts at the working directory."
    return [Error(f"SUPPORT_INSTRUCTIONS_FILE cannot be used: {fault}.", hint=hint, id="support.E007")]


def _tool_servers() -> list[CheckMessage]:
    if faults := servers.problems(conf.SUPPORT_MCP_SERVERS):
        hint = (
            'Write a JSON list such as [{"name": "todo", "url": "https://todo.example.com/mcp", "secret":'
            ' "…"}]; a secret is made by python -c "import secrets; print(secrets.token_urlsafe(32))".'
        )
        return [Error(f"SUPPORT_MCP_SERVERS: {'; '.join(faults)}.", hint=hint, id="support.E008")]
    exposed = [
        server.name
        for server in servers.configured()
        if server.secret
        and urlsplit(server.url).scheme == "http"
        and urlsplit(server.url).hostname not in HERE
    ]
    if not exposed:
        return []
    hint = "Write an https address. Where the network between is yours alone, silence support.W002."
    fault = f"SUPPORT_MCP_SERVERS: who calls is said without encryption to {', '.join(exposed)}."
    return [CheckWarning(fault, hint=hint, id="support.W002")]


def _public_url() -> list[CheckMessage]:
    try:
        url = urlsplit(conf.PUBLIC_URL)
    except ValueError:
        url = urlsplit("no.url")
    if not conf.PUBLIC_URL and "*" not in settings.ALLOWED_HOSTS:
        return []
    if url.scheme in {"http", "https"} and url.hostname and not (url.query or url.fragment or url.username):
        return []
    fault = (
        "PUBLIC_URL is no address."
        if conf.PUBLIC_URL
        else "Without PUBLIC_URL the Host header would decide, and ALLOWED_HOSTS=* lets it say anything."
    )
    hint = "Write where clients reach this backend, before /support/, such as https://api.example.com."
    return [Error(fault, hint=hint, id="support.E101")]


def _attachments() -> list[CheckMessage]:
    faults: list[CheckMessage] = []
    if not conf.ATTACHMENT_TYPES or not set(conf.ATTACHMENT_TYPES) <= set(media_types.SUPPORTED):
        hint = f"Choose from {', '.join(media_types.SUPPORTED)}."
        fault = "ATTACHMENT_TYPES should list types that can be told by their content."
        faults.append(Error(fault, hint=hint, id="support.E102"))
    if conf.ATTACHMENT_MAX_BYTES < 1:
        hint = "Write a number of bytes, such as 10000000."
        faults.append(Error("ATTACHMENT_MAX_BYTES lets nothing in.", hint=hint, id="support.E103"))
    if conf.ATTACHMENT_BYTES_PER_USER and conf.ATTACHMENT_BYTES_PER_USER < conf.ATTACHMENT_MAX_BYTES:
        hint = "Write a number of bytes above ATTACHMENT_MAX_BYTES, or 0 for no limit."
        fault = "ATTACHMENT_BYTES_PER_USER leaves no room for a single file."
        faults.append(Error(fault, hint=hint, id="support.E107"))
    if conf.ATTACHMENT_ADDRESS_SECONDS < 2:
        hint = "Write a number of seconds, such as 600."
        fault = "ATTACHMENT_ADDRESS_SECONDS is over before anything is read."
        faults.append(Error(fault, hint=hint, id="support.E104"))
    return faults


def _storage() -> list[CheckMessage]:
    try:
        storage = stored_files.storage()
    except Exception as exc:  # a team's own class may fail in any way
        hint = "ATTACHMENT_STORAGE is a dotted path, and ATTACHMENT_STORAGE_OPTIONS what it is made with."
        return [Error(f"The storage of attachments cannot be made: {exc}", hint=hint, id="support.E105")]
    if not isinstance(storage, FileSystemStorage):
        return []
    # The directory itself is made when it is needed; so far its nearest parent answers for it.
    place = next(path for path in (Path(storage.location), *Path(storage.location).parents) if path.exists())
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return []
    hint = f"Set ATTACHMENT_DIRECTORY, or let this process write to {place}."
    return [Error("ATTACHMENT_DIRECTORY cannot be written to.", hint=hint, id="support.E106")]
