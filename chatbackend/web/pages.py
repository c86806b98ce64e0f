"""Lets the API's requests skip the middleware for pages: sessions, CSRF tokens, sign-in and messages.

In MIDDLEWARE, ``api_skips_middleware`` comes before the middleware that is skipped, and
``end_of_pages_middleware`` comes after it. Callers of the API have no Django session, and send no form.
"""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

GetResponse = Callable[[HttpRequest], HttpResponseBase]

# Django makes the last middleware first. So the end is in this list when the begin is made.
_ends: list[GetResponse] = []


def api_skips_middleware(get_response: GetResponse) -> GetResponse:
    prefix, skip = settings.API_PREFIX, _ends.pop()

    def middleware(request: HttpRequest) -> HttpResponseBase:
        return skip(request) if request.path_info.startswith(prefix) else get_response(request)

    return middleware


def end_of_pages_middleware(get_response: GetResponse) -> GetResponse:
    _ends.append(get_response)
    return get_response
