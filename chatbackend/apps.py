from django.apps import AppConfig
from django.core.checks import register


class ChatbackendConfig(AppConfig):
    name = "chatbackend"

    def ready(self) -> None:
        from chatbackend import checks

        register(checks.check_settings)
