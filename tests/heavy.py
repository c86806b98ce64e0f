"""What our server and the tool servers import whatever their settings: most of what a start costs."""

import gc
import importlib
import warnings

from django.conf import settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what they say is said again in a server of its own
    for name in (
        "agents.mcp",
        "chatkit.agents",
        "chatkit.server",
        "corsheaders.middleware",
        "django.contrib.admin.views.main",
        "django.contrib.admindocs.views",
        "django.contrib.sessions.middleware",
        "django.contrib.staticfiles.finders",
        "django.core.handlers.asgi",
        "django.core.management.commands.check",
        "django.core.management.commands.migrate",
        "django.db.backends.postgresql.base",
        "environ",
        "jwt",
        "mcp.server.auth.settings",
        "PIL.Image",
        "pythonjsonlogger.json",
        "rest_framework.compat",
        "servestatic",
        "uvicorn.main",
        "uvicorn.protocols.http.httptools_impl",
    ):
        importlib.import_module(name)

assert not settings.configured  # else each server had the tests' own

gc.freeze()  # what is imported stays: no fork has to look through it for garbage, and so to copy it
