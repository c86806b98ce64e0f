"""``manage.py runserver``, serving ASGI: under WSGI Django would hold a stream back until its end."""

import os
from typing import Any

import uvicorn
from django.core.management.commands.runserver import Command as DjangoRunserver
from django.db import connections
from django.utils import autoreload


class Command(DjangoRunserver):
    addr: str
    port: str
    help = "Serves chatbackend.asgi:application with uvicorn, and again when the code changes."

    def inner_run(self, *args: Any, **options: Any) -> None:
        autoreload.raise_last_exception()
        self.check_migrations()  # the system checks are run by the application itself
        connections.close_all()
        try:
            uvicorn.run(
                "chatbackend.asgi:application",
                host=self.addr,
                port=int(self.port),
                ws="none",
                proxy_headers=False,  # NUM_PROXIES says whom to believe
                log_config=None,  # the settings' LOGGING is in force
            )
        except SystemExit as exc:
            # A taken port, say. Under the reloader this is a thread, which sys.exit would end alone.
            os._exit(exc.code if isinstance(exc.code, int) else 1)
