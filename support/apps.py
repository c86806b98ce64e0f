from django.apps import AppConfig
from django.core.checks import register


class SupportConfig(AppConfig):
    name = "support"
    verbose_name = "Support chat"

    def ready(self) -> None:
        from support import checks

        register(checks.check_settings)
        register(checks.check_deployment, deploy=True)
