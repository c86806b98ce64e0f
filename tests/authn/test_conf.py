"""Settings: which defaults follow from BETTER_AUTH_URL, and which settings are read."""

import os
import runpy
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

import authn.conf
import support.conf
from authn.conf import conf, origin
from tests.fixtures.code_blocks import TOP

# The first rows come from a real Better Auth: its baseURL, and the iss and aud of its tokens.
ORIGINS = {
    "http://127.0.0.1:3910": "http://127.0.0.1:3910",
    "http://127.0.0.1:3910/": "http://127.0.0.1:3910",
    "http://127.0.0.1:3910/api/auth": "http://127.0.0.1:3910",
    "http://127.0.0.1:3910/x/y": "http://127.0.0.1:3910",
    "https://AUTH.Example.com:443/": "https://auth.example.com",
    "http://auth.example.com:80": "http://auth.example.com",
    "https://auth.example.com:80": "https://auth.example.com:80",
    "http://auth.example.com:443": "http://auth.example.com:443",
    "HTTPS://auth.example.com": "https://auth.example.com",
    "https://auth.example.com:": "https://auth.example.com",
    "https://auth.example.com?next=/#top": "https://auth.example.com",
    "https://user:password@auth.example.com/": "https://auth.example.com",
    "http://better_auth:3000": "http://better_auth:3000",
    "https://xn--bcher-kva.example": "https://xn--bcher-kva.example",
    "http://[::1]:3910/api/auth": "http://[::1]:3910",
    "https://[2001:DB8::1]": "https://[2001:db8::1]",
    "https://[::ffff:10.0.0.1]:443": "https://[::ffff:10.0.0.1]",
}

NO_ORIGINS = [
    "",
    "auth.example.com",
    "localhost:3000",
    "//auth.example.com",
    "/api/auth",
    "ftp://auth.example.com",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "http://",
    "http://:3000",
    "https:///api/auth",
    "https:auth.example.com",
    "https://auth.example.com:port",
    "https://auth.example.com:-1",
    "https://auth.example.com:65536",
    "https://[::1",
    "https://::1]",
    "https://[auth.example.com]",
    "https://[fe80::1%25eth0]",
    "https://auth.example.com ",
    "https://auth example.com",
    "https://auth.example.com\0.evil.example",
    "https://*.example.com",
    "https://bücher.example",  # Better Auth writes it as xn--bcher-kva: a token's iss would never match
    "https://a,https://b",
]


@pytest.mark.parametrize(("url", "expected"), ORIGINS.items())
def test_an_origin_is_normalized_as_in_better_auth(url: str, expected: str) -> None:
    assert origin(url) == expected
    assert origin(expected) == expected


@pytest.mark.parametrize("url", NO_ORIGINS, ids=repr)
def test_a_value_that_is_not_a_web_url_has_no_origin(url: str) -> None:
    assert origin(url) == ""


def test_issuer_audience_and_jwks_url_follow_from_better_auths_url(settings: Any) -> None:
    settings.BETTER_AUTH_URL = "https://AUTH.example.com/api/auth"

    assert conf.BETTER_AUTH_ISSUER == "https://auth.example.com"
    assert conf.BETTER_AUTH_AUDIENCE == ["https://auth.example.com"]
    assert conf.BETTER_AUTH_JWKS_URL == "https://auth.example.com/api/auth/jwks"


def test_a_configured_value_is_used_unchanged(settings: Any) -> None:
    settings.BETTER_AUTH_ISSUER = "https://Issuer.example/"
    settings.BETTER_AUTH_AUDIENCE = ["chat", "support"]
    settings.BETTER_AUTH_JWKS_URL = "https://keys.example/.well-known/jwks.json"

    assert conf.BETTER_AUTH_ISSUER == "https://Issuer.example/"
    assert conf.BETTER_AUTH_AUDIENCE == ["chat", "support"]
    assert conf.BETTER_AUTH_JWKS_URL == "https://keys.example/.well-known/jwks.json"


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("BETTER_AUTH_KEYS", "database"),
        ("BETTER_AUTH_ALGORITHMS", ["EdDSA", "ES256", "ES512", "PS256", "RS256"]),
        ("BETTER_AUTH_REQUIRE_SID", False),
        ("BETTER_AUTH_PLUGINS", []),
    ],
)
def test_a_missing_setting_has_its_default(settings: Any, name: str, default: Any) -> None:
    delattr(settings, name)

    assert getattr(conf, name) == default


PROJECT_SPECIFIC = {"JSON_ERRORS_UNDER"}  # another project has other paths


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("module", [authn.conf, support.conf], ids=["authn", "support"])
def test_every_setting_has_the_same_default_in_the_project_and_in_its_app(
    monkeypatch: pytest.MonkeyPatch, module: Any, debug: bool
) -> None:
    unset = {"ENV_FILE": os.devnull, "DEBUG": str(debug)}
    with mock.patch.dict(os.environ, unset, clear=True):
        project = runpy.run_path(str(TOP / "chatbackend/settings.py"))

    def values(settings: SimpleNamespace) -> dict[str, Any]:
        monkeypatch.setattr(module, "settings", settings)
        read = module.Conf()
        names = [name for name, each in vars(module.Conf).items() if isinstance(each, cached_property)]
        return {name: getattr(read, name) for name in names if name not in PROJECT_SPECIFIC}

    assert values(SimpleNamespace(DEBUG=debug)) == values(SimpleNamespace(**project))


@pytest.mark.parametrize(
    ("setting", "name", "default"),
    [
        ("BETTER_AUTH_KEYS_TTL_SECONDS", "BETTER_AUTH_KEYS_TTL", 60),
        ("BETTER_AUTH_LEEWAY_SECONDS", "BETTER_AUTH_LEEWAY", 10),
        ("BETTER_AUTH_MAX_TOKEN_LIFETIME_SECONDS", "BETTER_AUTH_MAX_TOKEN_LIFETIME", 3600),
    ],
)
def test_a_duration_is_set_in_seconds_and_has_a_default(
    settings: Any, setting: str, name: str, default: int
) -> None:
    delattr(settings, setting)
    assert getattr(conf, name) == timedelta(seconds=default)

    setattr(settings, setting, 1.5)
    assert getattr(conf, name) == timedelta(seconds=1.5)


@pytest.mark.parametrize(
    ("base_url", "jwks_url"),
    [
        ("https://shop.example.com/", "https://shop.example.com/api/auth/jwks"),
        ("https://shop.example.com/auth/", "https://shop.example.com/auth/jwks"),
        ("http://[", ""),
    ],
)
def test_the_jwks_url_has_the_path_of_better_auths_routes(
    settings: Any, base_url: str, jwks_url: str
) -> None:
    settings.BETTER_AUTH_URL = base_url

    assert jwks_url == conf.BETTER_AUTH_JWKS_URL


@pytest.mark.parametrize(("written", "is_secure"), [("", True), ("False", False), ("on", True)])
def test_cookies_are_secure_by_the_setting_or_if_the_url_is_https(
    monkeypatch: pytest.MonkeyPatch, settings: Any, written: str, is_secure: bool
) -> None:
    monkeypatch.setenv("BETTER_AUTH_SECURE_COOKIES", written)
    settings.BETTER_AUTH_URL = "https://auth.example.com"

    read = runpy.run_path(str(Path(__file__).parents[2] / "chatbackend/settings.py"))
    if "BETTER_AUTH_SECURE_COOKIES" in read:
        settings.BETTER_AUTH_SECURE_COOKIES = read["BETTER_AUTH_SECURE_COOKIES"]

    on_https = conf.BETTER_AUTH_SECURE_COOKIES
    settings.BETTER_AUTH_URL = "http://localhost:3000"

    assert on_https is is_secure
    assert conf.BETTER_AUTH_SECURE_COOKIES is (written == "on")


def test_without_its_own_setting_the_number_of_proxies_is_that_of_drf(settings: Any) -> None:
    del settings.NUM_PROXIES
    settings.REST_FRAMEWORK = {"NUM_PROXIES": 2}
    of_drf = conf.NUM_PROXIES

    settings.NUM_PROXIES = 0

    assert (of_drf, conf.NUM_PROXIES) == (2, 0)


def test_an_audience_may_be_one_text(settings: Any) -> None:
    settings.BETTER_AUTH_AUDIENCE = "https://api.example.com"

    assert conf.BETTER_AUTH_AUDIENCE == ["https://api.example.com"]
