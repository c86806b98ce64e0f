"""Serves the metrics of chatbackend/metrics/collectors.py to Prometheus on METRICS_PORT.

The worker processes of one server share this port, and each writes its numbers to METRICS_DIRECTORY. So any
worker process can answer with the numbers of all. This is the multiprocess mode of prometheus_client.
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

TIMEOUT_SECONDS = 10  # for a client that connects and sends nothing


def start() -> None:
    """Start to count, and serve METRICS_PORT until the process ends. Does nothing if no port is set.

    Call this once in each worker process, after the fork. Raises ``OSError`` if the port is taken.
    """
    if not settings.METRICS_PORT:
        return
    if settings.METRICS_DIRECTORY:
        # prometheus_client reads this variable when it is imported. Import it here and not at the top, so
        # that the commands of manage.py write no files.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = settings.METRICS_DIRECTORY
        _remove_live_gauges(os.getpid())  # a worker before a restart may have had the same process id
    from prometheus_client import make_wsgi_app
    from prometheus_client.exposition import ThreadingWSGIServer

    from chatbackend.metrics import collectors

    class Server(ThreadingWSGIServer):
        address_family = socket.AF_INET6 if ":" in settings.METRICS_ADDRESS else socket.AF_INET
        # The workers of one server share the directory and the port. Two servers must not share a port.
        allow_reuse_port = bool(settings.METRICS_DIRECTORY)

        def service_actions(self) -> None:  # twice a second
            collectors.update_worker_gauges()

    application = make_wsgi_app(_registry())
    server = make_server(settings.METRICS_ADDRESS, settings.METRICS_PORT, application, Server, _Handler)
    collectors.listen()
    Thread(target=server.serve_forever, name="metrics", daemon=True).start()


class _Handler(WSGIRequestHandler):
    timeout = TIMEOUT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        pass


def _registry() -> "CollectorRegistry":
    from prometheus_client import REGISTRY, CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    if not settings.METRICS_DIRECTORY:
        return REGISTRY  # it also has prometheus_client's metrics of the process: memory, CPU, files

    class AllWorkers(MultiProcessCollector):
        def collect(self) -> Any:
            for process_id in _process_ids():
                if not _is_alive(process_id):
                    _remove_live_gauges(process_id)
            return super().collect()  # type: ignore[no-untyped-call]

    registry = CollectorRegistry()
    AllWorkers(registry, settings.METRICS_DIRECTORY)  # type: ignore[no-untyped-call]
    return registry


def _process_ids() -> set[int]:
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


def _remove_live_gauges(process_id: int) -> None:
    """Remove the gauges of a process that has ended. Its counters stay, because sums must not decrease."""
    from prometheus_client.multiprocess import mark_process_dead

    with suppress(FileNotFoundError):  # another worker has just removed it
        mark_process_dead(process_id, settings.METRICS_DIRECTORY)  # type: ignore[no-untyped-call]
