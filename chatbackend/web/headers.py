"""What a browser may do with an answer: headers that Django's own middleware does not know.

A view that has set one of them itself keeps its own: /docs, and the bytes of an attachment.
"""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

# Of the admin: its own files, and one style that Django 5.2 writes into its lists.
OF_A_PAGE = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' "
    "'sha256-blvLUW3UscWqsXGByNOqdBboM+ShWAuugp2mC/wbafU='; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
# Nothing of ours there is a page, and what is somebody's own is nobody's to keep.
OF_THE_API = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


def policies_middleware(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    prefix, has_pages_of_django = settings.API_PREFIX, settings.DEBUG

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        if request.path_info.startswith(prefix):
            policies = OF_THE_API
        elif has_pages_of_django and response.status_code >= 400:
            return response  # for a developer, with styles and scripts in the page itself
        else:
            policies = OF_A_PAGE
        for name, value in policies.items():
            response.headers.setdefault(name, value)
        return response

    return middleware
