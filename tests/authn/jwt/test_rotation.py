"""A real Better Auth rotates and revokes its keys while our server has requests in flight."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import jwt
import psycopg
import pytest

from chatbackend.dev.postgres import create_database
from tests.fixtures.accounts.people import BetterAuth
from tests.fixtures.servers.api import Api, eventually, operation
from tests.fixtures.servers.deployments import AUTH_ONLY, with_plugins

IN_FLIGHT = 50
TTL = 1.0  # BETTER_AUTH_KEYS_TTL_SECONDS


@dataclass
class Rotating:
    """A Better Auth that uses each key for two seconds, and our server."""

    auth: BetterAuth
    api: Api
    database: str

    def status(self, token: str) -> int:
        return self.api.post(operation("threads.list"), token).status_code


@pytest.fixture(scope="module")
def rotating(
    postgres_url: str, start_other_better_auth: Callable[..., Any], start_api: Callable[..., Any]
) -> Iterator[Rotating]:
    url = create_database(postgres_url, "rotation")
    own = AUTH_ONLY | {"BETTER_AUTH_DATABASE_URL": url, "BETTER_AUTH_KEYS_TTL_SECONDS": str(TTL)}
    plugins = with_plugins(rotationInterval=2)
    with (
        start_other_better_auth(DATABASE_URL=url, PLUGINS=plugins) as auth,
        start_api(**own, BETTER_AUTH_URL=auth.origin) as api,
    ):
        yield Rotating(auth, api, url)


class Response(NamedTuple):
    """``begun``: by the monotonic clock. ``took``: seconds."""

    is_kept: bool
    status: int
    begun: float
    took: float


def kid_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def test_rotation_refuses_none_of_fifty_requests_in_flight(rotating: Rotating) -> None:
    person = rotating.auth.sign_up()

    def request(_number: int) -> tuple[str, int]:
        token = person.token()
        return kid_of(token), rotating.status(token)

    responses: list[tuple[str, int]] = []
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        while len({kid for kid, _ in responses}) < 3:
            responses += pool.map(request, range(IN_FLIGHT))

    assert {status for _, status in responses} == {200}


def test_tokens_of_a_revoked_key_are_refused_in_time_and_no_others_are(rotating: Rotating) -> None:
    person = rotating.auth.sign_up()
    revoked = person.token()
    kept = eventually(person.token, lambda token: kid_of(token) != kid_of(revoked))

    def request(token: str) -> Response:
        begun = time.monotonic()
        return Response(token == kept, rotating.status(token), begun, time.monotonic() - begun)

    def fifty() -> list[Response]:
        responses.extend(pool.map(request, [revoked, kept] * (IN_FLIGHT // 2)))
        return responses[-IN_FLIGHT:]

    responses: list[Response] = []
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        assert {response.status for response in fifty()} == {200}
        with psycopg.connect(rotating.database) as database:
            database.execute('DELETE FROM "jwks" WHERE "id" = %s', [kid_of(revoked)])
        gone_at = time.monotonic()
        eventually(fifty, lambda last: {each.status for each in last if not each.is_kept} == {401})

    assert {response.status for response in responses if response.is_kept} == {200}
    assert {response.status for response in responses} == {200, 401}
    last_accepted = max(each.begun for each in responses if not each.is_kept and each.status == 200)
    # One request refreshes the keys, and the others do not wait for it.
    assert last_accepted < gone_at + TTL + 2 * max(response.took for response in responses)
