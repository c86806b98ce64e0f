"""Answers 503 if calls hang or the database is down. The request may work a moment later."""

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
from runtime.worker_threads import TooManyWaiting, workers

RETRY = {"Retry-After": str(RETRY_AFTER_SECONDS)}


def overload_middleware(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Refuses requests that have waited too long for a worker thread while another call hangs.

    Such a request could hang as well, and later requests would wait for it. The limit is half of
    DATABASE_TIMEOUT_SECONDS, because the request still needs time for its own statements. If all calls are
    short, the server is only busy. Then nothing is refused, because clients would only try again.

    In MIDDLEWARE, it comes after the middleware that adds headers, so its response has these headers too.
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        queued_at = getattr(request, "scope", {}).get(QUEUED_AT, math.inf)
        limit = settings.DATABASE_TIMEOUT_SECONDS / 2
        if time.monotonic() - queued_at > limit and workers.last_long_call_at > queued_at:
            body = error_body(str(Unavailable.default_detail), HTTPStatus.SERVICE_UNAVAILABLE)
            return JsonResponse(body, status=HTTPStatus.SERVICE_UNAVAILABLE, headers=RETRY)
        return get_response(request)

    return middleware


def server_error_or_unavailable(request: HttpRequest) -> HttpResponse:
    """Django's ``handler500``, for exceptions outside REST framework: in the admin and in middleware."""
    _, exc, _ = sys.exc_info()
    if exc is not None and (is_outage(exc) or isinstance(exc, TooManyWaiting)):
        message = str(Unavailable.default_detail)
        return HttpResponse(message, status=HTTPStatus.SERVICE_UNAVAILABLE, headers=RETRY)
    return server_error(request)
