"""Checks of the settings for our own MCP endpoint. They import its modules only if SUPPORT_MCP is on."""

from importlib.util import find_spec
from urllib.parse import urlsplit

from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.urls import NoReverseMatch, Resolver404, resolve

from authn.conf import conf as authn_conf
from authn.conf import origin
from authn.oauth.authentication import PLUGIN
from support.checks.tools import LOCAL_HOSTS
from support.conf import MCP_TOOLS, conf
from support.tools.configured import configured, problems


def check_mcp() -> list[CheckMessage]:
    if not conf.SUPPORT_MCP:
        return []
    if find_spec("django_mcpz") is None:
        hint = "Install the extra mcp of this package, or django-mcpz itself."
        fault = "SUPPORT_MCP is on, but the package django-mcpz is not installed."
        return [Error(fault, hint=hint, id="support.E017")]
    return _url() or [*_plugin(), *_tools(), *_urls_in_use()]


def _url() -> list[CheckMessage]:
    # Without one of the two, the Host header of a request would decide for which audience a token is valid.
    if not (conf.SUPPORT_MCP_URL or conf.PUBLIC_URL):
        hint = "Set PUBLIC_URL to the URL of this backend, such as https://api.example.com."
        return [Error("SUPPORT_MCP is on, but PUBLIC_URL is not set.", hint=hint, id="support.E016")]
    url = conf.SUPPORT_MCP_URL
    if not url or (origin(url) and urlsplit(url).path.strip("/") and not {"?", "#"} & {*url}):
        return []
    hint = "Write the whole URL of the endpoint, such as https://api.example.com/support/mcp."
    return [Error("SUPPORT_MCP_URL is not the URL of an endpoint.", hint=hint, id="support.E016")]


def _plugin() -> list[CheckMessage]:
    if PLUGIN in authn_conf.BETTER_AUTH_PLUGINS:
        return []
    hint = f"Add Better Auth's plugin mcp() or {PLUGIN}, and then {PLUGIN} to BETTER_AUTH_PLUGINS."
    fault = f"SUPPORT_MCP is on, but BETTER_AUTH_PLUGINS does not list {PLUGIN}: nobody issues access tokens."
    return [Error(fault, hint=hint, id="support.E019")]


def _tools() -> list[CheckMessage]:
    hint = f"Write some of {', '.join(MCP_TOOLS)}, or nothing."
    faults: list[CheckMessage] = [
        Error(f"SUPPORT_MCP_TOOLS: there is no tool {name}.", hint=hint, id="support.E018")
        for name in conf.SUPPORT_MCP_TOOLS
        if name not in MCP_TOOLS
    ]
    teams = configured() if not problems() else {}
    for name in teams.keys() & set(conf.SUPPORT_MCP_TOOLS):
        fault = f"SUPPORT_TOOLS and SUPPORT_MCP_TOOLS both have a tool {name}."
        hint = f"Rename your function, or leave {name} out of SUPPORT_MCP_TOOLS."
        faults.append(Error(fault, hint=hint, id="support.E018"))
    return faults


def _urls_in_use() -> list[CheckMessage]:
    from support.mcp import resource

    try:
        url = urlsplit(resource.url())
    except NoReverseMatch:
        return []  # no URL includes support.urls
    try:
        resolve(urlsplit(resource.metadata_url()).path)
    except Resolver404:
        hint = 'Add path("", include("support.mcp.well_known")) to the urlpatterns of ROOT_URLCONF.'
        fault = "No URL serves the metadata of the MCP endpoint, so clients do not find Better Auth."
        return [CheckWarning(fault, hint=hint, id="support.W007")]
    if url.scheme == "https" or url.hostname in LOCAL_HOSTS:
        return []
    hint = "Set PUBLIC_URL or SUPPORT_MCP_URL to an https URL."
    fault = "Access tokens for the MCP endpoint are sent unencrypted: its URL is not https."
    return [CheckWarning(fault, hint=hint, id="support.W008")]


CHECKS = (check_mcp,)
