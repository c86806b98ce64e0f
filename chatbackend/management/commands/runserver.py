"""``manage.py runserver`` with ASGI. Under WSGI, Django would send a stream only when it is complete."""

import os
from typing import Any

import uvicorn
from django.core.management.commands.runserver import Command as DjangoRunserver
from django.db import connections
from django.utils import autoreload


class Command(DjangoRunserver):
    addr: str
    port: str
    help = "Serves chatbackend.asgi:application with uvicorn, and restarts when the code changes."

    def inner_run(self, *args: Any, **options: Any) -> None:
        autoreload.raise_last_exception()
        self.check_migrations()  # the application itself runs the system checks
        connections.close_all()
        try:
            uvicorn.run(
                "chatbackend.asgi:application",
                host=self.addr,
                port=int(self.port),
                ws="none",
                proxy_headers=False,  # NUM_PROXIES says which proxies are trusted
                log_config=None,  # LOGGING configures uvicorn's loggers too
            )
        except SystemExit as exc:
            # For example, the port is taken. The reloader runs this in a thread, and sys.exit would end only
            # that thread.
            os._exit(exc.code if isinstance(exc.code, int) else 1)
