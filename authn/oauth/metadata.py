"""The document that tells an OAuth client which authorization server issues tokens for us (RFC 9728)."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from authn.conf import conf

WELL_KNOWN = "/.well-known/oauth-protected-resource"


def metadata_url(resource: str) -> str:
    """Returns the URL of the document: its path stands between the host and the path of the resource.

    ``resource``: the URL of an endpoint, such as ``https://api.example.com/support/mcp``.
    """
    parts = urlsplit(resource)
    return parts._replace(path=f"{WELL_KNOWN}{parts.path.rstrip('/')}").geturl()


def protected_resource(resource: str, *, name: str = "", scopes: Iterable[str] = ()) -> dict[str, Any]:
    """Returns the document. ``name``: for the user who allows the client. ``scopes``: what it may ask for."""
    optional = {"resource_name": name, "scopes_supported": sorted(scopes)}
    return {
        "resource": resource,
        "authorization_servers": [conf.BETTER_AUTH_OAUTH_ISSUER],
        "bearer_methods_supported": ["header"],
        **{member: value for member, value in optional.items() if value},
    }
