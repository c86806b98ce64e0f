"""Response headers that limit what a browser does with a response, and that Django's middleware does not set.

A view that sets one of them itself keeps its own value: /docs, and the content of an attachment.
"""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

# The admin uses its own files, and one inline style that Django 5.2 writes into its lists.
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
