"""System checks: which setting causes which message, and valid settings cause none."""

import json
import logging
import sys
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.core.checks import ERROR, WARNING, CheckMessage, run_checks

from authn.diagnosis.checks import check_settings, project, tables
from chatbackend.settings import database
from tests.fixtures.accounts.signer import Signer
from tests.fixtures.environment import ATTACHMENT_DIRECTORY

SECONDS = [
    "BETTER_AUTH_LEEWAY_SECONDS",
    "BETTER_AUTH_MAX_TOKEN_LIFETIME_SECONDS",
    "BETTER_AUTH_KEYS_TTL_SECONDS",
]

A_PUBLIC_KEY = Signer.unknown("ES256")
PUBLIC_KEYS = [
    A_PUBLIC_KEY.private_key.public_key().public_bytes(*form).decode()
    for form in [
        (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        (Encoding.OpenSSH, PublicFormat.OpenSSH),
    ]
] + [json.dumps(A_PUBLIC_KEY.public_jwk())]


CANNOT_COUNT = ["filebased.FileBasedCache", "db.DatabaseCache", "dummy.DummyCache"]


def named(backend: str) -> dict[str, Any]:
    # The file cache creates its directory, so use one that is deleted after the run.
    location = ATTACHMENT_DIRECTORY if backend.startswith("filebased") else "redis://127.0.0.1:9"
    return {"default": {"BACKEND": f"django.core.cache.backends.{backend}", "LOCATION": location}}


COUNTERS = named("db.DatabaseCache") | {"counters": named("locmem.LocMemCache")["default"]}
ROUTER = "authn.tables.routers.BetterAuthRouter"
WRITES_ANYWHERE = "tests.authn.diagnosis.test_checks.WritesAnywhere"


class WritesAnywhere:
    """A team's own router."""

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"


def findings() -> list[CheckMessage]:
    """The messages of this app from ``manage.py check``."""
    return [message for message in run_checks() if (message.id or "").startswith("authn.")]


def test_the_settings_of_the_tests_are_valid() -> None:
    assert findings() == []


@pytest.mark.parametrize(
    "good",
    [
        {"BETTER_AUTH_URL": "https://auth.example.com/api/auth"},
        {"BETTER_AUTH_KEYS": "jwks", "BETTER_AUTH_URL": "https://auth.example.com"},
        {"BETTER_AUTH_KEYS": "jwks", "BETTER_AUTH_JWKS_PRIVATE": True},
        {"BETTER_AUTH_KEYS": "jwks", "BETTER_AUTH_JWKS_URL": "https://keys.example/jwks.json"},
        {"BETTER_AUTH_ALGORITHMS": ["EdDSA"]},
        {"BETTER_AUTH_ALGORITHMS": ["ES384", "PS512", "RS384"]},
        {"BETTER_AUTH_LEEWAY_SECONDS": 0.0},
        {"BETTER_AUTH_KEYS_TTL_SECONDS": 0.5, "BETTER_AUTH_MAX_TOKEN_LIFETIME_SECONDS": 86_400.0},
        {"BETTER_AUTH_KEYS": "secret", "BETTER_AUTH_SECRET": "s" * 32},
        {"BETTER_AUTH_KEYS": "secret", "BETTER_AUTH_SECRET": "s" * 32, "BETTER_AUTH_ALGORITHMS": ["HS256"]},
        {"BETTER_AUTH_PLUGINS": ["admin", "anonymous", "organization", "two-factor"]},
        {"BETTER_AUTH_NAMING": "snake"},
        {"BETTER_AUTH_TABLES": {"user": "users", "session": "auth.sessions", "jwks": "jwkss"}},
        {"BETTER_AUTH_COLUMNS": {"session.token": "secret_token"}},
        {"BETTER_AUTH_CREDENTIALS": ["cookie", "bearer"], "BETTER_AUTH_SECRET": "of Better Auth"},
        {"BETTER_AUTH_CREDENTIALS": ["cookie"], "BETTER_AUTH_SECRETS": "2: new ,1:old"},
        {"BETTER_AUTH_SESSION_SOURCE": "redis://:password@localhost:6379/1"},
        {"BETTER_AUTH_SESSION_SOURCE": "rediss://user:password@redis.example.com"},
        {"BETTER_AUTH_SESSION_SOURCE": "unix:///run/redis.sock?db=1"},
        {"BETTER_AUTH_COOKIE_NAME": "__Secure-acme.session_token"},
        {"BETTER_AUTH_COLUMNS": {"user.emailVerified": "verified", "jwks.publicKey": "public"}},
        {"BETTER_AUTH_COLUMNS": {"jwks.alg": "", "jwks.expiresAt": ""}},
        {"CACHES": named("locmem.LocMemCache")},
        {"CACHES": named("redis.RedisCache")},
        {"CACHES": COUNTERS, "BETTER_AUTH_CACHE": "counters"},
        {"BETTER_AUTH_REALM": "the shop's API (v2)"},
        {"BETTER_AUTH_REALM": ""},
    ],
    ids=str,
)
def test_valid_settings_give_no_message(settings: Any, good: dict[str, Any]) -> None:
    for name, value in good.items():
        setattr(settings, name, value)

    assert findings() == []


@pytest.mark.parametrize(
    ("bad", "check_id", "setting"),
    [
        ({"BETTER_AUTH_URL": ""}, "authn.E001", "BETTER_AUTH_URL"),
        ({"BETTER_AUTH_URL": "auth.example.com"}, "authn.E001", "BETTER_AUTH_URL"),
        ({"BETTER_AUTH_URL": "https://auth.example.com:port"}, "authn.E001", "BETTER_AUTH_URL"),
        ({"BETTER_AUTH_URL": "https://auth.example.com "}, "authn.E001", "BETTER_AUTH_URL"),
        ({"BETTER_AUTH_KEYS": "file"}, "authn.E002", "BETTER_AUTH_KEYS"),
        ({"BETTER_AUTH_KEYS": ""}, "authn.E002", "BETTER_AUTH_KEYS"),
        (
            {"BETTER_AUTH_KEYS": "jwks", "BETTER_AUTH_JWKS_URL": "file:///etc/jwks.json"},
            "authn.E003",
            "BETTER_AUTH_JWKS_URL",
        ),
        ({"BETTER_AUTH_KEYS": "jwks"}, "authn.E013", "BETTER_AUTH_JWKS_URL"),
        ({"BETTER_AUTH_KEYS": "secret", "BETTER_AUTH_SECRET": ""}, "authn.E007", "BETTER_AUTH_SECRET"),
        ({"BETTER_AUTH_KEYS": "secret", "BETTER_AUTH_SECRET": "s" * 31}, "authn.E007", "BETTER_AUTH_SECRET"),
        *[
            ({"BETTER_AUTH_KEYS": "secret", "BETTER_AUTH_SECRET": key}, "authn.E007", "BETTER_AUTH_SECRET")
            for key in PUBLIC_KEYS
        ],
        (
            {
                "BETTER_AUTH_KEYS": "secret",
                "BETTER_AUTH_SECRET": "s" * 32,
                "BETTER_AUTH_ALGORITHMS": ["HS256", "EdDSA"],
            },
            "authn.E004",
            "BETTER_AUTH_ALGORITHMS",
        ),
        ({"BETTER_AUTH_ALGORITHMS": ["HS256"]}, "authn.E004", "BETTER_AUTH_ALGORITHMS"),
        ({"BETTER_AUTH_ALGORITHMS": ["EdDSA", "HS256"]}, "authn.E004", "BETTER_AUTH_ALGORITHMS"),
        ({"BETTER_AUTH_ALGORITHMS": ["none"]}, "authn.E004", "BETTER_AUTH_ALGORITHMS"),
        ({"BETTER_AUTH_ALGORITHMS": ["eddsa"]}, "authn.E004", "BETTER_AUTH_ALGORITHMS"),
        ({"BETTER_AUTH_ALGORITHMS": "EdDSA"}, "authn.E004", "BETTER_AUTH_ALGORITHMS"),
        ({"BETTER_AUTH_LEEWAY_SECONDS": -1.0}, "authn.E005", "BETTER_AUTH_LEEWAY_SECONDS"),
        ({"BETTER_AUTH_LEEWAY_SECONDS": 301.0}, "authn.E005", "BETTER_AUTH_LEEWAY_SECONDS"),
        *[({name: 1e11}, "authn.E005", name) for name in SECONDS],
        *[({name: -0.5}, "authn.E005", name) for name in SECONDS],
        *[({name: 0.0}, "authn.E005", name) for name in SECONDS[1:]],
        *[({name: float("nan")}, "authn.E005", name) for name in SECONDS],
        *[({name: float("inf")}, "authn.E005", name) for name in SECONDS],
        ({"BETTER_AUTH_PLUGINS": ["admin", "passkey"]}, "authn.E006", "BETTER_AUTH_PLUGINS"),
        ({"BETTER_AUTH_PLUGINS": [""]}, "authn.E006", "BETTER_AUTH_PLUGINS"),
        ({"BETTER_AUTH_NAMING": "pascal"}, "authn.E008", "BETTER_AUTH_NAMING"),
        ({"BETTER_AUTH_TABLES": {"account": "accounts"}}, "authn.E009", "BETTER_AUTH_TABLES"),
        ({"BETTER_AUTH_TABLES": {"user": ""}}, "authn.E009", "BETTER_AUTH_TABLES"),
        ({"BETTER_AUTH_TABLES": {"user": '"users"'}}, "authn.E009", "BETTER_AUTH_TABLES"),
        ({"BETTER_AUTH_COLUMNS": {"account.password": "secret"}}, "authn.E009", "BETTER_AUTH_COLUMNS"),
        ({"BETTER_AUTH_COLUMNS": {"session.expiresAt": ""}}, "authn.E009", "BETTER_AUTH_COLUMNS"),
        ({"BETTER_AUTH_COLUMNS": {"expiresAt": "until"}}, "authn.E009", "BETTER_AUTH_COLUMNS"),
        *[({"CACHES": named(backend)}, "authn.E016", "CACHE_URL") for backend in CANNOT_COUNT],
        ({"BETTER_AUTH_CACHE": "counters"}, "authn.E016", "BETTER_AUTH_CACHE"),
        ({"BETTER_AUTH_REALM": 'my "shop"'}, "authn.E026", "BETTER_AUTH_REALM"),
        ({"BETTER_AUTH_REALM": "shop\r\nSet-Cookie: a=b"}, "authn.E026", "BETTER_AUTH_REALM"),
        ({"BETTER_AUTH_DATABASE": "missing"}, "authn.E028", "BETTER_AUTH_DATABASE"),
        ({"DATABASE_ROUTERS": []}, "authn.E029", "DATABASE_ROUTERS"),
        ({"DATABASE_ROUTERS": [WRITES_ANYWHERE, ROUTER]}, "authn.E029", "DATABASE_ROUTERS"),
        ({"USE_TZ": False}, "authn.E030", "USE_TZ"),
        *[
            ({"BETTER_AUTH_CREDENTIALS": listed}, "authn.E020", "BETTER_AUTH_CREDENTIALS")
            for listed in ([], [""], ["JWT"], ["jwt", "session"], ["jwt", "jwt"])
        ],
        ({"BETTER_AUTH_CREDENTIALS": ["jwt", "cookie"]}, "authn.E021", "BETTER_AUTH_SECRET"),
        ({"BETTER_AUTH_CREDENTIALS": ["bearer"]}, "authn.E021", "BETTER_AUTH_SECRET"),
        *[
            ({"BETTER_AUTH_SECRETS": given}, "authn.E022", "BETTER_AUTH_SECRETS")
            for given in ("secret", "v2:secret", "2:", "2: ,1:old", ",1:old")
        ],
        *[
            ({"BETTER_AUTH_SESSION_SOURCE": source}, "authn.E023", "BETTER_AUTH_SESSION_SOURCE")
            for source in (
                "",
                "redis",
                "redis://h:port/0",
                "http://localhost:6379",
                "file:///x",
                "REDIS://h",
                "redis://h?x=1",
            )
        ],
        *[
            ({"BETTER_AUTH_COOKIE_NAME": name}, "authn.E024", "BETTER_AUTH_COOKIE_NAME")
            for name in ("", "__Secure-", "session token", "sid;", "sid=", "sïd")
        ],
    ],
    ids=lambda value: str(value)[:60],  # the same in every process; the public keys are not
)
def test_a_bad_setting_is_an_error_that_names_the_setting_and_has_a_hint(
    settings: Any, bad: dict[str, Any], check_id: str, setting: str
) -> None:
    for name, value in bad.items():
        setattr(settings, name, value)

    (finding,) = findings()

    assert (finding.id, finding.level) == (check_id, ERROR)
    assert setting in finding.msg
    assert finding.hint


@pytest.mark.parametrize(
    "garbage",
    [
        "garbage",
        "mysql://reader:hush@localhost/name",
        "postgress://reader:hush@localhost/name",
        "postgresql://reader:hush@localhost:port/name",
        "postgresql://localhost",
        "https://auth.example.com/db",
    ],
)
def test_an_invalid_database_url_is_an_error_that_hides_its_password(
    settings: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], garbage: str
) -> None:
    monkeypatch.setenv("BETTER_AUTH_DATABASE_URL", garbage)
    monkeypatch.setitem(settings.DATABASES, "better_auth", database("BETTER_AUTH_DATABASE_URL"))
    settings.BETTER_AUTH_DATABASE = "better_auth"

    found = [finding for finding in findings() if finding.id == "authn.E011"]

    assert "BETTER_AUTH_DATABASE_URL" in found[0].msg
    assert "hush" not in f"{found}{capfd.readouterr()}"


@pytest.mark.parametrize("zone", ["", "Asia/Calcuta", "+05:30", "../../etc/passwd", "x" * 5000])
def test_an_invalid_time_zone_is_an_error(settings: Any, monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    monkeypatch.setitem(settings.DATABASES, "better_auth", {"TIME_ZONE": zone})
    settings.BETTER_AUTH_DATABASE = "better_auth"

    assert "authn.E010" in [finding.id for finding in findings()]


def test_an_unknown_plugin_is_named(settings: Any) -> None:
    settings.BETTER_AUTH_PLUGINS = ["passkey", "admin", "api-key"]

    (finding,) = findings()

    assert "api-key, passkey." in finding.msg


@pytest.mark.parametrize(
    ("package", "extra", "needs_it"),
    [
        ("redis", "redis", {"BETTER_AUTH_SESSION_SOURCE": "redis://localhost"}),
        ("httpx2", "jwks", {"BETTER_AUTH_KEYS": "jwks", "BETTER_AUTH_JWKS_PRIVATE": True}),
    ],
)
def test_a_missing_package_is_an_error_only_if_a_setting_needs_it(
    settings: Any, monkeypatch: pytest.MonkeyPatch, package: str, extra: str, needs_it: dict[str, Any]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    before = findings()
    for name, value in needs_it.items():
        setattr(settings, name, value)

    (finding,) = findings()

    assert before == []
    assert (finding.id, finding.level) == ("authn.E027", ERROR)
    assert finding.hint == f'pip install "chatbackend[{extra}]"'


@pytest.mark.parametrize("fault", ["level", "disabled"])
def test_a_logging_setting_that_drops_the_audit_log_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    logger = logging.getLogger("authn.audit")
    monkeypatch.setattr(logger, fault, logging.WARNING if fault == "level" else True)

    (finding,) = findings()

    assert (finding.id, finding.level) == ("authn.W003", WARNING)
    assert '"authn.audit": {"level": "INFO"}' in (finding.hint or "")


@pytest.mark.parametrize(
    ("engine", "expected"),
    [("django.contrib.gis.db.backends.postgis", []), ("django.db.backends.dummy", ["authn.E011"])],
)
def test_the_kind_of_the_database_decides_and_not_the_name_of_its_engine(
    settings: Any, monkeypatch: pytest.MonkeyPatch, engine: str, expected: list[str]
) -> None:
    class Backend:
        vendor = "postgresql" if "postgis" in engine else "unknown"

    monkeypatch.setitem(settings.DATABASES, "better_auth", {"ENGINE": engine, "NAME": "shop"})
    monkeypatch.setattr(tables, "connections", {"better_auth": Backend()})
    settings.BETTER_AUTH_DATABASE = "better_auth"

    assert [finding.id for finding in findings()] == expected


def test_a_project_without_djangos_accounts_needs_a_setting_of_drf(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project.apps, "is_installed", lambda name: name != "django.contrib.auth")
    before = [message.id for message in check_settings()]

    settings.REST_FRAMEWORK = {}

    assert (before, [message.id for message in check_settings()]) == ([], ["authn.E032"])
