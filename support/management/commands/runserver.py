"""``manage.py runserver`` with ASGI. With WSGI, Django would send a stream only when the stream has ended."""

import os
from typing import Any

import uvicorn
from django.apps import apps
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.contrib.staticfiles.management.commands.runserver import Command as StaticFilesRunserver
from django.core.management.base import CommandError
from django.db import connections
from django.utils import autoreload
from django.utils.module_loading import import_string
from uvicorn.config import LOGGING_CONFIG

from authn.management.terminal import CommandWithExample


class Command(CommandWithExample, StaticFilesRunserver):
    addr: str
    port: str
    help = "Serves ASGI_APPLICATION with uvicorn, and restarts when the code changes."
    example = "runserver 8001"

    def inner_run(self, *args: Any, **options: Any) -> None:
        autoreload.raise_last_exception()
        name = getattr(settings, "ASGI_APPLICATION", None)
        if not name:
            raise CommandError('ASGI_APPLICATION is not set. Write it as in "shop.asgi.application".')
        self.check_migrations()  # the application itself runs the system checks
        connections.close_all()
        application = import_string(name)
        serves_files = options["use_static_handler"] and apps.is_installed("django.contrib.staticfiles")
        if serves_files and (settings.DEBUG or options["insecure_serving"]):
            application = ASGIStaticFilesHandler(application)
        try:
            uvicorn.run(
                application,
                host=self.addr,
                port=int(self.port),
                ws="none",
                proxy_headers=False,  # NUM_PROXIES tells Django REST framework which proxies to trust
                # A project's LOGGING may configure uvicorn's loggers.
                log_config=None if "uvicorn" in settings.LOGGING.get("loggers", {}) else LOGGING_CONFIG,
            )
        except SystemExit as exc:
            # For example, the port is taken. The reloader runs this method in a thread, and sys.exit would
            # end only the thread.
            os._exit(exc.code if isinstance(exc.code, int) else 1)
