"""Owners for the store; and our server with a model that is scripted by the test, over each of two APIs."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from chatbackend.dev.processes import free_port
from tests import forked
from tests.environment import of_a_process
from tests.model_server import Model, model_server
from tests.server import Api
from tests.support.owner import Owner

APIS = ["responses", "chat_completions"]


@pytest.fixture
def ada() -> Owner:
    return Owner("ada")


@pytest.fixture
def bob() -> Owner:
    return Owner("bob")


@pytest.fixture(scope="session")
def running_model() -> Iterator[Model]:
    with model_server() as running:
        yield running


@pytest.fixture
def model(running_model: Model) -> Model:
    return running_model.play("Good ", "morning", "!")


@pytest.fixture(scope="session")
def start_assistant(auth: Any, start_api: Callable[..., Any], running_model: Model) -> Callable[..., Any]:
    """Start our server with the model. What it sends to other hosts than ours goes to the model's tunnels."""

    def start(model_api: str = "responses", **env: str) -> Any:
        defaults = {
            "OPENAI_BASE_URL": running_model.base_url,
            "OPENAI_API_KEY": "the-key-of-the-model",
            "SUPPORT_MODEL": "model-of-the-tests",
            "SUPPORT_MODELS": "another-model, forgetful-model",
            "SUPPORT_MODEL_API": model_api,
            "SUPPORT_TITLE_MODEL": "small-model",
            "SUPPORT_INSTRUCTIONS": "Be kind.",
            "SUPPORT_RATE_PER_USER": "100000/min",
            "SUPPORT_MESSAGE_LENGTH": "1000000",
            "HTTPS_PROXY": running_model.origin,
            "HTTP_PROXY": running_model.origin,
            "NO_PROXY": "127.0.0.1,localhost",
        }
        return start_api(**defaults | env)

    return start


@pytest.fixture(scope="session")
def assistants(start_assistant: Callable[..., Any]) -> Iterator[Callable[[str], Api]]:
    """One for each API, from when it is first asked for: pytest would stop it where another's turn comes."""
    with ExitStack() as running:
        yield cache(lambda model_api: running.enter_context(start_assistant(model_api)))


@pytest.fixture(params=APIS)
def assistant(request: pytest.FixtureRequest, assistants: Callable[[str], Api]) -> Api:
    return assistants(request.param)


@dataclass
class ToolProcess:
    """An MCP server in a process of its own. ``secret`` is what it shares with ours."""

    url: str
    log: Path
    process: forked.Forked
    secret: str = ""

    def said(self) -> list[str]:
        return self.log.read_text().splitlines()

    def entry(self, name: str) -> dict[str, str]:
        """What to write into SUPPORT_MCP_SERVERS."""
        return {"name": name, "url": self.url} | ({"secret": self.secret} if self.secret else {})


@pytest.fixture(scope="session")
def start_tool_server(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    @contextmanager
    def start(module: str, secret: str = "") -> Iterator[ToolProcess]:
        port, log = free_port(), tmp_path_factory.mktemp(module) / "log"
        url = f"http://127.0.0.1:{port}/mcp"
        env = of_a_process(TODO_URL=url, TODO_SECRET=secret)
        with forked.module(module, env, port, log) as process:
            yield ToolProcess(url, log, process, secret)

    return start


@pytest.fixture(scope="session")
def todo_server(start_tool_server: Callable[..., Any]) -> Iterator[ToolProcess]:
    with start_tool_server("todo_server", secret="a-secret-of-the-to-do-server-and-us-alone") as running:
        yield running


@pytest.fixture(scope="session")
def slow_server(start_tool_server: Callable[..., Any]) -> Iterator[ToolProcess]:
    with start_tool_server("slow_server") as running:
        yield running
