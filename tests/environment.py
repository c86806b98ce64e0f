"""The environment of the suite, in place before Django reads it: production's, but for what is local."""

import atexit
import os
import shutil
import tempfile

from chatbackend.dev.processes import free_port

BETTER_AUTH_PORT = free_port()
BETTER_AUTH_URL = f"http://localhost:{BETTER_AUTH_PORT}"
BETTER_AUTH_SECRET = "a-secret-of-the-tests-and-of-nothing-else"
PAGE_ORIGIN = "https://shop.example.com"

ATTACHMENT_DIRECTORY = tempfile.mkdtemp(prefix="attachments-")
atexit.register(shutil.rmtree, ATTACHMENT_DIRECTORY, ignore_errors=True)

OURS = ("ATTACHMENT_", "BETTER_AUTH_", "CHATKIT_", "OPENAI_", "PUBLIC_URL", "SUPPORT_")
for name in [name for name in os.environ if name.startswith(OURS)]:
    del os.environ[name]  # what somebody has set for themselves must not change what is tested
os.environ |= {
    "ENV_FILE": os.devnull,
    "DEBUG": "False",
    "SECRET_KEY": "a-secret-key-of-the-tests-that-signs-nothing-of-worth",
    "ALLOWED_HOSTS": "localhost,127.0.0.1,testserver",
    "SECURE_SSL_REDIRECT": "False",
    "DATABASE_URL": "postgresql://not.yet.known.invalid/none",  # conftest.py starts it, on a free port
    "BETTER_AUTH_URL": BETTER_AUTH_URL,
    "CORS_ALLOWED_ORIGINS": PAGE_ORIGIN,
    "PUBLIC_URL": "https://api.example.com",  # conftest.py gives each server its own
    "ATTACHMENT_DIRECTORY": ATTACHMENT_DIRECTORY,
    # Everybody is at one address here, and many a test is one person with many hands.
    "REFUSED_RATE_PER_ADDRESS": "1000000/min",
    "SUPPORT_STREAMS_PER_USER": "1000",
}


def of_a_process(**given: str) -> dict[str, str]:
    """The environment of a server or command that a test starts: the project's, and what is given."""
    return os.environ | {"DJANGO_SETTINGS_MODULE": "chatbackend.settings"} | given
