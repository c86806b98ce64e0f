"""503 where a request cannot be answered now: nothing was done, and a moment later it may work."""

import math
import sys
import time
from collections.abc import Callable
from http import HTTPStatus

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.views.defaults import server_error

from authn.errors import Unavailable
from authn.responses import RETRY_AFTER_SECONDS, error_body
from runtime.handler import QUEUED_AT
from runtime.outages import is_outage
from runtime.worker_threads import workers

RETRY = {"Retry-After": str(RETRY_AFTER_SECONDS)}


def overload_middleware(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Whoever has waited too long for a thread, behind calls that hang, is not worked for: those who come
    later would wait for each of them. Half the time that one statement may take, which may follow. Behind
    many quick calls nobody is turned away: they would only come again.

    Below other middleware, as its headers are wanted.
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        queued_at = getattr(request, "scope", {}).get(QUEUED_AT, math.inf)
        patience = settings.DATABASE_TIMEOUT_SECONDS / 2
        if time.monotonic() - queued_at > patience and workers.last_long_call_at > queued_at:
            body = error_body(str(Unavailable.default_detail), HTTPStatus.SERVICE_UNAVAILABLE)
            return JsonResponse(body, status=HTTPStatus.SERVICE_UNAVAILABLE, headers=RETRY)
        return get_response(request)

    return middleware


def crash(request: HttpRequest) -> HttpResponse:
    """Django's handler500, for what DRF does not answer: the admin, and middleware."""
    _, exc, _ = sys.exc_info()
    if exc is not None and is_outage(exc):
        message = str(Unavailable.default_detail)
        return HttpResponse(message, status=HTTPStatus.SERVICE_UNAVAILABLE, headers=RETRY)
    return server_error(request)
