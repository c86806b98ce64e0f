"""System checks of what Django itself finds out only when a request needs it."""

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
        hint = "Write the names the API is reached by, such as api.example.com."
        faults.append(Error("ALLOWED_HOSTS is empty.", hint=hint, id="chatbackend.E002"))
    if strange := [host for host in settings.ALLOWED_HOSTS if not _is_host(host)]:
        hint = "Write names alone, without https:// and port: api.example.com, or .example.com for all below."
        fault = f"ALLOWED_HOSTS names what no request is for: {', '.join(strange)}."
        faults.append(Error(fault, hint=hint, id="chatbackend.E013"))
    database = settings.DATABASES["default"]
    if unusable := settings.DATABASE_FAULTS.get("DATABASE_URL"):
        faults.append(Error(unusable[0], hint=unusable[1], id="chatbackend.E014"))
    elif not database.get("ENGINE", "").endswith(".postgresql") or not database.get("NAME"):
        hint = (
            "Write the address of the database, such as postgresql://user:password@localhost:5432/name. "
            f"{ENCODE}"
        )
        faults.append(Error("DATABASE_URL names no PostgreSQL database.", hint=hint, id="chatbackend.E003"))
    if settings.DATABASE_TIMEOUT_SECONDS < 2:  # psycopg's own minimum, for a connection
        hint = "Write how many seconds a statement may take, such as 5."
        message = "DATABASE_TIMEOUT_SECONDS gives the database no time."
        faults.append(Error(message, hint=hint, id="chatbackend.E012"))
    if settings.WORKER_THREADS < 1:
        hint = "Write how many threads may wait for the database at once, such as 4."
        faults.append(Error("WORKER_THREADS leaves nobody to answer.", hint=hint, id="chatbackend.E004"))
    if settings.DATA_UPLOAD_MAX_MEMORY_SIZE < 1:
        hint = "Write a number of bytes, such as 1000000."
        faults.append(Error("DATA_UPLOAD_MAX_MEMORY_SIZE lets nothing in.", hint=hint, id="chatbackend.E005"))
    if settings.SECURE_PROXY_SSL_HEADER and not settings.NUM_PROXIES:
        hint = "Write in NUM_PROXIES how many proxies add to X-Forwarded-For, such as 1."
        fault = "There is a proxy (TRUST_X_FORWARDED_PROTO), and everybody would have its address."
        faults.append(CheckWarning(fault, hint=hint, id="chatbackend.W001"))
    if strange := [name for name in settings.CORS_ALLOW_HEADERS if not _is_header(name)]:
        hint = "Write names alone, such as x-datadog-trace-id. A * would not cover Authorization."
        fault = f"CORS_ALLOW_HEADERS has bad names of headers: {', '.join(strange)}."
        faults.append(Error(fault, hint=hint, id="chatbackend.E015"))
    return faults + (_check_metrics() if settings.METRICS_PORT else [])


def _check_metrics() -> list[CheckMessage]:
    faults: list[CheckMessage] = []
    directory = settings.METRICS_DIRECTORY
    if not 0 < settings.METRICS_PORT < 65536:
        hint = "Write a free port, such as 9100; 0 for no metrics."
        faults.append(Error("METRICS_PORT is no port.", hint=hint, id="chatbackend.E006"))
    if not _is_ip_address(settings.METRICS_ADDRESS):
        hint = "Write an address of this machine's, such as 127.0.0.1; 0.0.0.0 for all of them."
        faults.append(Error("METRICS_ADDRESS is no IP address.", hint=hint, id="chatbackend.E007"))
    if directory and not (os.path.isdir(directory) and os.access(directory, os.R_OK | os.W_OK | os.X_OK)):
        hint = "Make it, for the server's user alone, and empty it before each start of the server."
        faults.append(Error("METRICS_DIRECTORY cannot be written to.", hint=hint, id="chatbackend.E008"))
    if not directory and os.environ.get("WEB_CONCURRENCY", "1") not in ("", "1"):
        hint = "Write in METRICS_DIRECTORY where the workers of WEB_CONCURRENCY may keep their numbers."
        faults.append(Error("METRICS_PORT is one for several workers.", hint=hint, id="chatbackend.E009"))
    return faults


def _is_ip_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_host(allowed: str) -> bool:
    """Whether it is what Django compares a request's host to, from which it has taken the port."""
    host = allowed.removeprefix(".").lower()
    return allowed == "*" or (bool(host) and split_domain_port(host) == (host, ""))


def _is_header(name: str) -> bool:
    return name != "*" and bool(HEADER_NAME.fullmatch(name))


def _has_secret_key() -> bool:
    try:
        return bool(settings.SECRET_KEY)
    except ImproperlyConfigured:
        return False
