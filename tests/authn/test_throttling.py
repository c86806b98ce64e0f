"""The limit of refused attempts: which attempts count, which requests are still accepted, and the cost."""

import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import cycle
from typing import Any

import httpx2
import pytest
from django.core.cache import CacheHandler, cache, caches
from django.core.checks import run_checks
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from authn import audit, throttling
from authn.admin import refused_attempts
from tests.fixtures.accounts.forgeries import with_signature
from tests.fixtures.accounts.people import Person
from tests.fixtures.accounts.refusals import BAD_TOKEN, NO_CREDENTIALS, body_of
from tests.fixtures.accounts.signer import P256_ORDER, Signer
from tests.fixtures.environment import BETTER_AUTH_SECRET
from tests.fixtures.servers.api import Api, http, operation
from tests.fixtures.servers.deployments import AUTH_ONLY

pytestmark = pytest.mark.django_db

HERE, ELSEWHERE = "203.0.113.7", "203.0.113.8"
TOO_MANY = body_of("Too many refused attempts. Try again later", 429)
LIMIT = 3
NOW = int(time.time())


@pytest.fixture(autouse=True)
def _low_limit(settings: Any) -> None:
    settings.REFUSED_RATE_PER_ADDRESS = f"{LIMIT}/hour"


def post(client: Client, token: str = "", address: str = HERE, **extra: Any) -> Any:
    if token:
        extra["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    body = json.dumps(operation("threads.list"))
    return client.post(
        "/support/chatkit", body, content_type="application/json", REMOTE_ADDR=address, **extra
    )


def statuses(client: Client, *tokens: str, address: str = HERE) -> list[int]:
    return [post(client, token, address).status_code for token in tokens]


def jwt_of(signer: Signer, person: Person, **claims: Any) -> str:
    """A JWT for this person's session, as Better Auth signs it."""
    if "sid" not in claims:
        claims["sid"] = person.session_id
    return signer.token(sub=person.user_id, email=person.email, **claims)


def forged(signer: Signer, **claims: Any) -> str:
    return Signer(signer.kid, signer.algorithm, Signer.unknown().private_key).token(**claims)


# --- Forged tokens ---------------------------------------------


def test_over_the_limit_a_forged_token_gets_a_429_with_retry_after(client: Client, signer: Signer) -> None:
    responses = [post(client, forged(signer)) for _ in range(LIMIT + 2)]

    assert [response.json() for response in responses] == [body_of(BAD_TOKEN, 401)] * LIMIT + [TOO_MANY] * 2
    assert all(3590 < int(response["Retry-After"]) <= 3600 for response in responses[LIMIT:])
    assert "WWW-Authenticate" not in responses[-1]


def test_every_kind_of_refusal_counts(client: Client, signer: Signer, settings: Any) -> None:
    settings.REFUSED_RATE_PER_ADDRESS = "6/hour"
    ways = ["", "nonsense", "x" * 9000, Signer.unknown().token(), forged(signer), f"{signer.token()}=="]

    assert statuses(client, *ways, *ways) == [401] * 6 + [429] * 6


def test_a_request_without_credentials_counts_too(client: Client) -> None:
    responses = [post(client) for _ in range(LIMIT + 1)]

    assert [response.json() for response in responses] == [body_of(NO_CREDENTIALS, 401)] * LIMIT + [TOO_MANY]


def test_attempts_are_possible_again_after_the_period(
    client: Client, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert statuses(client, *[forged(signer)] * (LIMIT + 1))[-1] == 429

    for key in throttling._blocked_until:
        throttling._blocked_until[key] -= 3600
    cache.clear()  # after an hour, the entries of the cache would have expired

    assert statuses(client, *[forged(signer)] * (LIMIT + 1)) == [401] * LIMIT + [429]


# --- Accepted tokens at the same IP address -----------------------------------------------


def test_a_good_token_is_accepted_from_an_address_over_the_limit(
    client: Client, signer: Signer, person: Person
) -> None:
    token = person.token()
    assert statuses(client, *[forged(signer)] * (LIMIT + 1))[-1] == 429

    assert statuses(client, token, forged(signer), token) == [200, 429, 200]


def test_an_expired_token_gets_a_401_from_an_address_over_the_limit(
    client: Client, signer: Signer, person: Person
) -> None:
    assert statuses(client, *[forged(signer)] * (LIMIT + 1))[-1] == 429

    response = post(client, signer.token(sub=person.user_id, email=person.email, iat=1, exp=901))

    assert (response.status_code, response.json()) == (401, body_of(BAD_TOKEN, 401))


def test_each_address_has_its_own_limit(client: Client, signer: Signer) -> None:
    assert statuses(client, *[forged(signer)] * (LIMIT + 1))[-1] == 429

    assert statuses(client, forged(signer), address=ELSEWHERE) == [401]


def test_an_ipv6_network_counts_as_one_address(client: Client, signer: Signer) -> None:
    addresses = [f"2001:db8::{number}" for number in range(LIMIT + 1)]

    assert [post(client, forged(signer), address).status_code for address in addresses][-1] == 429
    assert statuses(client, forged(signer), address="2001:db8:0:1::1") == [401]


# --- Verified tokens ------------------------------------------------------------------------------


def test_a_refused_verified_token_is_counted_by_itself_and_then_not_looked_up(
    client: Client, person: Person
) -> None:
    token = person.token()
    person.sign_out()
    before = statuses(client, *[token] * (LIMIT + 1))

    with CaptureQueriesContext(connection) as queries:
        after = [post(client, token, address).status_code for address in (HERE, ELSEWHERE)]

    assert before == [404] * LIMIT + [429]
    assert after == [429, 429]
    assert len(queries) == 0


def test_the_user_of_a_blocked_token_is_accepted_with_another_token(client: Client, person: Person) -> None:
    token = person.token()
    person.sign_out()
    assert statuses(client, *[token] * (LIMIT + 1))[-1] == 429

    assert statuses(client, person.auth.sign_in(person.email).token()) == [200]


def test_a_cookie_of_an_ended_session_is_counted_by_itself(
    client: Client, person: Person, ended_cookie: str, settings: Any
) -> None:
    settings.BETTER_AUTH_CREDENTIALS, settings.BETTER_AUTH_SECRET = ["bearer"], BETTER_AUTH_SECRET

    assert statuses(client, *[ended_cookie] * (LIMIT + 1)) == [404] * LIMIT + [429]
    assert statuses(client, person.cookie) == [200]


def test_a_cookie_of_an_ended_session_counts_as_one_in_every_encoding(
    client: Client, ended_cookie: str, settings: Any
) -> None:
    settings.BETTER_AUTH_CREDENTIALS, settings.BETTER_AUTH_SECRET = ["bearer"], BETTER_AUTH_SECRET
    ended = ended_cookie
    spelled = [f"{ended[:at]}%{ord(ended[at]):02x}{ended[at + 1 :]}" for at in range(LIMIT + 3)]

    with CaptureQueriesContext(connection) as queries:
        answered = statuses(client, *spelled)

    assert answered == [404] * LIMIT + [429] * 3
    assert len(queries) == LIMIT + 1


def test_jwts_of_one_ended_session_count_together_and_each_is_looked_up_once_past_the_limit(
    client: Client, signer: Signer, person: Person
) -> None:
    ended = [jwt_of(signer, person, iat=NOW - number) for number in range(LIMIT + 4)]
    person.sign_out()

    answered = statuses(client, *ended)
    with CaptureQueriesContext(connection) as queries:
        again = statuses(client, *ended[LIMIT:])

    assert answered == [404] * LIMIT + [429] * 4
    assert (again, len(queries)) == ([429] * 4, 0)


def test_a_jwt_with_its_second_ecdsa_signature_counts_as_the_same(client: Client, person: Person) -> None:
    token = jwt_of(Signer.in_jwks_table("ES256"), person)
    twin = with_signature(token, lambda rs: rs[:32] + (P256_ORDER - int.from_bytes(rs[32:])).to_bytes(32))
    person.sign_out()
    assert statuses(client, *[token] * (LIMIT + 1)) == [404] * LIMIT + [429]

    with CaptureQueriesContext(connection) as queries:
        answered = statuses(client, twin)

    assert (answered, len(queries)) == ([429], 0)


def test_a_user_who_signs_in_again_is_accepted_after_refused_jwts(
    client: Client, signer: Signer, person: Person
) -> None:
    """JWTs without a session id share the counter of their user. A new JWT must still be accepted."""
    old = [jwt_of(signer, person, sid=None, iat=NOW - number) for number in range(LIMIT + 2)]
    person.sign_out()
    assert statuses(client, *old) == [404] * LIMIT + [429] * 2

    signed_in = person.auth.sign_in(person.email)

    assert statuses(client, jwt_of(signer, signed_in, sid=None)) == [200]


def test_a_jwt_whose_look_up_ends_in_a_401_is_counted_at_each_address_separately(
    client: Client, signer: Signer, person: Person
) -> None:
    """A page gets a new JWT after a 401. An attacker with the old JWT at another IP address must not change
    the 401 to a 429."""
    token = signer.token(sub="another-user", email=person.email)
    assert statuses(client, *[token] * (LIMIT + 1)) == [401] * LIMIT + [429]

    with CaptureQueriesContext(connection) as queries:
        here = statuses(client, token)

    assert (here, len(queries)) == ([429], 0)
    assert statuses(client, token, address=ELSEWHERE) == [401]


def test_expired_jwts_of_one_session_count_together_and_a_good_jwt_is_accepted(
    client: Client, signer: Signer, person: Person, other_person: Person
) -> None:
    expired = [jwt_of(signer, person, iat=number, exp=900 + number) for number in range(1, LIMIT + 3)]

    assert statuses(client, *expired) == [401] * LIMIT + [429] * 2
    assert statuses(client, person.token()) == [200]
    # The user's page needs this 401: it gets a new JWT after a 401.
    assert statuses(client, expired[0], address=ELSEWHERE) == [401]
    assert statuses(client, jwt_of(signer, other_person, iat=1, exp=901)) == [401]


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"email": None},
        {"sub": 7},
        {"sid": ["a", "list"]},
        {"iat": NOW + 3600, "exp": NOW + 4500},
        {"exp": "soon"},
        {"scope": "openid"},
    ],
    ids=lambda claims: next(iter(claims)),
)
def test_a_refused_verified_jwt_does_not_count_for_its_ip_address(
    client: Client, signer: Signer, claims: dict[str, Any]
) -> None:
    token = signer.raw(
        {name: value for name, value in (signer.claims() | claims).items() if value is not None}
    )

    assert statuses(client, *[token] * (LIMIT + 1)) == [401] * LIMIT + [429]
    assert statuses(client, forged(signer)) == [401]


def test_an_unsigned_session_token_is_not_looked_up_for_an_address_over_the_limit(
    client: Client, person: Person, settings: Any
) -> None:
    """Only the look-up shows whether Better Auth issued the token. So others at the same IP address can block
    the token."""
    settings.BETTER_AUTH_CREDENTIALS, settings.BETTER_AUTH_BEARER_REQUIRE_SIGNATURE = ["bearer"], False
    guesses = [f"{number:032}" for number in range(LIMIT + 1)]
    assert statuses(client, *guesses) == [401] * LIMIT + [429]

    with CaptureQueriesContext(connection) as queries:
        here = statuses(client, person.session_token)

    assert (here, len(queries)) == ([429], 0)
    assert statuses(client, person.session_token, address=ELSEWHERE) == [200]


# --- Logs and metrics -------------------------------------------------------------------------


def test_only_the_first_attempt_over_the_limit_is_logged_and_all_are_counted(
    client: Client,
    signer: Signer,
    audit: Callable[[], list[dict[str, Any]]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    counted: list[str] = []
    receiver = lambda reason, **_: counted.append(reason)  # noqa: E731
    _signal.connect(receiver)

    statuses(client, *[forged(signer)] * (LIMIT + 5))

    written = [(record["reason"], record["status"]) for record in audit()]
    assert written == [("signature", 401)] * LIMIT + [("too_many_attempts", 429)]
    # Django logs one more record for each 401, and none for a 429.
    assert len(caplog.records) == 2 * LIMIT + 1
    assert counted == ["signature"] * LIMIT + ["too_many_attempts"] * 5


_signal = audit.attempted


def test_no_token_is_in_the_cache_or_in_the_log(
    client: Client, person: Person, caplog: pytest.LogCaptureFixture
) -> None:
    token = person.token()
    person.sign_out()

    statuses(client, *[token] * (LIMIT + 1))

    remembered = [*throttling._blocked_until, *cache._cache]  # type: ignore[attr-defined]
    assert remembered
    for part in token.split(".")[1:]:
        assert part not in str(remembered) + caplog.text


# --- Costs --------------------------------------------------------------------------------


def test_a_good_request_does_not_use_the_cache(
    client: Client, signer: Signer, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses(client, *[forged(signer)] * (LIMIT + 1))
    monkeypatch.setattr(throttling, "caches", None)

    assert statuses(client, person.token(), forged(signer)) == [200, 429]


def test_the_number_of_blocked_credentials_and_addresses_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttling, "MAX_BLOCKED", 100)

    for number in range(1000):
        throttling._block(f"address:{number}", 3600)

    assert len(throttling._blocked_until) <= 100


# --- Without keys ----------------------------------------------------------------------


@pytest.fixture
def hanging_keys(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No keys are loaded, and the JWKS server accepts connections but never answers."""
    monkeypatch.setattr("authn.jwt.jwks.TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.BETTER_AUTH_KEYS, settings.BETTER_AUTH_JWKS_PRIVATE = "jwks", True
        settings.BETTER_AUTH_JWKS_URL = f"http://127.0.0.1:{silent.getsockname()[1]}/jwks"
        yield


@pytest.mark.usefixtures("hanging_keys")
def test_without_keys_forged_tokens_are_counted_by_address_and_blocked(
    client: Client,
    signer: Signer,
    audit: Callable[[], list[dict[str, Any]]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    answered = statuses(client, *[forged(signer)] * (LIMIT + 20))

    assert answered == [503] * LIMIT + [429] * 20
    assert [record["status"] for record in audit()] == [503] * LIMIT + [429]
    others = [record for record in caplog.records if record.name != "authn.audit"]
    assert [record.name for record in others] == ["runtime.circuit_breaker"]
    assert [record.levelname for record in caplog.records].count("ERROR") == 1


@pytest.mark.usefixtures("hanging_keys")
def test_without_keys_jwts_get_a_503_with_retry_after_and_cookies_are_accepted(
    client: Client, signer: Signer, person: Person, settings: Any
) -> None:
    settings.BETTER_AUTH_CREDENTIALS, settings.BETTER_AUTH_SECRET = ["jwt", "bearer"], BETTER_AUTH_SECRET
    statuses(client, *[forged(signer)] * (LIMIT + 1))

    response = post(client, person.token(), ELSEWHERE)

    assert (response.status_code, response["Retry-After"]) == (503, "2")
    assert statuses(client, person.cookie) == [200]


def test_a_good_token_is_accepted_as_soon_as_keys_are_loaded(
    client: Client, signer: Signer, person: Person, settings: Any, hanging_keys: None
) -> None:
    token = person.token()
    assert statuses(client, *[token] * (LIMIT + 1)) == [503] * LIMIT + [429]

    settings.BETTER_AUTH_KEYS = "database"

    assert statuses(client, token, forged(signer)) == [200, 429]


def test_a_database_outage_counts_as_no_attempt(client: Client, person: Person) -> None:
    token = person.token()
    assert statuses(client, token) == [200]  # this request loads the keys

    def broken(*args: Any) -> Any:
        raise OperationalError("the server closed the connection unexpectedly")

    with connection.execute_wrapper(broken):
        assert statuses(client, *[token] * (LIMIT + 2)) == [503] * (LIMIT + 2)
    assert statuses(client, token) == [200]


# --- The cache ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_servers(auth: Any, start_api: Callable[..., Any], redis_url: str) -> Iterator[list[Api]]:
    """Two servers that share one Redis as their cache. The tests send requests like their proxy."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                start_api(
                    **AUTH_ONLY,
                    CACHE_URL=redis_url,
                    NUM_PROXIES="1",
                    REFUSED_RATE_PER_ADDRESS="20/hour",
                )
            )
            for _ in range(2)
        ]


def test_two_servers_share_one_limit(two_servers: list[Api], person: Person) -> None:
    token = person.token()

    def attempt(api: Api, bearer: str = "x.y.z", seen: str = HERE) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {bearer}", "X-Forwarded-For": f"{ELSEWHERE}, {seen}"}
        return http.post(api.url, headers=headers)

    answered = [attempt(api).status_code for api, _ in zip(cycle(two_servers), range(50), strict=False)]

    assert answered == [401] * 20 + [429] * 30
    for api in two_servers:
        assert attempt(api, token).status_code == 200
        assert attempt(api, seen=ELSEWHERE).status_code == 401


@pytest.mark.parametrize("fault", ["down", "hanging"])
def test_while_the_cache_does_not_answer_each_server_counts_by_itself(
    client: Client,
    signer: Signer,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        if fault == "down":
            silent.close()
        options = {"socket_connect_timeout": 0.2, "socket_timeout": 0.2}
        redis = {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{silent.getsockname()[1] if fault == 'hanging' else 1}/0",
            "OPTIONS": options,
        }
        monkeypatch.setattr(throttling, "caches", CacheHandler({"default": redis}))

        answered = statuses(client, *[forged(signer)] * (LIMIT + 1))

    assert answered == [401] * LIMIT + [429]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    # One error, because the circuit breaker let only one attempt ask the cache.
    assert [record.name for record in errors] == ["runtime.circuit_breaker"]


@pytest.mark.parametrize("rate", ["", "60", "60/", "x/min", "0/min", "-1/min", "60/fortnight", "60/month"])
def test_an_invalid_rate_stops_the_start(settings: Any, rate: str) -> None:
    settings.REFUSED_RATE_PER_ADDRESS = rate

    assert [message.id for message in run_checks()] == ["authn.E015"]


def test_djangos_default_cache_forgets_no_count(client: Client, settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    others = [f"198.51.{number // 250}.{number % 250}" for number in range(400)]
    statuses(client, *["x.y.z"] * LIMIT)

    for address in others:  # Django's default cache has 300 entries
        post(client, "x.y.z", address)

    assert statuses(client, "x.y.z") == [429]


# --- The number for the admin's start page --------------------------------------------------------


def test_every_refused_attempt_of_the_last_hour_is_counted_for_staff(
    client: Client, signer: Signer, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    seen = [refused_attempts.in_last_hour()]

    statuses(client, *[forged(signer)] * (LIMIT + 5))
    statuses(client, jwt_of(signer, person), forged(signer), address=ELSEWHERE)
    seen.append(refused_attempts.in_last_hour())
    monkeypatch.setattr(time, "time", lambda: now + 59 * 60)
    seen.append(refused_attempts.in_last_hour())
    monkeypatch.setattr(time, "time", lambda: now + 61 * 60)
    seen.append(refused_attempts.in_last_hour())

    assert seen == [0, LIMIT + 6, LIMIT + 6, 0]


def test_a_flood_adds_to_the_number_in_the_cache_once_a_second_at_most(
    client: Client, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses(client, *[forged(signer)] * (LIMIT + 1))
    added: list[str] = []
    monkeypatch.setattr(cache, "incr", lambda key, number=1: added.append(key) or 1)

    start = time.monotonic()
    refused = statuses(client, *[forged(signer)] * 30)
    seconds = time.monotonic() - start

    assert refused == [429] * 30
    assert len(added) <= seconds + 1


def test_the_number_is_unknown_while_the_cache_does_not_answer(
    client: Client, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without_cache:
        for name in ("add", "incr", "get_many"):
            without_cache.setattr(cache, name, _fail)
        status = post(client, forged(signer)).status_code
        unknown = refused_attempts.in_last_hour()
    throttling._breakers.clear()  # as after the pause of a breaker
    post(client, forged(signer))

    assert (status, unknown, refused_attempts.in_last_hour()) == (401, None, 2)


def test_an_outage_of_ours_is_no_refused_attempt(client: Client, signer: Signer, settings: Any) -> None:
    settings.BETTER_AUTH_KEYS, settings.BETTER_AUTH_JWKS_URL = "jwks", "http://127.0.0.1:9/jwks"

    status = post(client, forged(signer)).status_code

    assert (status, refused_attempts.in_last_hour()) == (503, 0)


def test_a_cache_of_refused_attempts_that_does_not_answer_is_no_reason_to_refuse_a_user(
    client: Client, signer: Signer, person: Person, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "own"}
    settings.CACHES = settings.CACHES | {"refused": own | {"OPTIONS": {"MAX_ENTRIES": 100_000}}}
    settings.BETTER_AUTH_CACHE = "refused"
    monkeypatch.setattr(caches["refused"], "add", _fail)

    assert statuses(client, forged(signer), jwt_of(signer, person)) == [401, 200]
    assert not throttling.breaker_of("refused").is_closed


def _fail(*args: Any, **kwargs: Any) -> Any:
    raise OSError("the cache is away")
