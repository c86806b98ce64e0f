"""A to-do list for each user, as an MCP server."""

import os
from collections import defaultdict
from urllib.parse import urlsplit

import jwt
from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings

URL = os.environ["TODO_URL"]  # as it stands in SUPPORT_MCP_SERVERS
SECRET = os.environ["TODO_SECRET"]  # the same


class Callers:
    """Who is calling, from the token that came with the request."""

    async def verify_token(self, token: str) -> AccessToken | None:
        try:
            claims = jwt.decode(
                token,
                SECRET,
                algorithms=["HS256"],
                issuer="chatbackend",
                audience=URL,
                options={"require": ["exp", "iat", "sub", "jti"]},
            )
        except jwt.InvalidTokenError:
            return None  # the server answers 401
        return AccessToken(
            token=token,
            client_id=claims["iss"],
            scopes=[],
            expires_at=claims["exp"],
            subject=claims["sub"],
        )


server = MCPServer(
    "todo",
    token_verifier=Callers(),
    auth=AuthSettings(issuer_url="https://api.example.com", resource_server_url=None),
)
lists: dict[str, list[str]] = defaultdict(list)


def my_list() -> list[str]:
    """The list of the user for whom we are called: never of one that the model names."""
    caller = get_access_token()
    if caller is None or caller.subject is None:
        raise PermissionError
    return lists[caller.subject]


@server.tool(title="Add to the to-do list")
def add(text: str) -> str:
    """Put something on the user's to-do list."""
    my_list().append(text)
    return f"Added. The list: {my_list()}"


@server.tool(title="Look at the to-do list")
def show() -> str:
    """What is on the user's to-do list."""
    return f"The list: {my_list()}"


if __name__ == "__main__":
    server.run("streamable-http", port=urlsplit(URL).port or 80)
