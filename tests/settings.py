"""The project's settings for the tests. The tests' environment must be set before Django reads it."""

from tests.fixtures import environment  # noqa: F401, I001

from chatbackend.settings import *  # noqa: F403
