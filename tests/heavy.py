"""What our server imports that does not depend on its settings: most of what it costs to start."""

import importlib
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what they say is said again in a server of its own
    for name in (
        "agents.mcp",
        "chatkit.agents",
        "chatkit.server",
        "PIL.Image",
        "uvicorn.main",
    ):
        importlib.import_module(name)
