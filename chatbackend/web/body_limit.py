"""Answers requests whose body or headers are too long, before anybody is authenticated."""

from collections.abc import Callable

from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase

from authn.errors import BodyTooLarge
from authn.responses import error_body
from runtime import body_limit

MAX_HEADERS_LENGTH = 32 * 1024  # bytes of all names and values; nginx accepts as much


def body_limit_middleware(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Answers 413 and 431.

    It is the last middleware. So the others add to its answer: CORS headers, a request id, a log line.
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        scope = getattr(request, "scope", {})
        if sum(len(name) + len(value) for name, value in scope.get("headers", ())) > MAX_HEADERS_LENGTH:
            return JsonResponse(error_body(f"The headers exceed {MAX_HEADERS_LENGTH} bytes", 431), status=431)
        if limit := body_limit.exceeded(request):
            return JsonResponse(error_body(str(BodyTooLarge.over(limit)), 413), status=413)
        return get_response(request)

    return middleware
