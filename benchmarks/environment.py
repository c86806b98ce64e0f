"""The environment of a measurement: a database, a substitute for Better Auth, and one server at a time."""

import os
import secrets
import sys
import venv
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distributions
from pathlib import Path
from threading import Thread

from benchmarks import data
from benchmarks.credentials import Credentials, Issuer
from benchmarks.measuring import machine
from benchmarks.measuring.client import create
from benchmarks.servers.pgbouncer import pgbouncer, prepared_statements
from benchmarks.targets import Target
from chatbackend.dev.frontend import node_and_npm
from chatbackend.dev.postgres import create_database, postgres_process
from chatbackend.dev.processes import (
    TOP,
    StartError,
    child,
    free_port,
    run_command,
    say,
    wait_until,
    wait_until_it_answers,
)

FOLDER = TOP / ".local/benchmarks"
REQUIREMENTS = TOP / "benchmarks/requirements.txt"
PEOPLE = 1000  # users who send requests in turn
PATH = "/support/chatkit"
LIST = '{"type": "threads.list", "params": {"limit": 20}}'

# The same options for all servers. uvicorn uses uvloop and httptools if they are installed.
UVICORN = "-m uvicorn {} --host 127.0.0.1 --port {} --workers {} --ws none --no-access-log"
STARTED = "Application startup complete"  # uvicorn prints this for each worker


@contextmanager
def prepare(users: int, sessions: int, database_url: str = "") -> Iterator["Environment"]:
    """Create what is missing. ``database_url``: an empty database to use instead of a local PostgreSQL."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        pid = None
        if not database_url:
            process, url = stack.enter_context(postgres_process(FOLDER / "postgres"))
            pid, database_url = process.pid, create_database(url, f"users_{users}_sessions_{sessions}")
        data.build(database_url, users, sessions)
        population = data.population(database_url, PEOPLE)
        origin = stack.enter_context(_serve_jwks(population.jwks))
        yield Environment(database_url, Issuer(origin, secrets.token_urlsafe(32), population), pid)


def peers_python() -> str:
    """The Python of the peers' virtual environment. Packages that we use too have our versions in it."""
    folder = FOLDER / "peers"
    python, installed = folder / "bin/python", folder / ".installed"
    if not installed.exists() or installed.stat().st_mtime < REQUIREMENTS.stat().st_mtime:
        say("Installing the peers' packages …")
        venv.create(folder, clear=True, with_pip=True)
        constraints = folder / "constraints.txt"
        constraints.write_text("".join(f"{each.name}=={each.version}\n" for each in distributions()))
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run_command([*pip, "-r", str(REQUIREMENTS), "-c", str(constraints)])
        installed.touch()
    return str(python)


@dataclass(frozen=True, slots=True)
class Environment:
    """``postgres_pid``: the process of the local PostgreSQL, if it is used."""

    database_url: str
    issuer: Issuer
    postgres_pid: int | None

    def reserve_cores(self, target: Target) -> set[int]:
        """Move the database, this process and its clients to other cores; return the target's cores."""
        cores, others = machine.split(target.cores)
        for pid in filter(None, (self.postgres_pid, os.getpid())):
            machine.pin(pid, others)
        return cores

    @contextmanager
    def running(self, target: Target) -> Iterator["Server"]:
        """Run a new server with fresh credentials and without earlier conversations."""
        data.reset_chats(self.database_url, self.issuer.population)
        credentials = self.issuer.credentials(target.credential)
        tokens, log, port = FOLDER / f"{target.name}.txt", FOLDER / f"{target.name}.log", free_port()
        tokens.write_text("".join(f"{line}\n" for line in credentials.good))
        cores, command = self.reserve_cores(target), self._command(target, port)
        with (
            log.open("w") as output,
            pgbouncer(self.database_url) if target.is_pooled else nullcontext("") as pooled_url,
            child(command, env=self._env(target, port, pooled_url), cwd=TOP, stdout=output) as process,
        ):
            wait_until_it_answers(process, port, PATH, target.name, log.read_text)
            if target.workers > 1:  # only one of them has answered until now
                started = lambda: log.read_text().count(STARTED) == target.workers  # noqa: E731
                wait_until(started, process, target.name, log.read_text)
            machine.pin(process.pid, cores)
            yield Server(target, process.pid, port, log, tokens, credentials)
            if pooled_url and (count := prepared_statements(pooled_url)):
                raise StartError(f"{target.name} has prepared {count} statements in PgBouncer's connections.")

    def _command(self, target: Target, port: int) -> list[str]:
        if "/" in target.application:
            return [*node_and_npm()[0], f"{target.application}/server.mjs"]
        python = sys.executable if target.is_ours else peers_python()
        return [python, *UVICORN.format(target.application, port, target.workers).split()]

    def _env(self, target: Target, port: int, pooled_url: str) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "PORT": str(port),
            "PUBLIC_URL": f"http://127.0.0.1:{port}",
            "DATABASE_URL": pooled_url or self.database_url,
            "BETTER_AUTH_URL": self.issuer.origin,
            "BETTER_AUTH_SECRET": self.issuer.secret,
            **target.env,
        }


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. ``log``: its output. ``tokens``: a file with the good credentials, one a line."""

    target: Target
    pid: int
    port: int
    log: Path
    tokens: Path
    credentials: Credentials

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}"

    def status(self, credential: str, body: str = LIST, timeout: float = 30) -> int:
        """The status of one request; 0 if there is no answer in time."""
        name, _, value = credential.partition(": ")
        connection = HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("POST", PATH, body, {name: value, "Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
        except (OSError, HTTPException):
            return 0
        finally:
            connection.close()
        return response.status

    def is_stalled(self) -> bool:
        return not self.status(self.credentials.good[0], timeout=5)

    def wrongly_accepted(self) -> list[str]:
        """The bad credentials that it accepts. ``StartError`` if it refuses a good one."""
        bodies = [LIST, create(1, 0)] if "stream" in self.target.cases else [LIST]
        for body in bodies:
            if (status := self.status(self.credentials.good[0], body)) != 200:
                raise StartError(f"{self.target.name} answers {status}:\n{self.log.read_text()[-2000:]}")
        if self.target.credential == "none":
            return ["everybody"]
        return [why for why, credential in self.credentials.bad.items() if 0 < self.status(credential) < 400]


@contextmanager
def _serve_jwks(jwks: bytes) -> Iterator[str]:
    """Answer every GET with the keys, as Better Auth's /api/auth/jwks; yields the origin."""

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(jwks)))
            self.end_headers()
            self.wfile.write(jwks)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Keys) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
