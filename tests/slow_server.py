"""An MCP server with a tool that takes for ever, of which it prints what becomes, and one that never ends."""

import sys

import anyio
from mcp.server import MCPServer

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


if __name__ == "__main__":
    server.run("streamable-http", port=int(sys.argv[1]))
