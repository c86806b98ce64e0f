"""Django's ASGI handler, with fewer changes of threads and a limit to what it stores."""

from io import SEEK_END
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase

from authn.responses import error_body
from support import attachment_views, views

TOO_LONG = "chatbackend.too_long"  # in a request's scope: the limit that its body exceeds


class OneHopHandler(ASGIHandler):
    """Django's handler, with the middleware and the view run as one piece of sync code, as under WSGI.

    All of ours is sync, and Django's own would change threads for each middleware's hook. A body is
    stored before anybody is asked for a token, so here its length has a limit.
    """

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        limit, length = _longest_body(), 0

        async def receive_within_limit() -> Any:
            nonlocal length
            while True:
                message = await receive()
                length += len(message.get("body", b""))
                if length <= limit or message["type"] != "http.request":
                    return message
                if TOO_LONG not in scope:
                    scope[TOO_LONG] = limit
                    return {"type": "http.request"}  # to Django the body ends here; the rest is dropped

        await super().handle(scope, receive_within_limit, send)

    def create_request(self, scope: Any, body_file: Any) -> Any:
        request, response = super().create_request(scope, body_file)
        if request is not None:
            # What it is and not what was said, or a chunked body would pass all of Django's limits.
            request.META["CONTENT_LENGTH"] = str(body_file.seek(0, SEEK_END))
            body_file.seek(0)
        return request, response

    def _get_response(self, request: HttpRequest) -> HttpResponseBase:
        # In the view's place, so that the refusal has what middleware adds: CORS, a request id, a log line.
        limit = getattr(request, "scope", {}).get(TOO_LONG)
        if limit is not None:
            return JsonResponse(error_body(f"The request body exceeds {limit} bytes", 413), status=413)
        response: HttpResponseBase = super()._get_response(request)  # type: ignore[misc]  # not in the stubs
        return response

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        return await sync_to_async(self.get_response)(request)


def _longest_body() -> int:
    return max(views.longest_body(), attachment_views.longest_body())
