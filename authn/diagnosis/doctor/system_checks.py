"""Runs this app's system checks, and compares BETTER_AUTH_PLUGINS to the columns of the user table."""

from collections.abc import Iterator

from django.core.checks import ERROR

from authn.conf import conf
from authn.diagnosis.checks import check_settings
from authn.diagnosis.doctor.deployment import Deployment
from authn.diagnosis.doctor.findings import ExaminationSkipped, Finding, failure, ok, warning


def failed_checks(deployment: Deployment) -> Iterator[Finding]:
    """Yields the errors and warnings of this app's system checks.

    Does not run the checks of other apps, because that loads the whole project. ``manage.py check`` runs all.
    """
    messages = [message for message in check_settings() if not message.is_silenced()]
    for message in messages:
        make_finding = failure if message.level >= ERROR else warning
        yield make_finding(f"{message.msg} ({message.id})", message.hint or "")
    if not messages:
        yield ok("The settings for Better Auth are valid.")


def plugins(deployment: Deployment) -> Iterator[Finding]:
    """Finds the admin() plugin's columns if the settings do not list the plugin. Then bans have no effect."""
    user = deployment.catalogue.found("user")
    if user is None:
        raise ExaminationSkipped("There is no user table.")
    if "admin" not in conf.BETTER_AUTH_PLUGINS and (banned := user.column_like("banned")):
        yield failure(
            f"{user} has the admin() plugin's column {banned}, but the settings do not list the plugin: "
            "banned users are let in.",
            f"BETTER_AUTH_PLUGINS={','.join([*conf.BETTER_AUTH_PLUGINS, 'admin'])}",
        )
    else:
        yield ok(f"The settings list: {', '.join(conf.BETTER_AUTH_PLUGINS) or 'none'}.")
