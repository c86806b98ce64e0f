"""What the views of the endpoint and of the attachments have in common."""

import time
from typing import Any

from django.dispatch import Signal
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

NO_STORE = {"Cache-Control": "no-store"}

# Sent for each request to a ``MeasuredView``. Arguments: operation, status, seconds.
answered = Signal()


class NotSupported(APIException):
    status_code = status.HTTP_501_NOT_IMPLEMENTED
    default_detail = "This server does not support that operation"


class AnyAccept(BaseContentNegotiation):
    """ChatKit's client accepts only text/event-stream. REST framework would answer 406."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class MeasuredView(APIView):
    """Sends the signal ``answered`` for each request. ``operation``: set as soon as it is known.

    REST framework's requests and responses refer to themselves, and its views to both. Only Python's garbage
    collector would delete them, with the body of the request, and it seldom runs (chatbackend/asgi.py). So
    these references are removed here.
    """

    operation = "unknown"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        begun_at = time.perf_counter()
        status_code = 500  # Django's answer to an exception
        try:
            response: HttpResponseBase = super().dispatch(request, *args, **kwargs)
            status_code = response.status_code
        finally:
            seconds = time.perf_counter() - begun_at
            answered.send(None, operation=self.operation, status=status_code, seconds=seconds)
        self.request.parser_context.clear()
        del self.response
        return response

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Response:
        finalized = super().finalize_response(request, response, *args, **kwargs)
        if isinstance(finalized, Response):
            finalized.add_post_render_callback(lambda rendered: rendered.renderer_context.clear())
        return finalized
