"""Adds response headers that tell a browser what a response may do. Django's middleware does not set these.

If a view sets one of these headers, its value stays. The views of /docs and of an attachment's content do so.
"""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

# For the admin. It loads its own files only. Django 5.2 also writes one inline style into the lists: the hash
# allows this style.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' "
    "'sha256-blvLUW3UscWqsXGByNOqdBboM+ShWAuugp2mC/wbafU='; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
# The API has no pages, and no cache may store a user's data.
API_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "X-Frame-Options": "DENY",  # pages get it from Django's middleware
}


def policies_middleware(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    prefix, has_debug_pages = settings.API_PREFIX, settings.DEBUG

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        if request.path_info.startswith(prefix):
            headers = API_HEADERS
        elif has_debug_pages and response.status_code >= 400:
            return response  # Django's debug pages need their inline styles and scripts
        else:
            headers = PAGE_HEADERS
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        return response

    return middleware
