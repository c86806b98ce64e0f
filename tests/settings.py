"""The project's own settings, in the environment of the tests, which has to be there first."""

from tests.fixtures import environment  # noqa: F401, I001

from chatbackend.settings import *  # noqa: F403
