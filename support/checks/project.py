"""Checks of the project that this app is installed in: its database, server, time zone and CORS."""

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.core.exceptions import ImproperlyConfigured
from django.core.management import get_commands
from django.db import connections, router
from django.utils.module_loading import import_string

from support.models import Thread

WSGI_RUNSERVERS = {"django.core", "django.contrib.staticfiles"}
CORS_MIDDLEWARE = "corsheaders.middleware.CorsMiddleware"
# ChatKit's client sends these headers. If CORS does not allow all of them, the browser sends no request.
CHATKIT_HEADERS = ["authorization", "content-type", "chatkit-frame-instance-id", "chatkit-device-id"]


def _database() -> list[CheckMessage]:
    alias = router.db_for_write(Thread)
    if alias != "default":
        hint = f"Let DATABASE_ROUTERS send the models of {Thread._meta.app_label} to the default database."
        fault = f"Conversations are written to the database {alias}, and need the default database."
        return [Error(fault, hint=hint, id="support.E011")]
    if not settings.DATABASES[alias].get("ENGINE"):
        return []  # Django itself reports a database without an engine
    try:
        vendor = connections[alias].vendor
    except ImproperlyConfigured as exc:  # the engine or its driver cannot be imported
        vendor = str(exc)
    if vendor == "postgresql":
        return []
    hint = "Use PostgreSQL for the default database: conversations need its JSON and its foreign keys."
    return [Error(f"Conversations need PostgreSQL, and this is {vendor}.", hint=hint, id="support.E012")]


def _server() -> list[CheckMessage]:
    if not getattr(settings, "ASGI_APPLICATION", None):
        hint = (
            'Set ASGI_APPLICATION, such as "shop.asgi.application", and serve it with an ASGI server. Under '
            "WSGI, the assistant cannot answer: every request for an answer gets a 501."
        )
        return [Error("ASGI_APPLICATION is not set.", hint=hint, id="support.E013")]
    if get_commands()["runserver"] in WSGI_RUNSERVERS:
        hint = "Write the app support above django.contrib.staticfiles in INSTALLED_APPS."
        fault = "manage.py runserver serves WSGI, and the assistant needs ASGI."
        return [Error(fault, hint=hint, id="support.E014")]
    return []


def _time_zone() -> list[CheckMessage]:
    if settings.TIME_ZONE == "UTC":
        return []
    hint = (
        'Set TIME_ZONE = "UTC", and activate the time zone of your pages with '
        "django.utils.timezone.activate()."
    )
    fault = (
        "TIME_ZONE is not UTC. The ChatKit SDK makes times without a time zone, so the times of "
        "conversations are wrong."
    )
    return [CheckWarning(fault, hint=hint, id="support.W003")]


def _cors() -> list[CheckMessage]:
    if not any(_is_cors_middleware(name) for name in settings.MIDDLEWARE):
        hint = (
            "Install django-cors-headers, and set CORS_ALLOWED_ORIGINS. If the page and this backend have "
            "the same origin, silence support.W004."
        )
        fault = "No middleware answers CORS requests: a page of another origin cannot reach the chat."
        return [CheckWarning(fault, hint=hint, id="support.W004")]
    from corsheaders.conf import conf

    allowed = {name.lower() for name in conf.CORS_ALLOW_HEADERS}
    if missing := [name for name in CHATKIT_HEADERS if name not in allowed]:
        hint = "Set CORS_ALLOW_HEADERS = [*corsheaders.defaults.default_headers, " + ", ".join(
            f'"{name}"' for name in missing
        )
        fault = f"CORS_ALLOW_HEADERS lacks headers that ChatKit's client sends: {', '.join(missing)}."
        return [CheckWarning(fault, hint=hint + "].", id="support.W005")]
    return []


def _is_cors_middleware(name: str) -> bool:
    """Whether it is the middleware of django-cors-headers, or a subclass of it."""
    try:
        middleware = import_string(name)
    except ImportError:
        return False  # Django reports it when the server starts
    bases = getattr(middleware, "__mro__", ())
    return any(f"{base.__module__}.{base.__name__}" == CORS_MIDDLEWARE for base in bases)


def _statement_timeout() -> list[CheckMessage]:
    if settings.DATABASES["default"].get("ENGINE") != "django.db.backends.postgresql":
        return []
    hint = (
        'Set ENGINE to "runtime.postgresql": Django\'s backend with DATABASE_TIMEOUT_SECONDS for a statement.'
    )
    fault = "A database that stops answering blocks requests without a time limit."
    return [CheckWarning(fault, hint=hint, id="support.W006")]


CHECKS = (_database, _server, _time_zone, _cors)
DEPLOYMENT_CHECKS = (_statement_timeout,)
