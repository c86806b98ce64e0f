"""What the settings say, before anything is asked of anybody."""

from collections.abc import Iterator

from django.core.checks import ERROR

from authn.conf import conf
from authn.diagnosis.checks import check_settings
from authn.diagnosis.doctor.deployment import Deployment
from authn.diagnosis.doctor.findings import ExaminationSkipped, Finding, failure, ok, warning


def system_checks(deployment: Deployment) -> Iterator[Finding]:
    """This app's own. Those of the others load the whole project; ``manage.py check`` makes them all."""
    messages = [message for message in check_settings() if not message.is_silenced()]
    for message in messages:
        say = failure if message.level >= ERROR else warning
        yield say(f"{message.msg} ({message.id})", message.hint or "")
    if not messages:
        yield ok("The settings of Better Auth are well-formed.")


def plugins(deployment: Deployment) -> Iterator[Finding]:
    """Columns of a plugin that nobody has declared: bans would be made, and not honoured."""
    user = deployment.catalogue.found("user")
    if user is None:
        raise ExaminationSkipped("There is no table of users.")
    if "admin" not in conf.BETTER_AUTH_PLUGINS and (banned := user.column_like("banned")):
        yield failure(
            f"{user} has the admin() plugin's column {banned}, which is not read: banned users are let in.",
            f"BETTER_AUTH_PLUGINS={','.join([*conf.BETTER_AUTH_PLUGINS, 'admin'])}",
        )
    else:
        yield ok(f"Declared: {', '.join(conf.BETTER_AUTH_PLUGINS) or 'none'}.")
