from django.apps import AppConfig, apps
from django.core.checks import Tags, register
from django.core.signals import setting_changed


class AuthnConfig(AppConfig):
    name = "authn"
    verbose_name = "Better Auth"

    def ready(self) -> None:
        from authn import audit
        from authn.diagnosis.checks import check_settings
        from authn.diagnosis.checks.permissions import check_permission_classes
        from authn.diagnosis.checks.tables import check_tables
        from authn.jwt import keys

        audit.write_without_logging_setting()
        if apps.is_installed("drf_spectacular"):
            from authn import openapi  # noqa: F401  # the import registers its extensions

        register(check_settings)
        register(Tags.urls)(check_permission_classes)
        register(Tags.database)(check_tables)
        setting_changed.connect(keys.clear_cache)  # tests change settings, and the cached keys depend on them
