"""The numbers of chatbackend/metrics/collectors.py, on a port of their own, where Prometheus reads them.

Several workers of one server share that port, and a directory in which each keeps its numbers: whichever
of them is asked answers for all (METRICS_DIRECTORY; prometheus_client's multiprocess mode).
"""

import os
import socket
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from django.conf import settings

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

PATIENCE_SECONDS = 10  # with whoever connects and asks for nothing


def start() -> None:
    """Count, and answer on METRICS_PORT until the process ends; without a port do neither.

    Raises ``OSError`` where that port is taken. Once in each worker, after it was forked.
    """
    if not settings.METRICS_PORT:
        return
    if settings.METRICS_DIRECTORY:
        # It is read when prometheus_client is imported, which happens below and nowhere else: a command
        # of manage.py leaves no file behind.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = settings.METRICS_DIRECTORY
        _bury(os.getpid())  # of the same number, before a restart
    from prometheus_client import make_wsgi_app
    from prometheus_client.exposition import ThreadingWSGIServer

    from chatbackend.metrics import collectors

    class Server(ThreadingWSGIServer):
        address_family = socket.AF_INET6 if ":" in settings.METRICS_ADDRESS else socket.AF_INET
        # Two workers may listen on it, but never two servers that know nothing of each other.
        allow_reuse_port = bool(settings.METRICS_DIRECTORY)

        def service_actions(self) -> None:  # twice a second
            collectors.look_at_workers()

    application = make_wsgi_app(_registry())
    server = make_server(settings.METRICS_ADDRESS, settings.METRICS_PORT, application, Server, _Handler)
    collectors.listen()
    Thread(target=server.serve_forever, name="metrics", daemon=True).start()


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        pass


def _registry() -> "CollectorRegistry":
    from prometheus_client import REGISTRY, CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    if not settings.METRICS_DIRECTORY:
        return REGISTRY  # with what the library says of the process: memory, CPU, files

    class AllWorkers(MultiProcessCollector):
        def collect(self) -> Any:
            for process_id in _known():
                if not _is_alive(process_id):
                    _bury(process_id)
            return super().collect()  # type: ignore[no-untyped-call]

    registry = CollectorRegistry()
    AllWorkers(registry, settings.METRICS_DIRECTORY)  # type: ignore[no-untyped-call]
    return registry


def _known() -> set[int]:
    files = Path(settings.METRICS_DIRECTORY).glob("gauge_live*.db")
    return {int(file.stem.rpartition("_")[2]) for file in files}


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _bury(process_id: int) -> None:
    """Forget what a process said of its present. What it has counted remains, or every sum would fall."""
    from prometheus_client.multiprocess import mark_process_dead

    with suppress(FileNotFoundError):  # another worker was quicker
        mark_process_dead(process_id, settings.METRICS_DIRECTORY)  # type: ignore[no-untyped-call]
