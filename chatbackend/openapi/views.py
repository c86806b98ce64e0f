"""Serves Swagger UI at /docs, and the OpenAPI document that it shows. API_DOCS turns both on."""

from functools import cache
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from authn.conf import conf, origin

# Users type a token into this page. So the page must not load from other origins or send to them.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    response = render(request, "chatbackend/docs.html", {"token_url": _token_url()})
    response.headers["Content-Security-Policy"] = POLICY
    return response


@require_safe
def openapi(request: HttpRequest) -> HttpResponse:
    return HttpResponse(_openapi(), content_type="application/yaml")


def _token_url() -> str:
    """Return the URL at which Better Auth's jwt() plugin gives a signed-in user a token. "" without JWTs."""
    base = origin(conf.BETTER_AUTH_URL)
    if "jwt" not in conf.BETTER_AUTH_CREDENTIALS or not base:
        return ""
    return f"{base}{urlsplit(conf.BETTER_AUTH_URL).path.rstrip('/') or '/api/auth'}/token"


@cache
def _openapi() -> bytes:
    # These imports are not at the top, because most servers never need the modules.
    from drf_spectacular.renderers import OpenApiYamlRenderer

    from chatbackend.openapi.generator import Generator

    schema = Generator().get_schema(public=True)  # type: ignore[no-untyped-call]  # its __init__
    text: bytes = OpenApiYamlRenderer().render(schema)
    return text
