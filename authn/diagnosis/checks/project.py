"""Checks of what a project of a team's own may lack: packages, a log, and a setting of DRF.

The project chatbackend has all of them.
"""

from importlib import import_module

from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from rest_framework.settings import api_settings

from authn import audit
from authn.conf import conf


def check_packages() -> list[CheckMessage]:
    """Checks the packages that only some settings need. Imports these, so that no request has to."""
    needed = {
        ("BETTER_AUTH_SESSION_SOURCE", "redis", "redis"): conf.BETTER_AUTH_SESSION_SOURCE != "database",
        ("BETTER_AUTH_KEYS=jwks", "httpx2", "jwks"): conf.BETTER_AUTH_KEYS == "jwks",
    }
    return [
        Error(
            f"{setting} needs the package {package}, which is not installed.",
            hint=f'pip install "chatbackend[{extra}]"',
            id="authn.E027",
        )
        for (setting, package, extra), is_needed in needed.items()
        if is_needed and not _is_installed(package)
    ]


def _is_installed(package: str) -> bool:
    try:
        import_module(package)
    except ImportError:
        return False
    return True


def check_audit_log() -> list[CheckMessage]:
    if not audit.is_dropped():
        return []
    return [
        CheckWarning(
            "LOGGING drops the audit log: the level of the logger authn.audit is above INFO.",
            hint='Add to LOGGING["loggers"]: "authn.audit": {"level": "INFO"}.',
            id="authn.W003",
        )
    ]


def check_unauthenticated_user() -> list[CheckMessage]:
    """By default, DRF gives a request without credentials a user of the app django.contrib.auth."""
    if apps.is_installed("django.contrib.auth") or "UNAUTHENTICATED_USER" in api_settings.user_settings:
        return []
    return [
        Error(
            "UNAUTHENTICATED_USER of DRF needs the app django.contrib.auth, which is not installed.",
            hint='REST_FRAMEWORK = {"UNAUTHENTICATED_USER": None}',
            id="authn.E032",
        )
    ]


CHECKS = (check_packages, check_audit_log, check_unauthenticated_user)
