"""System checks of Better Auth's settings. An error stops the start, and its hint says what to write."""

from typing import Any

from django.core.checks import CheckMessage

from authn.diagnosis.checks import credentials, oauth, project, tables, throttling, tokens

CHECKS = (
    *tokens.CHECKS,
    *credentials.CHECKS,
    *oauth.CHECKS,
    *tables.CHECKS,
    *throttling.CHECKS,
    *project.CHECKS,
)


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    return [message for check in CHECKS for message in check()]
