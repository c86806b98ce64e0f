"""Our server as it is, but for the local responder, which here does not pause between two words."""

import chatbackend.asgi
from support import local

local.PAUSE_SECONDS = 0

application = chatbackend.asgi.application
