"""The project's settings, with the team's own place for files."""

from chatbackend.settings import *  # noqa: F403
from chatbackend.settings import STORAGES

STORAGES = STORAGES | {"attachments": {"BACKEND": "tests.support.failing_server.FailingStorage"}}
