"""The metadata of the endpoint for OAuth clients (RFC 9728). A project adds it to its root URLs:

urlpatterns += [path("", include("support.mcp.well_known"))]
"""

from urllib.parse import urlsplit

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from authn.oauth.metadata import protected_resource
from support.conf import conf

# The document is public. A client in a browser sends MCP's headers with its request, so there is a preflight.
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD",
    "Access-Control-Allow-Headers": "mcp-protocol-version",
}


@csrf_exempt
@require_http_methods(["GET", "HEAD", "OPTIONS"])
def metadata(request: HttpRequest, endpoint: str) -> HttpResponse:
    """Return the metadata of the endpoint with this path, and 404 for any other path."""
    from support.mcp import resource, tools

    if urlsplit(resource.url()).path != f"/{endpoint}":
        raise Http404
    if request.method == "OPTIONS":
        return HttpResponse(status=204, headers=CORS)
    document = protected_resource(resource.url(), name=resource.NAME, scopes=tools.scopes_supported())
    return JsonResponse(document, headers=CORS)


urlpatterns = []
if conf.SUPPORT_MCP:
    urlpatterns.append(path(".well-known/oauth-protected-resource/<path:endpoint>", metadata))
