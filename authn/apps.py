from django.apps import AppConfig
from django.core.checks import Tags, register
from django.core.signals import setting_changed


class AuthnConfig(AppConfig):
    name = "authn"
    verbose_name = "Better Auth"

    def ready(self) -> None:
        from authn.diagnosis import checks, session_checks
        from authn.jwt import keys

        register(checks.check_settings)
        register(session_checks.check_settings)
        register(Tags.database)(session_checks.check_tables)
        setting_changed.connect(keys.forget)  # tests override settings; a key set belongs to its source
