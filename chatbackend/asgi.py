"""``chatbackend.asgi:application``, for an ASGI server. An import with wrong settings or tables raises."""

import gc
import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatbackend.settings")

import django

django.setup(set_prefix=False)

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.utils.module_loading import import_string
from servestatic import ServeStaticASGI

from chatbackend.metrics import exposition
from chatbackend.web.probes import Probes, is_probe
from support.asgi import wrap

# Python's default thresholds (700, 10, 10) start a full garbage collection every few seconds under load. With
# a thousand open streams, a full collection takes a tenth of a second. The process answers no request
# meanwhile.
GC_THRESHOLD = (10_000, 5, 20)


def start() -> None:
    try:
        exposition.start()
    except OSError as exc:
        raise RuntimeError(f"METRICS_PORT: {exc}") from exc
    gc.collect()
    gc.freeze()  # objects from the start are never deleted, so the collector can skip them
    gc.set_threshold(*GC_THRESHOLD)


# The limit applies to all bodies: an attacker can send a long body to the admin's pages too.
handler = wrap(import_string(settings.ASGI_HANDLER)(), limits_body_of=lambda scope: True, on_startup=start)
# Static files need no middleware, so they are served outside Django.
with_static_files = ServeStaticASGI(
    handler,
    allow_all_origins=False,
    add_headers_function=lambda headers, path, url: headers.add_header("X-Content-Type-Options", "nosniff"),
)
static_prefix = f"/{settings.STATIC_URL.lstrip('/')}"
for finder in get_finders():
    for name, storage in finder.list([]):
        with_static_files.add_file_to_dictionary(f"{static_prefix}{name}", storage.path(name))
probes = Probes()


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Pass each request on after one look at its path: a request for Django passes no other application."""
    if scope["type"] != "http":
        await handler(scope, receive, send)
    elif scope["path"].startswith(static_prefix):
        await with_static_files(scope, receive, send)
    elif is_probe(scope):
        await probes(scope, receive, send)
    else:
        await handler(scope, receive, send)
