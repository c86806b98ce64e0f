"""An MCP server with a tool that takes for ever, of which it prints what becomes, and one that never ends."""

import base64
import sys

import anyio
from mcp.server import MCPServer
from mcp.types import ImageContent

PICTURE = base64.b64encode(b"a picture of the door").decode()

server = MCPServer("slow")


@server.tool(title="Look it up")
async def look_up() -> str:
    print("begun", flush=True)
    try:
        await anyio.sleep_forever()
    finally:
        print("stopped", flush=True)
    return ""


@server.tool()
def recite_everything() -> str:
    return "word " * 100_000


@server.tool()
def recite_in_parts() -> list[str]:
    return ["word " * 3_000] * 20


@server.tool()
def look_at_the_door() -> list[ImageContent]:
    return [ImageContent(data=PICTURE, mime_type="image/png")]


if __name__ == "__main__":
    server.run("streamable-http", port=int(sys.argv[1]))
