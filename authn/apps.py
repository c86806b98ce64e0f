from django.apps import AppConfig
from django.core.checks import Tags, register
from django.core.signals import setting_changed


class AuthnConfig(AppConfig):
    name = "authn"
    verbose_name = "Better Auth"

    def ready(self) -> None:
        from authn.diagnosis.checks import check_settings
        from authn.diagnosis.checks.tables import check_tables
        from authn.jwt import keys

        register(check_settings)
        register(Tags.database)(check_tables)
        setting_changed.connect(keys.clear_cache)  # tests change settings, and the cached keys depend on them
