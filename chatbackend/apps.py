from django.apps import AppConfig


class ChatbackendConfig(AppConfig):
    name = "chatbackend"
