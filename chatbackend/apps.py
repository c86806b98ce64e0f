from django.apps import AppConfig
from django.core.checks import register


class ChatbackendConfig(AppConfig):
    name = "chatbackend"

    def ready(self) -> None:
        from django.contrib.auth import get_user_model

        from chatbackend import checks

        register(checks.check_settings)
        # The admin has two lists of users. Better Auth's are called users, and Django's staff accounts.
        staff = get_user_model()._meta
        staff.verbose_name, staff.verbose_name_plural = "staff account", "staff accounts"
