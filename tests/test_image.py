"""The Dockerfile, compose.yaml and docs/image.md, as far as they can be tested without a container engine."""

import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chatbackend.dev.processes import free_port, server
from tests.fixtures.accounts.people import Person
from tests.fixtures.code_blocks import blocks
from tests.fixtures.dockerfile import Stage, build, ignored, steps
from tests.fixtures.environment import BETTER_AUTH_URL, PAGE_ORIGIN
from tests.fixtures.servers.api import http

TOP = Path(__file__).parent.parent
STEPS = steps((TOP / "Dockerfile").read_text())
COMPOSE = yaml.safe_load((TOP / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]

# --- The commands of docs/image.md ----------------------------------------------------------------


def test_the_documented_commands_match_the_dockerfile_and_the_compose_file() -> None:
    """Nothing here can run them. So compare their names, paths and ports with both files."""
    text = "".join(each.text for each in blocks("test_image.py", "console"))
    commands = [shlex.split(each, comments=True) for each in re.split(r"^\$ ", text, flags=re.M)[1:]]
    words = [word for command in commands for word in command]
    dockerfile = dict(STEPS)

    assert [command[:2] for command in commands] == [
        ["docker", "build"],
        ["docker", "run"],
        ["docker", "run"],
        ["cp", ".env.example"],
        ["docker", "compose"],
    ]
    assert f"attachments:{dockerfile['VOLUME']}" in words
    assert f"127.0.0.1:8000:{dockerfile['EXPOSE']}" in words
    assert (TOP / ".env.example").exists()
    assert int(words[words.index("--stop-timeout") + 1]) >= 30


def test_the_documented_image_on_top_of_ours_copies_code_to_where_the_server_imports_it() -> None:
    [block] = blocks("test_image.py", "dockerfile")
    on_top = dict(steps(block.text))

    folder = on_top["COPY"].split()[1]
    assert Path(folder).parent == Path([value for name, value in STEPS if name == "WORKDIR"][-1])
    assert on_top["ENV"].startswith(f"CHATKIT_SERVER={Path(folder).name}.")


# --- The Dockerfile, step by step -----------------------------------------------------------------


@pytest.fixture(scope="module")
def image() -> Iterator[Stage]:
    place = Path(tempfile.mkdtemp(prefix="image-"))
    place.chmod(0o755)  # the image's user must be able to enter it
    yield build(TOP / "Dockerfile", place)
    shutil.rmtree(place)


def environment(image: Stage, **env: str) -> dict[str, str]:
    """The image's variables, those that a deployment must set, and ``env``; none of this process."""
    required = {
        "SECRET_KEY": "k" * 50,
        "ALLOWED_HOSTS": "localhost",
        "BETTER_AUTH_URL": BETTER_AUTH_URL,
        "CORS_ALLOWED_ORIGINS": PAGE_ORIGIN,
        "SECURE_SSL_REDIRECT": "False",
    }
    return image.environment() | required | env


def run(image: Stage, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the image as its user."""
    argv = [*image.as_its_user(), *map(image.moved, command)]
    return subprocess.run(argv, env=environment(image, **env), capture_output=True, text=True, timeout=120)


@pytest.mark.image
def test_the_image_holds_what_the_server_needs_and_no_tools_to_build_or_test(image: Stage) -> None:
    packages = {
        path.name.partition("-")[0].lower() for path in image.root.glob("opt/venv/lib/*/site-packages/*")
    }

    assert {"django", "uvicorn", "chatkit", "prometheus_client"} <= packages
    assert not packages & {"pip", "setuptools", "pytest", "pytest_django", "ruff", "mypy", "moto"}
    assert sorted(os.listdir(image.path("."))) == [
        "__pycache__",
        "authn",
        "chatbackend",
        "manage.py",
        "runtime",
        "support",
    ]
    assert not image.path("chatbackend/dev").exists()
    assert list(image.path("support").rglob("views.*.pyc"))


@pytest.mark.image
def test_the_images_user_can_read_everything_and_write_only_attachments(image: Stage) -> None:
    permissions = {  # path -> those of all users other than the owner and the group
        path: stat.filemode(mode)[-3:]
        for top in ("/app", "/opt/venv")
        for path in image.path(top).rglob("*")
        if not stat.S_ISLNK(mode := path.lstat().st_mode)
    }

    assert int(image.user.partition(":")[0]) > 0
    assert set(permissions.values()) <= {"r--", "r-x"}
    if os.geteuid() == 0:
        assert run(image, "touch", "/app/authn/audit.py").returncode != 0
        assert run(image, "touch", "/opt/venv/new").returncode != 0
    assert run(image, "touch", "/var/lib/chatbackend/attachments/new").returncode == 0
    assert image.metadata["VOLUME"] == image.env["ATTACHMENT_DIRECTORY"]


@pytest.mark.image
def test_the_image_migrates_serves_reports_its_health_and_stops(
    image: Stage, auth: Any, database_url: str, person: Person
) -> None:
    port = free_port()
    origin, listens = f"http://localhost:{port}", {"UVICORN_PORT": str(port)}
    env = environment(image, DATABASE_URL=database_url, PUBLIC_URL=origin, **listens)

    migrated = run(image, "python", "manage.py", "migrate", DATABASE_URL=database_url)
    assert migrated.returncode == 0, migrated.stderr

    healthcheck = image.command("HEALTHCHECK")
    assert subprocess.run(healthcheck, env=env, stderr=subprocess.DEVNULL).returncode != 0

    with server("image", image.command(), env, port, "/support/health", show=False) as process:
        assert http.get(f"{origin}/support/health").status_code == 200
        assert http.get(f"{origin}/static/admin/css/base.css").status_code == 200
        bearer = {"Authorization": f"Bearer {person.token()}"}
        note = {"file": ("note.txt", b"A new note", "text/plain")}
        assert http.post(f"{origin}/support/attachments", headers=bearer, files=note).status_code == 200
        [stored] = [
            path
            for path in image.path(image.env["ATTACHMENT_DIRECTORY"]).rglob("*")
            if path.stat().st_size == 10
        ]
        assert stored.read_bytes() == b"A new note"
        assert subprocess.run(healthcheck, env=env).returncode == 0

        process.send_signal(signal.Signals[image.metadata["STOPSIGNAL"]])
        assert process.wait(timeout=20) in (0, -signal.SIGTERM)


def test_the_image_starts_the_server_with_the_readmes_command() -> None:
    [command] = [value for instruction, value in STEPS if instruction == "CMD"]
    documented = re.search(r"^\$ (uvicorn .*)$", (TOP / "README.md").read_text(), re.MULTILINE)

    assert documented
    assert yaml.safe_load(command) == ["python", "-m", *documented[1].split()]


def test_the_base_image_pins_pythons_minor_version() -> None:
    bases = {value.split()[0] for instruction, value in STEPS if instruction == "FROM"}

    assert bases == {"python:3.11-slim-trixie"}


SECRETS = [
    ".env",
    ".env.production",
    ".git/config",
    ".local/secret-key",
    "attachments/a.pdf",
    "authn/__pycache__/x",
]
NOT_NEEDED = ["tests/conftest.py", "frontend/server.mjs", "chatbackend/dev/postgres.py", ".venv/bin/python"]
NEEDED = ["requirements.txt", "manage.py", "authn/audit.py", "support/migrations/0001_initial.py"]


def test_dockerignore_excludes_secrets_and_everything_that_the_image_does_not_need() -> None:
    rules = (TOP / ".dockerignore").read_text()

    assert [path for path in SECRETS + NOT_NEEDED + NEEDED if not ignored(rules, path)] == NEEDED


# --- compose.yaml ---------------------------------------------------------------------------------


def test_compose_yaml_is_valid() -> None:
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        "compose.yaml",
    ]

    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout


def test_every_variable_of_compose_yaml_is_explained_in_the_example() -> None:
    wanted = set(re.findall(r"\$\{?(\w+)", (TOP / "compose.yaml").read_text()))
    explained = set(re.findall(r"^#?([A-Z_]+)=", (TOP / ".env.example").read_text(), re.MULTILINE))

    assert wanted == {"POSTGRES_PASSWORD"}
    assert wanted | set(SERVICES["api"]["environment"]) <= explained


def test_the_server_waits_for_migrations_and_migrations_wait_for_the_database() -> None:
    def conditions(service: str) -> dict[str, str]:
        return {name: each["condition"] for name, each in SERVICES[service]["depends_on"].items()}

    assert conditions("api") == {
        "migrate": "service_completed_successfully",
        "postgres": "service_healthy",
        "redis": "service_healthy",
    }
    assert conditions("migrate") == {"postgres": "service_healthy"}
    assert SERVICES["migrate"]["restart"] == "no"
    assert all("healthcheck" in SERVICES[name] for name in ("postgres", "redis"))


def test_only_the_server_publishes_a_port_and_only_to_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert published == {"api": ["127.0.0.1:8000:8000"]}
    assert COMPOSE["networks"]["data"]["internal"]
    assert SERVICES["postgres"]["networks"] == SERVICES["redis"]["networks"] == ["data"]


@pytest.mark.parametrize("name", ["api", "migrate", "redis"])
def test_an_attacker_in_a_container_has_no_privileges_and_cannot_change_its_files(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert not str(service.get("user", "10001")).startswith("0")


def test_attachments_and_database_are_on_volumes() -> None:
    volumes = {name: service["volumes"] for name, service in SERVICES.items() if "volumes" in service}

    assert volumes == {
        "api": ["attachments:/var/lib/chatbackend/attachments"],
        "postgres": ["postgres:/var/lib/postgresql"],
    }
    assert set(COMPOSE["volumes"]) == {"attachments", "postgres"}


def test_the_server_has_time_to_stop_before_it_is_killed() -> None:
    [command] = [value for instruction, value in STEPS if instruction == "CMD"]
    uvicorn_seconds, stream_seconds, reserve = int(yaml.safe_load(command)[-1]), 10, 1

    assert SERVICES["api"]["stop_grace_period"] == "30s"
    assert uvicorn_seconds + stream_seconds + reserve < 30  # streams: support/chat/streaming.py
