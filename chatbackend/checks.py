"""System checks of settings. Without these checks, a fault would show only when a request comes."""

import os
import re
from ipaddress import ip_address
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.core.exceptions import ImproperlyConfigured
from django.http.request import split_domain_port

from chatbackend.database_url import ENCODE

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    faults: list[CheckMessage] = []
    if not _has_secret_key():
        hint = 'Write 50 random characters: python -c "import secrets; print(secrets.token_urlsafe(50))"'
        faults.append(Error("SECRET_KEY is missing.", hint=hint, id="chatbackend.E001"))
    if not settings.ALLOWED_HOSTS and not settings.DEBUG:
        hint = "Write the host names of the API, such as api.example.com."
        faults.append(Error("ALLOWED_HOSTS is empty.", hint=hint, id="chatbackend.E002"))
    if invalid := [host for host in settings.ALLOWED_HOSTS if not _is_host(host)]:
        hint = (
            "Write host names without https:// and without a port: api.example.com, or .example.com for the "
            "domain and all its subdomains."
        )
        fault = f"ALLOWED_HOSTS has entries that match no request: {', '.join(invalid)}."
        faults.append(Error(fault, hint=hint, id="chatbackend.E013"))
    database = settings.DATABASES["default"]
    if database_fault := settings.DATABASE_FAULTS.get("DATABASE_URL"):
        fault, hint = database_fault
        faults.append(Error(fault, hint=hint, id="chatbackend.E014"))
    elif not database.get("ENGINE") or not database.get("NAME"):
        hint = (
            f"Write the URL of the database, such as postgresql://user:password@localhost:5432/name. {ENCODE}"
        )
        faults.append(Error("DATABASE_URL names no PostgreSQL database.", hint=hint, id="chatbackend.E003"))
    if settings.DATABASE_TIMEOUT_SECONDS < 2:  # psycopg's minimum for connecting
        hint = "Write how many seconds a statement may take, such as 5. The minimum is 2."
        message = "DATABASE_TIMEOUT_SECONDS is too short."
        faults.append(Error(message, hint=hint, id="chatbackend.E012"))
    if settings.WORKER_THREADS < 1:
        hint = "Write how many requests may use the database at the same time, such as 4."
        faults.append(Error("WORKER_THREADS should be at least 1.", hint=hint, id="chatbackend.E004"))
    if settings.DATA_UPLOAD_MAX_MEMORY_SIZE < 1:
        hint = "Write a number of bytes, such as 1000000."
        faults.append(
            Error("DATA_UPLOAD_MAX_MEMORY_SIZE allows no request body.", hint=hint, id="chatbackend.E005")
        )
    if settings.SECURE_PROXY_SSL_HEADER and not settings.NUM_PROXIES:
        hint = "Set NUM_PROXIES to the number of proxies that add to X-Forwarded-For, such as 1."
        fault = (
            "TRUST_X_FORWARDED_PROTO says that there is a proxy, but NUM_PROXIES is 0: all callers would "
            "share the proxy's IP address."
        )
        faults.append(CheckWarning(fault, hint=hint, id="chatbackend.W001"))
    if invalid := [name for name in settings.CORS_ALLOW_HEADERS if not _is_header(name)]:
        hint = "Write header names, such as x-datadog-trace-id. Browsers do not apply * to Authorization."
        fault = f"CORS_ALLOW_HEADERS has entries that are no header names: {', '.join(invalid)}."
        faults.append(Error(fault, hint=hint, id="chatbackend.E015"))
    return faults + (_check_metrics() if settings.METRICS_PORT else [])


def _check_metrics() -> list[CheckMessage]:
    faults: list[CheckMessage] = []
    directory = settings.METRICS_DIRECTORY
    if not 0 < settings.METRICS_PORT < 65536:
        hint = "Write a free port, such as 9100, or 0 for no metrics."
        faults.append(Error("METRICS_PORT is no port number.", hint=hint, id="chatbackend.E006"))
    if not _is_ip_address(settings.METRICS_ADDRESS):
        hint = "Write an IP address of this machine, such as 127.0.0.1, or 0.0.0.0 for all its addresses."
        faults.append(Error("METRICS_ADDRESS is no IP address.", hint=hint, id="chatbackend.E007"))
    if directory and not (os.path.isdir(directory) and os.access(directory, os.R_OK | os.W_OK | os.X_OK)):
        hint = (
            "Create it with access for the server's user only, and empty it before each start of the server."
        )
        faults.append(
            Error("METRICS_DIRECTORY is not a writable directory.", hint=hint, id="chatbackend.E008")
        )
    if not directory and os.environ.get("WEB_CONCURRENCY", "1") not in ("", "1"):
        hint = (
            "Set METRICS_DIRECTORY: a directory in which all workers of WEB_CONCURRENCY keep their numbers."
        )
        faults.append(
            Error(
                "Several workers share METRICS_PORT, and METRICS_DIRECTORY is empty.",
                hint=hint,
                id="chatbackend.E009",
            )
        )
    return faults


def _is_ip_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_host(allowed: str) -> bool:
    """Whether the entry can match a host. Django removes the port of a request's host before it compares."""
    host = allowed.removeprefix(".").lower()
    return allowed == "*" or (bool(host) and split_domain_port(host) == (host, ""))


def _is_header(name: str) -> bool:
    return name != "*" and bool(HEADER_NAME.fullmatch(name))


def _has_secret_key() -> bool:
    try:
        return bool(settings.SECRET_KEY)
    except ImproperlyConfigured:
        return False
