"""The Next.js frontend in Chromium: examples/nextjs, and a new project made as docs/frontend.md says.

Each of the two has its own database. Better Auth's command and Django's create the tables.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from playwright.sync_api import Page, Route, expect

from chatbackend.dev.frontend import node_and_npm
from chatbackend.dev.postgres import create_database
from chatbackend.dev.processes import free_port, run_command, server
from tests.fixtures.accounts.people import PASSWORD
from tests.fixtures.browser.chat import button, expect_answer, field, messages, say
from tests.fixtures.code_blocks import FENCE, TOP, Block, every_block
from tests.fixtures.environment import BETTER_AUTH_SECRET, process_environment
from tests.fixtures.servers.api import Api, operation

pytestmark = pytest.mark.slow

OLDEST_NODE = 22  # Better Auth's migration command does not run on older versions
EXAMPLE = TOP / "examples/nextjs"
BUILT = shutil.ignore_patterns(".env", ".next", "node_modules", "next-env.d.ts", "*.tsbuildinfo")
OPENAI = "https://cdn.platform.openai.com/**"


# --- The commands ---------------------------------------------------------------------------------


class Terminal:
    """Runs commands one after another. ``cd`` changes the folder of the later ones."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        [node], npm = node_and_npm(OLDEST_NODE)
        programs = [str(Path(node).parent), os.environ["PATH"]]
        if npm[0] == node:  # npm is only a script, so make programs of it and of npx
            programs.insert(0, str(folder / "programs"))
            (folder / "programs").mkdir()
            for name in ("npm", "npx"):
                program, script = folder / "programs" / name, Path(npm[1]).with_name(f"{name}-cli.js")
                program.write_text(f'#!/bin/sh\nexec "{node}" "{script}" "$@"\n')
                program.chmod(0o755)
        self.folder = folder
        self.env = os.environ | variables | {"PATH": os.pathsep.join(programs)}

    def run(self, *commands: str) -> None:
        for command in commands:
            if command.startswith("cd "):
                self.folder /= command.removeprefix("cd ")
            else:
                run_command(["bash", "-euc", command], cwd=self.folder, env=self.env)

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def commands(blocks: Iterable[Block]) -> Iterator[str]:
    for block in blocks:
        for line, _ in block.dialogue:
            yield from line.split(" && ")


def make_the_example(terminal: Terminal) -> str:
    """Follow the example's README. Returns the command that serves the page."""
    shutil.copytree(EXAMPLE, terminal.folder / "example", ignore=BUILT)
    readme = (EXAMPLE / "README.md").read_text()
    [block] = [Block("README.md", 0, each["language"], each["text"]) for each in FENCE.finditer(readme)]
    *before, serve = commands([block])
    terminal.run("cd example", *before, "npm run types")
    return serve


def make_the_documented_project(terminal: Terminal) -> str:
    """Follow docs/frontend.md from top to bottom. Returns the command that serves the page."""
    steps = [each for each in every_block() if each.document == "docs/frontend.md"]
    steps = [each for each in steps if each.file or each.language == "console"]
    for block in steps[:-1]:
        if block.file:
            terminal.write(block.file, block.text)
        else:
            terminal.run(*commands([block]))
    terminal.run("npx tsc --noEmit", "npm run build")
    [serve] = commands(steps[-1:])
    return serve


# --- The servers ----------------------------------------------------------------------------------


@dataclass
class Frontend:
    origin: str
    api: Api


@pytest.fixture(
    scope="module",
    params=[make_the_example, make_the_documented_project],
    ids=["the example", "the document's project"],
)
def frontend(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    postgres_url: str,
    start_api: Callable[..., Any],
) -> Iterator[Frontend]:
    make: Callable[[Terminal], str] = request.param
    page_port, api_port = free_port(), free_port()
    origin, database = f"http://localhost:{page_port}", create_database(postgres_url, make.__name__)
    terminal = Terminal(
        tmp_path_factory.mktemp("nextjs"),
        {
            "DATABASE_URL": database,
            "BETTER_AUTH_SECRET": BETTER_AUTH_SECRET,
            "BETTER_AUTH_URL": origin,
            "NEXT_PUBLIC_CHATKIT_URL": f"http://localhost:{api_port}/support/chatkit",
            "NEXT_TELEMETRY_DISABLED": "1",
            "PORT": str(page_port),
        },
    )
    serve = make(terminal)
    backend = {"DATABASE_URL": database, "BETTER_AUTH_URL": origin, "CORS_ALLOWED_ORIGINS": origin}
    run_command([sys.executable, "manage.py", "migrate"], cwd=TOP, env=process_environment(**backend))
    talking = "tests.fixtures.chatkit.talking_server.TalkingServer"
    in_folder = ["bash", "-euc", f'cd "{terminal.folder}" && exec {serve}']
    with ExitStack() as running:
        api = running.enter_context(start_api(port=api_port, CHATKIT_SERVER=talking, **backend))
        running.enter_context(server("nextjs", in_folder, terminal.env, page_port, "/", show=False))
        yield Frontend(origin, api)


@pytest.fixture
def open_signed_up(new_page: Callable[..., Page], frontend: Frontend) -> Callable[..., Page]:
    """Open the page and create an account. ``script``: what the browser gets in place of OpenAI's script."""

    def open_signed_up(script: str | None = None) -> Page:
        page = new_page(base_url=frontend.origin)
        page.route(OPENAI, lambda route: route.fulfill(body=script) if script else route.abort())
        page.goto("/")
        button(page, "Create an account").click()
        page.get_by_label("Name").fill("Ada Lovelace")
        page.get_by_label("E-mail").fill(f"{os.urandom(8).hex()}@example.com")
        page.get_by_label("Password").fill(PASSWORD)
        button(page, "Sign up").click()
        return page

    return open_signed_up


# --- What a user does -----------------------------------------------------------------------------


def test_a_user_signs_up_asks_and_is_refused_after_sign_out(
    open_signed_up: Callable[..., Page], frontend: Frontend
) -> None:
    page = open_signed_up()
    with page.expect_request(frontend.api.url) as asked:
        say(page, "Hello")
    token = asked.value.headers["authorization"].removeprefix("Bearer ")

    expect(page.locator("body")).to_have_css("max-width", "640px")  # the style sheet is used
    expect_answer(page, to="Hello")
    say(page, "for 60 seconds")
    expect(messages(page).last).to_contain_text("word")
    button(page, "Stop").click()
    expect(button(page, "Send")).to_be_enabled()
    expect(messages(page)).to_have_count(4)
    before = frontend.api.post(operation("threads.list"), token)
    button(page, "Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    after = frontend.api.post(operation("threads.list"), token)

    assert len(before.json()["data"]) == 1  # both messages are in one conversation
    assert (after.status_code, after.json()["message"]) == (404, "No active sessions found for user")
    expect(page.locator("body")).not_to_contain_text("Hello")
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims.keys() == {"email", "emailVerified", "name", "sid", "sub", "iat", "exp", "iss", "aud"}


def test_a_refused_token_is_replaced_once(open_signed_up: Callable[..., Page], frontend: Frontend) -> None:
    page = open_signed_up()
    expect(field(page)).to_be_visible()
    statuses: list[int] = []
    page.on("response", lambda each: statuses.append(each.status) if each.url == frontend.api.url else None)
    with page.expect_response("**/api/auth/token") as given:
        token = page.evaluate("async () => (await (await fetch('/api/auth/token')).json()).token")
    forgeries = iter(range(3))  # both requests of the first message, and the first request of the second

    def forge(route: Route) -> None:
        if next(forgeries, None) is None:
            route.continue_()
        else:
            route.fulfill(json={"token": token[:-8] + "AAAAAAAA"})

    page.route("**/api/auth/token", forge)
    say(page, "Hello")
    expect(page.get_by_role("alert").filter(has_text="Invalid or expired JWT token")).to_be_visible()
    expect(field(page)).to_have_value("Hello")
    button(page, "Send").click()

    expect_answer(page, to="Hello")
    assert statuses == [401, 401, 401, 200]
    assert given.value.headers["cache-control"] == "no-store"


# OpenAI's script cannot be loaded in a test. This one takes its options, and uses the fetch in them.
OPENAI_STAND_IN = """
customElements.define("openai-chatkit", class extends HTMLElement {
  async setOptions({ api }) {
    const body = JSON.stringify({ type: "threads.list", params: {} });
    const { status } = await api.fetch(api.url, { method: "POST", body });
    this.textContent = `${api.domainKey}: ${status}`;
  }
});
"""


def test_chatkit_gets_the_endpoint_and_the_fetch_if_openais_script_loads(
    open_signed_up: Callable[..., Page],
) -> None:
    page = open_signed_up(script=OPENAI_STAND_IN)

    expect(page.locator("openai-chatkit")).to_have_text("localhost: 200")
    expect(field(page)).to_have_count(0)
