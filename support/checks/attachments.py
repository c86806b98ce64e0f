"""Checks of the settings for attachments: their URLs, their limits and their storage."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.core.files.storage import FileSystemStorage

from support import media_types
from support.conf import conf
from support.files import stored_files


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
        "PUBLIC_URL is not a plain http or https URL."
        if conf.PUBLIC_URL
        else "PUBLIC_URL is not set, and ALLOWED_HOSTS=* lets the Host header put any host into URLs."
    )
    hint = "Write the URL at which clients reach this backend, without /support/: https://api.example.com."
    return [Error(fault, hint=hint, id="support.E101")]


def _attachments() -> list[CheckMessage]:
    faults: list[CheckMessage] = []
    if not conf.ATTACHMENT_TYPES or not set(conf.ATTACHMENT_TYPES) <= set(media_types.SUPPORTED):
        hint = f"Choose from {', '.join(media_types.SUPPORTED)}."
        fault = "ATTACHMENT_TYPES is empty, or lists a type that this backend cannot check."
        faults.append(Error(fault, hint=hint, id="support.E102"))
    if conf.ATTACHMENT_MAX_BYTES < 1:
        hint = "Write a number of bytes, such as 10000000."
        faults.append(
            Error("ATTACHMENT_MAX_BYTES is below 1, so no upload is possible.", hint=hint, id="support.E103")
        )
    if conf.ATTACHMENT_BYTES_PER_USER and conf.ATTACHMENT_BYTES_PER_USER < conf.ATTACHMENT_MAX_BYTES:
        hint = "Write a number of bytes above ATTACHMENT_MAX_BYTES, or 0 for no limit."
        fault = "ATTACHMENT_BYTES_PER_USER is too small for a file of ATTACHMENT_MAX_BYTES."
        faults.append(Error(fault, hint=hint, id="support.E107"))
    if conf.ATTACHMENT_ADDRESS_SECONDS < 2:
        hint = "Write a number of seconds, such as 600."
        fault = "ATTACHMENT_ADDRESS_SECONDS is too short to read a file."
        faults.append(Error(fault, hint=hint, id="support.E104"))
    return faults


def _storage() -> list[CheckMessage]:
    try:
        storage = stored_files.storage()
    except Exception as exc:  # a team's own class may raise any exception
        hint = "Check ATTACHMENT_STORAGE, a dotted path, and ATTACHMENT_STORAGE_OPTIONS, its arguments."
        return [Error(f"ATTACHMENT_STORAGE cannot be used: {exc}", hint=hint, id="support.E105")]
    if not isinstance(storage, FileSystemStorage):
        return []
    if public := _public_directory(Path(storage.location)):
        hint = "Set ATTACHMENT_DIRECTORY to a directory that no web server serves."
        fault = f"Attachments are private, and their directory is inside {public}, whose files are public."
        return [Error(fault, hint=hint, id="support.E108")]
    # The storage creates its directory with the first file. Until then, check the nearest parent that exists.
    directory = next(
        path for path in (Path(storage.location), *Path(storage.location).parents) if path.exists()
    )
    if directory.is_dir() and os.access(directory, os.W_OK | os.X_OK):
        return []
    hint = f"Set ATTACHMENT_DIRECTORY, or let this process write to {directory}."
    return [Error("ATTACHMENT_DIRECTORY is not writable.", hint=hint, id="support.E106")]


def _public_directory(directory: Path) -> str:
    """Return the name of the setting whose directory contains ``directory``, or an empty string."""
    public: dict[str, list[Any]] = {
        "MEDIA_ROOT": [settings.MEDIA_ROOT],
        "STATIC_ROOT": [settings.STATIC_ROOT],
        "STATICFILES_DIRS": [
            entry[1] if isinstance(entry, list | tuple) else entry for entry in settings.STATICFILES_DIRS
        ],
    }
    for name, paths in public.items():
        if any(path and directory.resolve().is_relative_to(Path(path).resolve()) for path in paths):
            return name
    return ""


def _public_url_in_production() -> list[CheckMessage]:
    if conf.PUBLIC_URL:
        return []
    hint = "Write the URL at which clients reach this backend, such as https://api.example.com."
    fault = "PUBLIC_URL is not set: the Host header of a request decides the URLs of attachments."
    return [CheckWarning(fault, hint=hint, id="support.W101")]


CHECKS = (_public_url, _attachments, _storage)
DEPLOYMENT_CHECKS = (_public_url_in_production,)
