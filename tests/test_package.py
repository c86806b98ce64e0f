"""The package: its description, its content, and how other Django projects use it.

docs/your-django-project.md is followed to the letter in a new project.
"""

import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import environ
import pytest

from chatbackend.dev.postgres import create_database
from chatbackend.dev.processes import run_command
from tests.fixtures.accounts.people import BetterAuth, Person
from tests.fixtures.code_blocks import TOP, Block, blocks
from tests.fixtures.packaging.new_project import NewProject, environment, install_package
from tests.fixtures.servers.api import Api, create, http, operation

PYTHON, CONSOLE = (blocks("test_package.py", language) for language in ("python", "console"))
DOCUMENTED_URL = "https://shop.example.com"  # the document's address of Better Auth

AUTHENTICATION = ['INSTALLED_APPS += ["authn"', "class Order(", "class OrderViewSet", "SimpleRouter"]
CHAT = ['["support", *INSTALLED_APPS]', 'include("support.urls")', "application = wrap(application)"]
ASGI = ("-m", "uvicorn", "shop.asgi:application", "--ws", "none", "--port", "{port}")
WSGI = ("-m", "uvicorn", "shop.wsgi:application", "--interface", "wsgi", "--port", "{port}")

RUNSERVER = ("manage.py", "runserver", "--noreload", "{port}")
NO_ISSUES = "System check identified no issues (0 silenced).\n"

# What pip installs for authn: Django, REST framework, PyJWT with cryptography, psycopg, and what they need.
AUTHENTICATION_PACKAGES = {
    *("asgiref", "cffi", "chatbackend", "cryptography", "django", "djangorestframework", "psycopg"),
    *("psycopg_binary", "pycparser", "pyjwt", "sqlparse", "typing_extensions"),
}

OTHER_ORIGIN = ["default_headers"]


def documented(*texts: str) -> list[Block]:
    """The blocks of the document that contain these texts, one for each."""
    found = [[each for each in PYTHON if text in each.text] for text in texts]
    assert [len(each) for each in found] == [1] * len(texts)
    return [block for (block,) in found]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_package(tmp_path_factory.mktemp("package"))


# --- The package ----------------------------------------------------------------------------------


def test_the_package_has_the_ranges_of_the_requirements() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    packaged = {*project["dependencies"], *(each for extra in extras.values() for each in extra)}
    lines = [line.partition("#")[0].strip() for line in (TOP / "requirements.txt").read_text().splitlines()]
    only_tests = {line for line in lines if line.startswith("pytest-django")}

    assert packaged - set(extras["s3"]) == set(filter(None, lines)) - only_tests
    dev = (TOP / "requirements-dev.txt").read_text().splitlines()
    assert set(extras["s3"]) <= {re.split(" +#", line)[0] for line in dev}


def test_the_package_has_what_the_apps_need_and_no_tests(installed: Path) -> None:
    sources = [
        file for name in ("runtime", "authn", "support", "chatbackend") for file in (TOP / name).rglob("*")
    ]
    needed = {
        str(file.relative_to(TOP))
        for file in sources
        if file.is_file() and "__pycache__" not in file.parts and "dev" not in file.parts
    }
    packaged = {
        str(file.relative_to(installed)) for file in installed.rglob("*") if "__pycache__" not in file.parts
    }

    assert needed - packaged == set()
    assert "support/migrations/0001_initial.py" in needed
    assert "authn/py.typed" in needed
    assert {name.partition("/")[0] for name in packaged} - {"runtime", "authn", "support", "chatbackend"} == {
        "chatbackend-0.1.0.dist-info"
    }


# --- The document ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def team_database(postgres_url: str) -> str:
    return create_database(postgres_url, "team")


@pytest.fixture(scope="module")
def team_auth(start_better_auth: Callable[..., Any], team_database: str) -> Iterator[BetterAuth]:
    with start_better_auth(DATABASE_URL=team_database) as running:
        yield running


@pytest.fixture
def person(team_auth: BetterAuth) -> Person:
    return team_auth.sign_up()


@pytest.fixture
def project(tmp_path: Path, installed: Path, team_auth: BetterAuth, team_database: str) -> NewProject:
    """A new project of a team, with Better Auth's tables in its database."""
    return NewProject(tmp_path, environment(installed), {DOCUMENTED_URL: team_auth.origin}).start(
        team_database
    )


def test_the_document_gives_a_project_authentication_and_a_chat(
    project: NewProject, team_auth: BetterAuth
) -> None:
    add_authentication(project, team_auth)
    add_chat(project, team_auth)


@pytest.mark.slow
def test_the_documents_commands_install_into_an_empty_environment(
    tmp_path: Path, team_auth: BetterAuth, team_database: str
) -> None:
    """Prints the size of what pip has installed, for docs/your-django-project.md."""
    (build, install), *_ = [block.dialogue for block in CONSOLE if "build" in block.text]
    run_command(["git", "clone", "--quiet", str(TOP), str(tmp_path / "clone")])
    run_command([sys.executable, "-m", "venv", str(tmp_path / "venv")])
    python = str(tmp_path / "venv/bin/python")
    clone: dict[str, Any] = {"cwd": tmp_path / "clone", "env": environment()}

    run_command([sys.executable, *shlex.split(build[0])[1:]], **clone)
    run_command([python, "-m", *shlex.split(install[0])], **clone)
    installed = {path.name.partition("-")[0] for path in (tmp_path / "venv").rglob("*.dist-info")}
    sizes = [size_of(tmp_path / "venv/lib")]

    assert installed - {"pip", "setuptools"} == AUTHENTICATION_PACKAGES
    (tmp_path / "shop").mkdir()
    project = NewProject(tmp_path / "shop", environment(), {DOCUMENTED_URL: team_auth.origin}, python)
    add_authentication(project.start(team_database), team_auth, *RUNSERVER)

    run_command([python, "-m", *shlex.split(install[0] + "[chatkit]")], **clone)
    run_command([python, "-m", "pip", "install", "--quiet", "django-cors-headers"], **clone)
    sizes.append(size_of(tmp_path / "venv/lib"))
    add_chat(project, team_auth)
    print("MB of authn and of both:", sizes)


def add_authentication(project: NewProject, auth: BetterAuth, *server: str) -> None:
    person, other_person = auth.sign_up(), auth.sign_up()
    project.follow(documented(*AUTHENTICATION))
    project.append("shop/settings.py", 'INSTALLED_APPS += ["orders"]')
    project.manage("makemigrations", "orders")
    project.manage("migrate")
    with project.serving(*(server or WSGI), path="/orders/") as api:
        orders = f"{api.origin}/orders/"
        refused = http.get(orders)
        made = http.post(orders, json={"item": "tea"}, headers=bearer(person))
        own, others = (http.get(orders, headers=bearer(each)).json() for each in (person, other_person))

    assert (refused.status_code, made.status_code) == (401, 201)
    assert ([each["item"] for each in own], others) == (["tea"], [])
    assert '"reason": "ok"' in api.log.read_text()
    assert project.manage("check").stdout == NO_ISSUES
    assert "0 failures" in project.manage("betterauth", "doctor").stdout


def add_chat(project: NewProject, auth: BetterAuth) -> None:
    person, other_person = auth.sign_up(), auth.sign_up()
    project.follow(documented(*CHAT, *OTHER_ORIGIN))
    project.manage("migrate")
    with project.serving(*ASGI) as api:
        events = api.events(create(), person.token())
        conversations = [
            api.post(operation("threads.list"), each.token()).json()["data"]
            for each in (person, other_person)
        ]

    assert project.manage("check").stdout == NO_ISSUES
    assert person.user_id in events[-1]["item"]["content"][0]["text"]
    assert [[each["id"] for each in data] for data in conversations] == [[events[0]["thread"]["id"]], []]


def size_of(folder: Path) -> float:
    """In MB, without compiled bytecode."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return round(sum(path.stat().st_size for path in files) / 1e6, 1)


@pytest.mark.slow
def test_the_example_runs(
    tmp_path: Path, installed: Path, team_database: str, team_auth: BetterAuth, person: Person
) -> None:
    example = shutil.copytree(TOP / "examples/django-shop", tmp_path / "shop")
    env = environment(installed, DATABASE_URL=team_database, BETTER_AUTH_URL=team_auth.origin)
    shop = NewProject(example, env)
    shop.manage("makemigrations", "--check")
    shop.manage("migrate")
    with shop.serving(*RUNSERVER) as api:
        ordered = http.post(f"{api.origin}/orders/", json={"item": "tea"}, headers=bearer(person)).json()
        events = api.events(create(), person.token())
        style = http.get(f"{api.origin}/static/admin/css/base.css")

    assert ordered["item"] == "tea"
    assert person.user_id in events[-1]["item"]["content"][0]["text"]
    assert style.status_code == 200
    files = run_command(["git", "ls-files", "examples/django-shop"], cwd=TOP).splitlines()
    assert len(files) <= 20


def bearer(person: Person) -> dict[str, str]:
    return {"Authorization": f"Bearer {person.token()}"}


# --- Projects with other settings -----------------------------------------------------------------

UNUSUAL = {
    "shop/support/__init__.py": "",
    "shop/support/models.py": """
from django.db import models

class Thread(models.Model):
    subject = models.TextField()
""",
    "shop/staff/__init__.py": "",
    "shop/staff/models.py": """
from django.contrib.auth.models import AbstractUser

class Member(AbstractUser):
    pass
""",
    "shop/apps.py": """
from authn.apps import AuthnConfig

class AccountsConfig(AuthnConfig):
    label = "accounts"
""",
    "shop/middleware.py": """
import asyncio

def own_middleware(get_response):
    async def middleware(request):
        response = await get_response(request)
        response["X-Own"] = "yes"
        return response
    return middleware

own_middleware.async_capable, own_middleware.sync_capable = True, False
""",
    "shop/settings.py": """
INSTALLED_APPS.remove("authn")
INSTALLED_APPS = ["shop.apps.ChatConfig", "shop.apps.AccountsConfig", *INSTALLED_APPS]
INSTALLED_APPS += ["shop.support", "shop.staff"]
ASGI_APPLICATION = "shop.asgi.application"
AUTH_USER_MODEL = "staff.Member"
LANGUAGE_CODE = "de"
LANGUAGES = [("de", "Deutsch"), ("en", "English")]
FORCE_SCRIPT_NAME = "/shop"
BETTER_AUTH_DATABASE = "better_auth"
REST_FRAMEWORK = {"DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.BrowsableAPIRenderer"]}
DATABASES["default"] |= {"ATOMIC_REQUESTS": True, "ENGINE": "runtime.postgresql"}
DATA_UPLOAD_MAX_MEMORY_SIZE = 100_000
ATTACHMENT_MAX_BYTES = 100_000
MIDDLEWARE = [
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "shop.middleware.own_middleware",
    *MIDDLEWARE,
]
""",
    "shop/urls.py": """
from django.conf.urls.i18n import i18n_patterns
from django.http import JsonResponse
from django.urls import include

def upload(request):
    return JsonResponse({"length": len(request.read())})

from django.views.decorators.csrf import csrf_exempt
urlpatterns += [path("upload", csrf_exempt(upload))]
urlpatterns += i18n_patterns(path("api/help/", include("support.urls")))
""",
}


SHOW_ADMIN = """
from django.contrib.auth import get_user_model
from django.test import Client
staff = get_user_model().objects.create_superuser("ada", "ada@example.com", "secret")
staff_client = Client(HTTP_HOST="localhost")
staff_client.force_login(staff)
from support.models import Thread
thread = Thread.objects.get(user_id={user_id!r})
own, theirs = f"chat/thread/{{thread.pk}}/change/", "accounts/user/{user_id}/change/"
for page in ["", "chat/thread/", own, "accounts/session/", theirs]:
    print(staff_client.get(f"/admin/{{page}}", follow=True).status_code)
"""


def test_a_project_may_have_other_labels_urls_users_middleware_and_defaults(
    project: NewProject, person: Person, postgres_url: str
) -> None:
    # Its own migrations differ from those of the other projects, so it has another database.
    own = environ.Env.db_url_config(create_database(postgres_url, "unusual"))
    project.append(
        "shop/settings.py", f"DATABASES['better_auth'] = DATABASES['default']\nDATABASES['default'] = {own!r}"
    )
    project.follow(documented(AUTHENTICATION[0], "class ChatConfig", "WorkerThreadHandler"))
    for file, text in UNUSUAL.items():
        project.append(file, text)
    project.manage("makemigrations", "support", "staff")
    project.manage("makemigrations", "--check")
    project.manage("migrate")
    print(project.manage("check"))
    with project.serving(*ASGI, path="/de/api/help/health") as api:
        german = Api(api.origin, api.log, "/de/api/help/chatkit")
        with german.stream(create(), person.token(), Accept_Language="de", Accept_Encoding="gzip") as events:
            streamed = [(response, event) for response, event in events]
        refused = german.post(create())
        listed = german.post(operation("threads.list"), person.token()).json()
        too_long = german.post(create("x" * 300_000))  # refused before anybody is authenticated
        upload = http.post(f"{api.origin}/upload", content=b"x" * 300_000)
        announced = german.post(
            operation("attachments.create", name="a.png", size=1, mime_type="image/png"), person.token()
        ).json()
    print(api.log.read_text())
    response, last = streamed[-1]
    assert (response.headers["X-Own"], response.headers["Content-Encoding"]) == ("yes", "identity")
    assert last["type"] == "thread.item.done"
    assert len(listed["data"]) == 1
    message = "Authentication credentials were not provided"
    assert refused.json() == {"error": message, "status": 401, "message": message}
    assert (too_long.status_code, too_long.json()["status"]) == (413, 413)
    assert upload.json() == {"length": 300_000}
    assert announced["upload_descriptor"]["url"].startswith(f"{api.origin}/shop/de/api/help/attachments/")
    assert (
        project.manage("shell", "-c", SHOW_ADMIN.format(user_id=person.user_id)).stdout.split()[-5:]
        == ["200"] * 5
    )

    with project.serving(*WSGI, path="/de/api/help/health") as api:
        german = Api(api.origin, api.log, "/de/api/help/chatkit")
        spoken = german.post(create(), person.token())
        after = german.post(operation("threads.list"), person.token()).json()
    assert (spoken.status_code, spoken.json()["error"]) == (501, "The assistant needs an ASGI server")
    assert after == listed
