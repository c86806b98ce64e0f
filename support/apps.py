from importlib.util import find_spec

from django.apps import AppConfig
from django.core.checks import register
from django.core.exceptions import ImproperlyConfigured


class SupportConfig(AppConfig):
    name = "support"
    verbose_name = "Support chat"
    default_auto_field = (
        "django.db.models.BigAutoField"  # as in the migrations, whatever the project's default
    )

    def import_models(self) -> None:
        if find_spec("chatkit") is None:
            raise ImproperlyConfigured(
                'The app support needs more packages: pip install "chatbackend[chatkit]"'
            )
        super().import_models()

    def ready(self) -> None:
        from support import checks
        from support.chat import library_logs

        register(checks.check_settings)
        register(checks.check_deployment, deploy=True)
        library_logs.quiet()
