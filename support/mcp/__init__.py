"""Our own MCP endpoint, ``POST /support/mcp``. With it, an MCP client calls tools in the name of a user.

Only a server with SUPPORT_MCP=True needs the package django-mcpz, which ``server`` imports.
"""
