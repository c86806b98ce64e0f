"""Loads the ChatKit server and the context builder that the settings name."""

from collections.abc import Callable
from functools import cache
from inspect import isfunction
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string
from rest_framework.request import Request

from support.chat import protocol, server_errors
from support.conf import conf
from support.storage.store import Store


def chatkit_server() -> Any:
    """Return the ``ChatKitServer`` that CHATKIT_SERVER names. The whole process shares one instance."""
    return _server(conf.CHATKIT_SERVER)


def context_builder() -> Callable[[Request], Any]:
    """Return the function that CHATKIT_CONTEXT names. It takes a request and returns the context."""
    builder: Callable[[Request], Any] = import_string(conf.CHATKIT_CONTEXT)
    return builder


@cache
def _server(path: str) -> Any:
    from chatkit.server import ChatKitServer

    protocol.cache_request_parser()
    named = import_string(path)
    server = named if isinstance(named, ChatKitServer) else named()
    if not isinstance(server, ChatKitServer):
        raise ImproperlyConfigured(f"CHATKIT_SERVER={path} gives no ChatKitServer.")
    server_errors.send_refusals_as_events(server)
    return server


@cache
def overrides_process(server: Any) -> bool:
    """Whether the server has its own ``process``, which may accept more operations than the ChatKit SDK's."""
    from chatkit.server import ChatKitServer

    return getattr(server.process, "__func__", None) is not ChatKitServer.process


@cache
def overrides_internals(server: Any) -> bool:
    """Whether a team has overridden ``process`` or a private method of the ChatKit SDK's class.

    An override may await anything, so the operation must run in the event loop.
    """
    from chatkit.server import ChatKitServer

    return overrides_process(server) or any(
        getattr(type(server), name) is not method
        for name, method in vars(ChatKitServer).items()
        if isfunction(method) and name.startswith("_") and name != "__init__"
    )


def uses_only_our_store(server: Any) -> bool:
    """Whether a team has replaced neither our store nor the ChatKit SDK's code that calls it."""
    return type(server.store) is Store and not overrides_internals(server)
