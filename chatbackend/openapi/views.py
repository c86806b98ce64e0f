"""The documentation of the API, where API_DOCS is on: Swagger UI at /docs, and what it shows."""

from functools import cache

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

# A token is typed in here. Nothing of another origin is loaded, and nothing is sent there.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    shown = render(request, "chatbackend/docs.html")
    shown.headers["Content-Security-Policy"] = POLICY
    return shown


@require_safe
def openapi(request: HttpRequest) -> HttpResponse:
    return HttpResponse(_openapi(), content_type="application/yaml")


@cache
def _openapi() -> bytes:
    # Here, so that a server whose documentation nobody reads never imports what makes it.
    from drf_spectacular.renderers import OpenApiYamlRenderer

    from chatbackend.openapi.generator import Generator

    schema = Generator().get_schema(public=True)  # type: ignore[no-untyped-call]  # its __init__
    text: bytes = OpenApiYamlRenderer().render(schema)
    return text
