"""System checks of what Django itself finds out only when a request needs it."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    faults: list[CheckMessage] = []
    if not _has_secret_key():
        hint = 'Write 50 random characters: python -c "import secrets; print(secrets.token_urlsafe(50))"'
        faults.append(Error("SECRET_KEY is missing.", hint=hint, id="chatbackend.E001"))
    if not settings.ALLOWED_HOSTS and not settings.DEBUG:
        hint = "Write the names the API is reached by, such as api.example.com."
        faults.append(Error("ALLOWED_HOSTS is empty.", hint=hint, id="chatbackend.E002"))
    database = settings.DATABASES["default"]
    if not database.get("ENGINE", "").endswith(".postgresql") or not database.get("NAME"):
        hint = "Write the address of the database, such as postgresql://user:password@localhost:5432/name."
        faults.append(Error("DATABASE_URL names no PostgreSQL database.", hint=hint, id="chatbackend.E003"))
    if settings.WORKER_THREADS < 1:
        hint = "Write how many threads may wait for the database at once, such as 10."
        faults.append(Error("WORKER_THREADS leaves nobody to answer.", hint=hint, id="chatbackend.E004"))
    if settings.DATA_UPLOAD_MAX_MEMORY_SIZE < 1:
        hint = "Write a number of bytes, such as 1000000."
        faults.append(Error("DATA_UPLOAD_MAX_MEMORY_SIZE lets nothing in.", hint=hint, id="chatbackend.E005"))
    return faults


def _has_secret_key() -> bool:
    try:
        return bool(settings.SECRET_KEY)
    except ImproperlyConfigured:
        return False
