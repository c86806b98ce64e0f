"""``manage.py runserver`` with ASGI. With WSGI, Django would send a stream only when the stream has ended."""

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
                proxy_headers=False,  # NUM_PROXIES tells Django REST framework which proxies to trust
                log_config=None,  # LOGGING configures uvicorn's loggers too
            )
        except SystemExit as exc:
            # For example, the port is taken. The reloader runs this method in a thread, and sys.exit would
            # end only the thread.
            os._exit(exc.code if isinstance(exc.code, int) else 1)
