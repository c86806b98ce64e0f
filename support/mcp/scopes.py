"""The OAuth scopes of our own tools. A team's tools name their scopes with ``@tool(scope=…)``."""

CONVERSATIONS_READ = "conversations:read"
ASSISTANT_ASK = "assistant:ask"
