"""The URLs of the endpoint as clients see them. They come from the settings, and never from a Host header."""

from django.conf import settings
from django.urls import reverse

from authn.conf import origin
from authn.oauth import metadata
from support.conf import conf

NAME = "Support"  # clients show it to their users


def url() -> str:
    """Return the resource identifier: an access token must be issued for it.

    Without SUPPORT_MCP_URL, it is PUBLIC_URL and the path of the endpoint. A check demands one of the two.
    """
    return conf.SUPPORT_MCP_URL or conf.PUBLIC_URL.rstrip("/") + reverse("chatkit:mcp")


def metadata_url() -> str:
    """Return the URL of the metadata document, which names Better Auth as the authorization server."""
    return metadata.metadata_url(url())


def allows_origin(value: str | None) -> bool:
    """Whether a request with this Origin header may pass. Browsers send the header, and most others do not.

    Without this check, a page could reach an endpoint in the user's own network, under a host name of the
    page's owner (DNS rebinding).
    """
    return value is None or value in {origin(url()), *getattr(settings, "CORS_ALLOWED_ORIGINS", [])}
