"""``python -m chatbackend.dev run|setup|check|audit|matrix``. The Makefile has targets of these names."""

import os
import secrets
import shlex
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from subprocess import Popen

import environ

from chatbackend.dev.audit import audit
from chatbackend.dev.frontend import FRONTEND, TEST_BETTER_AUTH, better_auth_process, install_packages
from chatbackend.dev.matrix import matrix
from chatbackend.dev.postgres import postgres, postgres_process
from chatbackend.dev.processes import (
    TOP,
    StartError,
    describe_exit,
    load_secret,
    locked,
    run_command,
    say,
    server,
    write_private,
)

LOCAL = TOP / ".local"  # data and secrets of `make run`
MANAGE = [sys.executable, str(TOP / "manage.py")]


def main(command: str, *options: str) -> None:
    def stop(number: int, _frame: object) -> None:
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)  # a second signal must not interrupt the cleanup
        sys.exit(0 if command == "run" else 128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        {"run": run, "setup": setup, "check": check, "audit": audit, "matrix": matrix}[command](*options)
    except (StartError, OSError) as exc:
        sys.exit(f"\n{exc}")


def run() -> None:
    """Run the local stack until a signal comes, or until one of its parts ends.

    DATABASE_URL and BETTER_AUTH_URL name a database and a Better Auth server that already run. The stack then
    starts none of its own.
    """
    environ.Env.read_env(TOP / ".env")
    # An empty variable counts as not set.
    given = {name: value for name, value in os.environ.items() if value}
    own_database, own_page = "DATABASE_URL" not in given, "BETTER_AUTH_URL" not in given
    children: dict[str, Popen[str]] = {}
    LOCAL.mkdir(exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(locked(LOCAL, "`make run` is already running in this folder."))
        api_port = _port(given, "PORT", 8000)
        page_port = _port(given, "FRONTEND_PORT", 3000) if own_page else 3000
        env = _environment(api_port, page_port) | given
        if own_page:
            install_packages(FRONTEND)
        say("Starting …")
        if own_database:
            process, env["DATABASE_URL"] = stack.enter_context(postgres_process(LOCAL / "postgres"))
            children["PostgreSQL"] = process
        if own_page:  # before the API, because it creates the tables that the API reads
            children["The page"] = stack.enter_context(better_auth_process(env, page_port, show=True))
        # With our own database, skip the system checks, because the API runs them when it starts.
        _migrate(env, *(["--skip-checks"] if own_database else []))
        account = _admin(env) if own_database else "accounts: manage.py createsuperuser"
        _write_environment(env, given)
        command = [*MANAGE, "runserver", f"127.0.0.1:{api_port}"]
        api = server("api", command, env, api_port, "/admin/login/", show=True)
        children["The API"] = stack.enter_context(api)
        say(
            "",
            f"  {'Page ' if own_page else 'Better Auth'}  {env['BETTER_AUTH_URL']}",
            f"  API    http://localhost:{api_port}/support/chatkit",
            f"  Docs   http://localhost:{api_port}/docs",
            f"  Admin  http://localhost:{api_port}/admin/  ({account})",
            "",
            "  Ctrl-C stops everything.",
            "",
        )
        _wait_for_exit(children)


def setup() -> None:
    install_packages(FRONTEND, TEST_BETTER_AUTH)


def check() -> None:
    """Run ``check --deploy`` with settings of a production server, and check that no migration is missing."""
    production = {
        "ENV_FILE": os.devnull,
        "DEBUG": "False",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "ALLOWED_HOSTS": "api.example.com",
        "PUBLIC_URL": "https://api.example.com",
        "BETTER_AUTH_URL": "https://auth.example.com",
        "CORS_ALLOWED_ORIGINS": "https://auth.example.com",
    }
    with postgres(LOCAL / "check", throwaway=True) as url:
        for command in ("check --deploy --fail-level WARNING", "makemigrations --check --dry-run"):
            env = {**os.environ, **production, "DATABASE_URL": url}
            say(f"manage.py {command}", run_command([*MANAGE, *command.split()], env=env).strip())


def _port(given: Mapping[str, str], variable: str, default: int) -> int:
    value = given.get(variable, str(default))
    if not value.isdecimal() or not 0 < int(value) < 65536:
        raise StartError(f"{variable}={value} is no port number.")
    with suppress(OSError):
        socket.create_connection(("localhost", int(value)), timeout=1).close()
        raise StartError(f"Port {value} is taken. Choose another: make run {variable}=…")
    return int(value)


def _environment(api_port: int, page_port: int) -> dict[str, str]:
    return {
        "DEBUG": "True",
        "API_DOCS": "True",
        "SECRET_KEY": load_secret(LOCAL / "secret-key"),
        "BETTER_AUTH_SECRET": load_secret(LOCAL / "better-auth-secret"),
        "BETTER_AUTH_URL": f"http://localhost:{page_port}",
        "CHATKIT_URL": f"http://localhost:{api_port}/support/chatkit",
        "PUBLIC_URL": f"http://localhost:{api_port}",
        "ATTACHMENT_DIRECTORY": str(LOCAL / "attachments"),
        "CORS_ALLOWED_ORIGINS": f"http://localhost:{page_port},http://127.0.0.1:{page_port}",
        "PYTHONUNBUFFERED": "1",
    }


def _migrate(env: Mapping[str, str], *options: str) -> None:
    applied = run_command([*MANAGE, "migrate", "--no-color", *options], env=env).count("  Applying ")
    if applied:
        say(f"Applied {applied} migrations.")


def _admin(env: Mapping[str, str]) -> str:
    """Create the admin account at the first start. Returns a text with its name and password.

    A file in .local/ contains the password.
    """
    file, password = LOCAL / "admin-password", secrets.token_urlsafe(12)
    if not file.exists():
        create = [*MANAGE, "createsuperuser", "--skip-checks", "--noinput"]
        create += ["--username=admin", "--email=admin@example.com"]
        run_command(create, env={**env, "DJANGO_SUPERUSER_PASSWORD": password})
        write_private(file, password)
    return f"user admin, password {file.read_text()}"


def _write_environment(env: Mapping[str, str], given: Mapping[str, str]) -> None:
    """Write the variables to .local/env, for manage.py in another terminal: ``. .local/env``."""
    ours = (f"export {name}={shlex.quote(value)}\n" for name, value in env.items() if name not in given)
    write_private(LOCAL / "env", "".join(ours))


def _wait_for_exit(children: Mapping[str, Popen[str]]) -> None:
    while True:
        for name, process in children.items():
            if process.poll() is not None:
                say("", f"{name} {describe_exit(process)}, so all other parts were stopped too.")
                status = process.returncode
                sys.exit(128 - status if status < 0 else status or 1)
        time.sleep(0.2)


if __name__ == "__main__":
    main(*sys.argv[1:])
