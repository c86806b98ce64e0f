"""A server deployed as docs/deployment.md says: systemd unit, database role, cache, proxies and log."""

import configparser
import gzip
import os
import re
import shlex
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psycopg
import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.contrib.auth.models import User as Staff
from django.db import connection
from pytest_django import DjangoDbBlocker

from authn.models import Session, User
from chatbackend.dev.processes import free_port, server
from support.assistant import dictation
from support.chat import streaming
from support.conf import conf
from tests.fixtures import programs
from tests.fixtures.accounts.people import Person
from tests.fixtures.code_blocks import TOP, blocks
from tests.fixtures.environment import process_environment
from tests.fixtures.servers.api import Api, arrive_one_by_one, create, eventually
from tests.fixtures.servers.forkserver import uvicorn

HOST = "api.example.com"
NAME_AND_PASSWORD = "chatbackend_server:another-password-of-its-own"
PAGE = (TOP / "docs/deployment.md").read_text()

[UNIT] = blocks("test_deployment.py", "ini")
[ROLE] = blocks("test_deployment.py", "sql")
[NGINX, INNER_NGINX] = blocks("test_deployment.py", "nginx")
[CADDY] = blocks("test_deployment.py", "caddy")
[LOGROTATE] = blocks("test_deployment.py", "logrotate")


def unit() -> configparser.SectionProxy:
    parser = configparser.RawConfigParser()
    parser.read_string(UNIT.text)
    return parser["Service"]


@pytest.fixture(scope="module")
def deployed(
    auth: Any, database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """The server, started with the unit's command, the page's variables and the page's database role."""
    with psycopg.connect(database_url) as database:
        database.execute(ROLE.text)
    documented = dict(
        re.findall(r"^(NUM_PROXIES|TRUST_X_FORWARDED_PROTO|PUBLIC_URL)=(.*)$", PAGE, re.MULTILINE)
    )
    env = process_environment(
        **documented,
        ALLOWED_HOSTS=HOST,
        BETTER_AUTH_DATABASE_URL=database_url,
        CACHE_URL=redis_url,
        DATABASE_URL=as_role(database_url),
        SECURE_SSL_REDIRECT="True",
    )
    program, *arguments = shlex.split(unit()["ExecStart"])
    port, log = free_port(), tmp_path_factory.mktemp("deployed") / "log"
    arguments[arguments.index("--port") + 1] = str(port)
    assert program.endswith("/uvicorn")
    with uvicorn(arguments, env, port, log):
        yield Api(f"http://127.0.0.1:{port}", log)


def as_role(database_url: str) -> str:
    address = urlsplit(database_url)
    return address._replace(netloc=f"{NAME_AND_PASSWORD}@{address.netloc.rpartition('@')[2]}").geturl()


# --- The process ----------------------------------------------------------------------------------


def test_the_unit_gives_the_server_enough_time_to_shut_down() -> None:
    arguments = shlex.split(unit()["ExecStart"])
    uvicorn_seconds = int(arguments[arguments.index("--timeout-graceful-shutdown") + 1])

    assert int(unit()["TimeoutStopSec"]) > uvicorn_seconds + streaming.SHUTDOWN_TIMEOUT_SECONDS


def test_a_request_that_did_not_come_over_https_is_redirected(deployed: Api) -> None:
    answer = httpx2.get(f"{deployed.origin}/support/health", headers={"Host": HOST}, verify=False)

    assert (answer.status_code, answer.headers["Location"]) == (301, f"https://{HOST}/support/health")


def test_throttles_are_counted_in_the_cache_that_replicas_share(
    deployed: Api, person: Person, redis_url: str
) -> None:
    deployed.post(create(), person.token(), Host=HOST, X_Forwarded_Proto="https")

    with closing(redis.Redis.from_url(redis_url)) as cache:
        assert cache.keys(f"*throttle*{person.user_id}*")


# --- The proxy ------------------------------------------------------------------------------------


@contextmanager
def nginx(port: int, api: Api, folder: Path) -> Iterator[None]:
    self_signed(folder / f"{HOST}.pem", folder / f"{HOST}.key")
    block = NGINX.text.replace("listen 443", f"listen 127.0.0.1:{port}")
    block = block.replace("/etc/ssl", str(folder)).replace("http://127.0.0.1:8000", api.origin)
    with programs.nginx(folder, block, port):
        yield


@contextmanager
def caddy(port: int, api: Api, folder: Path) -> Iterator[None]:
    locally = "{\n admin off\n local_certs\n skip_install_trust\n auto_https disable_redirects\n}\n"
    block = CADDY.text.replace(f"{HOST} {{", f"https://{HOST}:{port} {{\n    bind 127.0.0.1")
    (folder / "Caddyfile").write_text(locally + block.replace("127.0.0.1:8000", urlsplit(api.origin).netloc))
    options = ["--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    command = [programs.program("caddy"), "run", *options]
    env = os.environ | {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with server("caddy", command, env, port, "/", show=False):
        eventually(lambda: has_its_certificate(port), bool)
        yield


def has_its_certificate(port: int) -> bool:
    """Caddy accepts connections before its own authority has issued the certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as plain:
        context.wrap_socket(plain, server_hostname=HOST).close()
        return True
    return False


def self_signed(certificate: Path, key: Path) -> None:
    private, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    builder = x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    pem = serialization.Encoding.PEM
    certificate.write_bytes(builder.sign(private, hashes.SHA256()).public_bytes(pem))
    key.write_bytes(
        private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@pytest.fixture(scope="module", params=[nginx, caddy], ids=lambda proxy: proxy.__name__)
def proxy(
    request: pytest.FixtureRequest, deployed: Api, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx2.Client]:
    """A client at another address of this machine.

    It sends its requests through the proxy, with forged headers.
    """
    port = free_port()
    other_address = httpx2.HTTPTransport(verify=False, local_address="127.0.0.2")
    headers = {"Host": HOST, "X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "http"}
    with (
        request.param(port, deployed, tmp_path_factory.mktemp("proxy")),
        httpx2.Client(
            base_url=f"https://127.0.0.1:{port}", transport=other_address, headers=headers
        ) as client,
    ):
        yield client


def stream_through(proxy: httpx2.Client, person: Person, request_id: str = "") -> Any:
    headers = {"Authorization": f"Bearer {person.token()}", "X-Request-ID": request_id}
    extensions = {"sni_hostname": HOST}
    return proxy.stream("POST", "/support/chatkit", json=create(), headers=headers, extensions=extensions)


def test_the_proxy_passes_on_events_one_by_one(proxy: httpx2.Client, person: Person) -> None:
    sent = time.monotonic()
    with stream_through(proxy, person) as response:
        arrivals = [time.monotonic() for line in response.iter_lines() if line]

    assert response.status_code == 200
    assert arrive_one_by_one(arrivals, sent)


def test_the_audit_log_has_the_callers_address_and_not_the_forged_one(
    proxy: httpx2.Client, deployed: Api, person: Person
) -> None:
    request_id = str(uuid.uuid4())

    with stream_through(proxy, person, request_id) as response:
        response.read()

    [record] = deployed.audit_records(request_id)
    assert record["client_address"] == "127.0.0.2"


@pytest.mark.parametrize("block", [NGINX, CADDY], ids=lambda block: block.language)
def test_the_proxys_body_limit_is_just_above_the_longest_body(block: Any) -> None:
    longest = max(dictation.MAX_BODY_BYTES, conf.ATTACHMENT_MAX_BYTES)

    [limit] = re.findall(r"size (\d+)m", block.text, re.IGNORECASE)

    assert longest < int(limit) * 1_000_000 < 1.1 * longest


# --- The role -------------------------------------------------------------------------------------


def test_the_role_may_use_exactly_the_tables_and_sequences_that_the_server_needs(
    deployed: Api, database_url: str
) -> None:
    """``migrate`` alone writes the tables in ``read`` and ``untouched``."""
    read, untouched = {"auth_permission", "django_content_type"}, {"django_migrations"}
    better_auths = {"user", "session", "account", "verification", "jwks"}
    with psycopg.connect(database_url) as database:
        tables, sequences = ({name for (name,) in database.execute(RELATIONS, [kind])} for kind in ("r", "S"))

    writes, reads, counts = re.findall(
        r"^GRANT (?:SELECT|USAGE)[A-Z, ]* ON\s+(\w+_[\w,\s]*) TO", ROLE.text, re.MULTILINE
    )
    assert set(re.findall(r"\w+", writes)) == tables - better_auths - read - untouched
    assert set(re.findall(r"\w+", reads)) == read
    assert set(re.findall(r"\w+", counts)) == sequences - {f"{name}_id_seq" for name in read | untouched}


RELATIONS = "SELECT relname FROM pg_class WHERE relkind = %s AND relnamespace = 'public'::regnamespace"


def test_staff_can_sign_in_to_the_admin_with_this_role(
    deployed: Api, django_db_blocker: DjangoDbBlocker
) -> None:
    with django_db_blocker.unblock():
        Staff.objects.create_superuser("deployed", password=NAME_AND_PASSWORD)
        connection.close()
    headers = {"Host": HOST, "X-Forwarded-Proto": "https", "Referer": f"https://{HOST}/"}
    with httpx2.Client(base_url=f"{deployed.origin}/admin/", headers=headers, verify=False) as browser:
        token = browser.get("login/").cookies["csrftoken"]
        form = {"username": "deployed", "password": NAME_AND_PASSWORD, "csrfmiddlewaretoken": token}
        response = browser.post("login/", data=form, headers={"Cookie": f"csrftoken={token}"})
        cookie = {"Cookie": f"sessionid={response.cookies['sessionid']}"}
        page = browser.get("support/thread/", headers=cookie)

    assert response.status_code == 302
    assert page.status_code == 200


def test_the_page_explains_every_permission_that_the_admin_checks() -> None:
    explained = re.findall(
        r"^\| ([^|]*) \|", PAGE.partition("| permission |")[2].partition("\n\n")[0], re.MULTILINE
    )
    own = {f"authn.{name}" for model in (User, Session) for name in dict(model._meta.permissions)}
    viewing = {"authn.view_user", "authn.view_session", "support.view_thread"}

    assert set(re.findall(r"`([\w.]+)`", " ".join(explained))) == own | viewing | {"support.delete_thread"}


@pytest.mark.parametrize(
    "statement",
    [
        'SELECT id FROM "user"',
        'SELECT "privateKey" FROM jwks',
        "SELECT name FROM django_migrations",
        "TRUNCATE support_thread",
        "DROP TABLE support_feedback",
        "ALTER TABLE support_thread ADD COLUMN more int",
        "CREATE TABLE mine (id int)",
    ],
)
@pytest.mark.usefixtures("deployed")
def test_the_role_may_do_nothing_else(database_url: str, statement: str) -> None:
    with (
        psycopg.connect(as_role(database_url)) as database,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        database.execute(statement)


# --- The log --------------------------------------------------------------------------------------


def test_logrotate_keeps_the_log_of_thirty_days(tmp_path: Path) -> None:
    program = programs.program("logrotate")
    log, rules = tmp_path / "log", tmp_path / "rules"
    rules.write_text(LOGROTATE.text.replace("/var/log/chatbackend", str(tmp_path)))
    rules.chmod(0o644)

    with log.open("a", buffering=1) as server_log:  # it stays open, as the server's own does
        for day in range(1, 41):
            server_log.write(f"day {day}\n")
            if day < 40:
                subprocess.run(
                    [program, "--force", "--state", str(tmp_path / "state"), str(rules)], check=True
                )

    rotated = [gzip.decompress(file.read_bytes()).decode() for file in tmp_path.glob("log.*.gz")]
    assert sorted([*rotated, log.read_text()]) == sorted(f"day {day}\n" for day in range(11, 41))
