"""The project's settings, with the door of ``door.py`` in place of what is behind it."""

from chatbackend.settings import *  # noqa: F403
from chatbackend.settings import INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS = [app for app in INSTALLED_APPS if app != "support"]
MIDDLEWARE = [each for each in MIDDLEWARE if not each.startswith("chatbackend.body_limit")]
ROOT_URLCONF = "tests.authn.door"
