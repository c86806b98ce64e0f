"""The base class of the API's views, for the ChatKit endpoint and for attachments."""

import time
from typing import Any

from django.dispatch import Signal
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import JSONParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from authn.errors import BodyTooLarge
from authn.responses import exception_handler
from runtime import body_limit

NO_STORE = {"Cache-Control": "no-store"}

# The signal is sent after each request to a ``MeasuredView``. Arguments: operation, status, seconds.
answered = Signal()


class NotSupported(APIException):
    status_code = status.HTTP_501_NOT_IMPLEMENTED
    default_detail = "This server does not support that operation"


class AnyAccept(BaseContentNegotiation):
    """Ignores the Accept header.

    ChatKit's client accepts only text/event-stream, so REST framework would answer 406 to each JSON response.
    """

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class MeasuredView(APIView):
    """Sends the signal ``answered`` after each request. A view sets ``operation`` for the signal.

    REST framework's requests, responses and views refer to each other in cycles. Only Python's garbage
    collector would delete them and the body of the request, and it runs rarely (chatbackend/asgi.py). So this
    class breaks the cycles.

    Everything that REST framework reads from REST_FRAMEWORK is set here. A project's own defaults, such as
    another EXCEPTION_HANDLER, are for its own views.
    """

    operation = "unknown"

    permission_classes = [IsAuthenticated]
    throttle_classes = []
    parser_classes = [JSONParser]
    renderer_classes = [JSONRenderer]
    content_negotiation_class = AnyAccept
    versioning_class = None

    def get_exception_handler(self) -> Any:
        return exception_handler

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if limit := body_limit.exceeded(request._request):
            raise BodyTooLarge.over(limit)
        super().initial(request, *args, **kwargs)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        begun_at = time.perf_counter()
        status_code = 500  # the status that Django sends if the view raises
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
