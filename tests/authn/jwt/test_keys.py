"""The key set: how long it is cached, what a refresh costs, and what happens if its source fails."""

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoDbBlocker

from authn.conf import conf
from authn.errors import TokenRefused, Unavailable
from authn.jwt import keys, tokens
from authn.jwt.jwks import MAX_BYTES, MAX_KEYS_IN_SET, is_private
from chatbackend.dev.processes import free_port
from runtime import circuit_breaker
from runtime.circuit_breaker import PAUSE_SECONDS
from tests.fixtures.accounts.forgeries import reason_for
from tests.fixtures.accounts.people import BetterAuth, Person
from tests.fixtures.accounts.signer import Signer, restored_jwks_table
from tests.fixtures.clock import Clock
from tests.fixtures.database.rows import sql

TTL = 60.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock().replace_in(monkeypatch, keys, circuit_breaker)


def count_queries(act: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as queries:
        act()
    return len(queries)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "authn.jwt.keys"]


def count_outages(caplog: pytest.LogCaptureFixture) -> int:
    """The number of logged outages of the source."""
    return len(
        [1 for record in caplog.records if record.getMessage().startswith("Signing keys: no good answer")]
    )


# --- The cache ----------------------------------------------------------------


def test_a_known_key_needs_no_query_within_the_ttl_and_one_after_it(signer: Signer, clock: Clock) -> None:
    token = signer.token()

    assert count_queries(lambda: tokens.verify(token)) == 1
    clock.now += TTL
    assert count_queries(lambda: tokens.verify(token)) == 0
    clock.now += 0.1
    assert count_queries(lambda: tokens.verify(token)) == 1
    assert count_queries(lambda: tokens.verify(token)) == 0


def test_the_ttl_comes_from_the_settings(signer: Signer, clock: Clock, settings: Any) -> None:
    settings.BETTER_AUTH_KEYS_TTL_SECONDS = 5.0
    tokens.verify(signer.token())

    clock.now += 5.1

    assert count_queries(lambda: tokens.verify(signer.token())) == 1


def test_a_setting_of_better_auth_drops_the_set_and_no_other_setting_does(
    signer: Signer, clock: Clock, settings: Any
) -> None:
    tokens.verify(signer.token())

    settings.SUPPORT_RATE_PER_USER = "1/min"
    assert count_queries(lambda: tokens.verify(signer.token())) == 0
    settings.BETTER_AUTH_ALGORITHMS = ["EdDSA"]
    assert count_queries(lambda: tokens.verify(signer.token())) == 1


def test_a_new_key_is_found_at_once(signer: Signer, clock: Clock) -> None:
    tokens.verify(signer.token())

    rotated = Signer.in_jwks_table()

    assert count_queries(lambda: tokens.verify(rotated.token())) == 1
    assert count_queries(lambda: tokens.verify(signer.token())) == 0


def test_several_new_keys_within_a_second_are_all_found(signer: Signer, clock: Clock) -> None:
    """Better Auth makes as many keys as there are requests that find the key expired."""
    tokens.verify(signer.token())

    for _ in range(keys.MAX_REFRESHES - 1):
        tokens.verify(Signer.in_jwks_table().token())


def test_only_the_columns_that_are_needed_leave_the_database(signer: Signer) -> None:
    with CaptureQueriesContext(connection) as queries:
        tokens.verify(signer.token())
        reason_for(Signer.unknown().token())

    for query in queries:
        columns = query["sql"].partition(" FROM ")[0]
        assert columns == 'SELECT "jwks"."id", "jwks"."publicKey", "jwks"."alg", "jwks"."expiresAt"'
        assert "privateKey" not in query["sql"]


def test_has_keys_queries_only_while_there_are_no_keys(auth: BetterAuth, db: None) -> None:
    sql('DELETE FROM "jwks"')
    assert (keys.known_ids(), keys.has_keys()) == ([], False)

    signers = [Signer.in_jwks_table() for _ in range(2)]

    assert (count_queries(keys.has_keys), keys.has_keys()) == (1, True)
    assert count_queries(keys.has_keys) == 0
    assert keys.known_ids() == sorted(signer.kid for signer in signers)


# --- Unknown keys ---------------------------------------------------------------------------------------


def test_an_unknown_kid_costs_one_query(signer: Signer, clock: Clock) -> None:
    tokens.verify(signer.token())

    assert count_queries(lambda: reason_for(Signer.unknown().token())) == 1


def test_a_malformed_kid_costs_none(signer: Signer, clock: Clock) -> None:
    tokens.verify(signer.token())

    assert count_queries(lambda: reason_for(signer.token(header={"kid": "a b"}))) == 0


def test_a_flood_of_unknown_kids_costs_no_more_queries_than_the_bucket_holds(
    signer: Signer, clock: Clock
) -> None:
    tokens.verify(signer.token())

    def flood() -> None:
        for number in range(50):
            assert keys.find(f"forged-{number}") is None

    assert count_queries(flood) == keys.MAX_REFRESHES - 1
    clock.now += keys.REFRESH_PERIOD_SECONDS / keys.MAX_REFRESHES
    assert count_queries(flood) == 1
    clock.now += 100 * keys.REFRESH_PERIOD_SECONDS
    assert count_queries(flood) == keys.MAX_REFRESHES


def test_a_flood_never_delays_a_known_key_and_a_new_key_only_briefly(signer: Signer, clock: Clock) -> None:
    tokens.verify(signer.token())
    for number in range(50):
        keys.find(f"forged-{number}")
    rotated = Signer.in_jwks_table()

    assert tokens.verify(signer.token()).key_id == signer.kid
    assert reason_for(rotated.token()) == "unknown_kid"
    clock.now += keys.REFRESH_PERIOD_SECONDS / keys.MAX_REFRESHES
    assert tokens.verify(rotated.token()).key_id == rotated.kid


def test_unknown_kids_are_not_cached(signer: Signer, clock: Clock) -> None:
    tokens.verify(signer.token())
    known = len(keys._key_set._keys or ())

    for number in range(50):
        keys.find(f"forged-{number}")

    assert len(keys._key_set._keys or ()) == known


# --- Expired and revoked keys ----------------------------------------------------------------------

HOUR = timedelta(hours=1)


def expired_key(ago: timedelta) -> tuple[Signer, int]:
    """A key, and the time at which it expired (seconds)."""
    expires_at = datetime.now(UTC) - ago
    return Signer.in_jwks_table(expiresAt=expires_at), int(expires_at.timestamp())


def test_tokens_of_an_expired_key_stay_good_but_new_ones_are_refused(auth: BetterAuth, db: None) -> None:
    retired, at = expired_key(timedelta(minutes=5))

    assert tokens.verify(retired.token(iat=at - 1)).key_id == retired.kid
    assert tokens.verify(retired.token(iat=at + 9)).key_id == retired.kid  # within the leeway
    assert reason_for(retired.token(iat=at + 12)) == "key_retired"
    assert reason_for(retired.token()) == "key_retired"


def test_a_key_that_will_expire_is_good_until_then(auth: BetterAuth, db: None) -> None:
    signer = Signer.in_jwks_table(expiresAt=datetime.now(UTC) + HOUR)

    assert tokens.verify(signer.token()).key_id == signer.kid


def test_a_column_without_a_time_zone_holds_utc(auth: BetterAuth, db: None) -> None:
    """Prisma and Drizzle make this type. In the test's transaction."""
    sql(
        'ALTER TABLE "jwks" ALTER COLUMN "expiresAt" TYPE timestamp(3) USING "expiresAt" AT TIME ZONE \'UTC\''
    )
    retired, at = expired_key(timedelta(minutes=5))

    assert tokens.verify(retired.token(iat=at - 1)).key_id == retired.kid
    assert reason_for(retired.token()) == "key_retired"


def test_keys_that_are_too_old_for_any_good_token_are_not_loaded(
    auth: BetterAuth, db: None, settings: Any
) -> None:
    """A token from the key's last second, by a clock that is behind, and then by a clock that is ahead."""
    settings.BETTER_AUTH_LEEWAY_SECONDS = 600
    old, _ = expired_key(conf.BETTER_AUTH_MAX_TOKEN_LIFETIME + timedelta(minutes=25))
    needed, _ = expired_key(conf.BETTER_AUTH_MAX_TOKEN_LIFETIME + timedelta(minutes=15))

    assert keys.find(old.kid) is None
    assert keys.find(needed.kid) is not None


def test_without_an_expiry_column_all_keys_are_loaded(signer: Signer, settings: Any) -> None:
    settings.BETTER_AUTH_COLUMNS = {"jwks.expiresAt": ""}

    with CaptureQueriesContext(connection) as queries:
        tokens.verify(signer.token())

    assert [" WHERE " in query["sql"] for query in queries] == [False]


@pytest.mark.parametrize(
    "revoke",
    [
        'DELETE FROM "jwks" WHERE "id" = %s',
        'UPDATE "jwks" SET "expiresAt" = \'1970-01-01\' WHERE "id" = %s',
        'UPDATE "jwks" SET "expiresAt" = \'-infinity\' WHERE "id" = %s',
    ],
    ids=["deleted", "expired-long-ago", "expired-for-ever"],
)
def test_a_revoked_key_is_trusted_no_longer_than_the_ttl(signer: Signer, clock: Clock, revoke: str) -> None:
    other = Signer.in_jwks_table()
    tokens.verify(signer.token())

    sql(revoke, signer.kid)

    assert tokens.verify(signer.token()).key_id == signer.kid
    clock.now += TTL + 0.1
    assert reason_for(signer.token()) == "unknown_kid"
    assert tokens.verify(other.token()).key_id == other.kid


# --- Database outages ----------------------------------------------------------------------------


def test_a_set_that_cannot_be_refreshed_stays_in_use(
    signer: Signer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    tokens.verify(signer.token())
    sql('ALTER TABLE "jwks" RENAME TO "jwks_away"')
    clock.now += TTL + 0.1

    assert tokens.verify(signer.token()).key_id == signer.kid
    assert tokens.verify(signer.token()).key_id == signer.kid
    assert reason_for(Signer.unknown().token()) == "unknown_kid"
    assert count_outages(caplog) == 1
    clock.now += PAUSE_SECONDS
    assert count_queries(lambda: tokens.verify(signer.token())) == 1
    assert count_outages(caplog) == 1


def test_without_any_keys_every_token_is_a_503(
    signer: Signer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    sql('ALTER TABLE "jwks" RENAME TO "jwks_away"')

    for token in (signer.token(), Signer.unknown().token()):
        with pytest.raises(Unavailable) as unavailable:
            tokens.verify(token)
        assert (unavailable.value.reason, unavailable.value.status_code) == ("keys_unavailable", 503)

    with pytest.raises(Unavailable, match="unavailable") as unavailable:
        keys.has_keys()
    assert unavailable.value.reason == "keys_unavailable"
    assert count_outages(caplog) == 1


# --- The JWKS URL ------------------------------------------------------------------------------

Answer = Callable[[BaseHTTPRequestHandler], None]
STOPPED = threading.Event()  # the test is over, so endless responses stop


class JwksServer:
    """A real HTTP server. ``answer`` answers each request. ``paths``: the requested paths."""

    def __init__(self) -> None:
        self.answer: Answer = respond_with(b"")
        self.paths: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.paths.append(self.path)
                with suppress(OSError):  # the client hung up
                    outer.answer(self)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = False  # joined by server_close
        self.origin = f"http://127.0.0.1:{self.server.server_port}"

    def lists(self, *signers: Signer) -> None:
        self.answer = respond_with(jwks_document(*signers))


def respond_with(body: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return answer


def jwks_entry(signer: Signer, **changes: Any) -> dict[str, Any]:
    return signer.public_jwk() | {"kid": signer.kid, "alg": signer.algorithm} | changes


def jwks_document(*listing: Signer | dict[str, Any]) -> bytes:
    jwks = [jwks_entry(entry) if isinstance(entry, Signer) else entry for entry in listing]
    return json.dumps({"keys": jwks}).encode()


@pytest.fixture
def jwks(settings: Any) -> Iterator[JwksServer]:
    jwks = JwksServer()
    settings.BETTER_AUTH_KEYS, settings.BETTER_AUTH_JWKS_URL = "jwks", f"{jwks.origin}/jwks"
    settings.BETTER_AUTH_JWKS_PRIVATE = True
    serving = threading.Thread(target=jwks.server.serve_forever, args=[0.01])
    STOPPED.clear()
    serving.start()
    yield jwks
    STOPPED.set()
    jwks.server.shutdown()
    serving.join()
    jwks.server.server_close()


def test_keys_from_a_real_better_auths_jwks_url_are_good(person: Person, settings: Any) -> None:
    settings.BETTER_AUTH_KEYS = "jwks"  # the JWKS URL follows from BETTER_AUTH_URL
    settings.BETTER_AUTH_JWKS_PRIVATE = True

    assert tokens.verify(person.token()).subject == person.user_id


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
def test_a_listed_key_is_good_and_fetched_once(jwks: JwksServer, algorithm: str) -> None:
    signer = Signer.unknown(algorithm)
    jwks.lists(Signer.unknown(), signer)

    for _ in range(3):
        assert tokens.verify(signer.token()).algorithm == algorithm

    assert jwks.paths == ["/jwks"]


def test_a_fetch_does_not_ask_for_compression(jwks: JwksServer) -> None:
    signer = Signer.unknown()
    plain, packed = jwks_document(signer), gzip.compress(jwks_document(signer))

    def compress_if_asked(request: BaseHTTPRequestHandler) -> None:
        is_asked = request.headers["Accept-Encoding"] != "identity"
        (respond_with(packed, Content_Encoding="gzip") if is_asked else respond_with(plain))(request)

    jwks.answer = compress_if_asked

    assert tokens.verify(signer.token()).key_id == signer.kid


def test_a_key_without_alg_has_its_curves(jwks: JwksServer) -> None:
    signer = Signer.unknown("ES256")
    jwks.answer = respond_with(jwks_document({k: v for k, v in jwks_entry(signer).items() if k != "alg"}))

    assert tokens.verify(signer.token()).algorithm == "ES256"


@pytest.mark.parametrize(
    "broken",
    [
        {"kid": None},
        {"kid": 7},
        {"kid": ["x"]},
        {"kid": {}},
        {"kid": "x", "kty": None},
        {"kid": "x", "alg": ["EdDSA"]},
        {"kid": "x", "alg": {}},
        {"kid": "x", "crv": []},
        {"kid": "x", "x": None},
        {"kid": "x", "d": "c2VjcmV0"},
    ],
    ids=json.dumps,
)
def test_a_broken_entry_leaves_the_other_keys_usable(
    jwks: JwksServer, caplog: pytest.LogCaptureFixture, broken: dict[str, Any]
) -> None:
    signer = Signer.unknown()
    jwks.answer = respond_with(jwks_document(jwks_entry(Signer.unknown(), **broken), signer))

    assert tokens.verify(signer.token()).key_id == signer.kid
    assert keys.find("x") is None
    line = next(line for line in messages(caplog) if line.startswith("Signing key "))
    assert line.startswith(f"Signing key {broken['kid']} is not usable: ")
    assert line.endswith(("Error", "UnusableKey"))
    assert "c2VjcmV0" not in caplog.text


@pytest.mark.parametrize("entry", ["kid", 7, None, True, [], [["kid", "x"]]], ids=json.dumps)
def test_an_entry_that_is_not_an_object_leaves_the_other_keys_usable(
    jwks: JwksServer, caplog: pytest.LogCaptureFixture, entry: Any
) -> None:
    signer = Signer.unknown()
    jwks.answer = respond_with(json.dumps({"keys": [entry, jwks_entry(signer), entry]}).encode())

    assert tokens.verify(signer.token()).key_id == signer.kid
    assert messages(caplog) == ["Signing key None is not usable: TypeError"] * 2
    assert count_outages(caplog) == 0


@pytest.mark.parametrize("public_key", ["", "null", "7", '"text"', "[]", "{", "\ud800"], ids=repr)
def test_a_row_without_a_key_leaves_the_other_keys_usable(signer: Signer, public_key: str) -> None:
    broken = Signer.in_jwks_table(publicKey=public_key.encode(errors="replace").decode())

    assert tokens.verify(signer.token()).key_id == signer.kid
    assert keys.find(broken.kid) is None


def test_a_document_may_have_a_thousand_keys_and_256_kib(jwks: JwksServer) -> None:
    signer = Signer.unknown()
    jwks.answer = respond_with(jwks_document(signer, *[{}] * 999).ljust(256 * 1024))

    assert tokens.verify(signer.token()).key_id == signer.kid


def test_the_last_of_two_entries_with_one_kid_counts(jwks: JwksServer) -> None:
    first = Signer.unknown()
    last = Signer(first.kid, "EdDSA", Signer.unknown().private_key)
    jwks.lists(first, last)

    assert tokens.verify(last.token()).key_id == last.kid
    assert reason_for(first.token()) == "signature"


def test_an_empty_list_replaces_the_old_set(jwks: JwksServer, clock: Clock) -> None:
    """Better Auth sends an empty list if the grace period of every key is over."""
    signer = Signer.unknown()
    jwks.lists(signer)
    tokens.verify(signer.token())

    jwks.lists()
    clock.now += TTL + 0.1

    assert reason_for(signer.token()) == "unknown_kid"


def endless(request: BaseHTTPRequestHandler) -> None:
    """Sends a byte at a time, so no single read takes long."""
    request.send_response(200)
    request.end_headers()
    while not STOPPED.wait(0.02):
        request.wfile.write(b" ")


def silent(request: BaseHTTPRequestHandler) -> None:
    STOPPED.wait(10)


def slow_headers(request: BaseHTTPRequestHandler) -> None:
    """Sends the headers byte by byte, so no single read takes long. The response is complete in the end."""
    body = jwks_document(GOOD)
    for byte in f"HTTP/1.0 200 OK\r\nX-Slow: {'x' * 300}\r\nContent-Length: {len(body)}\r\n\r\n".encode():
        request.wfile.write(bytes([byte]))
        STOPPED.wait(0.02)
    request.wfile.write(body)


def without_a_length(request: BaseHTTPRequestHandler) -> None:
    """Sends a complete document, but the response never ends."""
    request.send_response(200)
    request.end_headers()
    request.wfile.write(jwks_document(GOOD))
    STOPPED.wait(10)


GOOD = Signer.unknown()
BAD_ANSWERS: dict[str, Answer] = {
    "500": respond_with(jwks_document(GOOD), 500),
    "404": respond_with(jwks_document(GOOD), 404),
    "redirect": respond_with(jwks_document(GOOD), 302, Location="/elsewhere"),
    "moved-for-good": respond_with(b"", 308, Location="/elsewhere"),
    "nothing": respond_with(b""),
    "not-json": respond_with(b"<html>"),
    "not-utf8": respond_with(b'{"keys": ["\xff"]}'),
    "nested-deeply": respond_with(b"[" * 100_000),
    "cut-short": respond_with(jwks_document(GOOD)[:-2], Content_Length=str(len(jwks_document(GOOD)))),
    "too-large": respond_with(b" " * MAX_BYTES + jwks_document(GOOD)),
    "too-many": respond_with(jwks_document(GOOD, *[{}] * MAX_KEYS_IN_SET)),
    "compressed": respond_with(gzip.compress(jwks_document(GOOD)), Content_Encoding="gzip"),
    "endless": endless,
    "silent": silent,
    "slow-headers": slow_headers,
    "without-an-end": without_a_length,
    "a-list": respond_with(b"[]"),
    "a-string": respond_with(b'"keys"'),
    "no-keys": respond_with(b"{}"),
    "keys-null": respond_with(b'{"keys": null}'),
    "keys-an-object": respond_with(b'{"keys": {}}'),
}


ENDLESS_ANSWERS = (endless, silent, slow_headers, without_a_length)


@pytest.mark.parametrize("bad", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_a_bad_response_is_an_outage_and_ends_in_time(
    jwks: JwksServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, bad: Answer
) -> None:
    if bad in ENDLESS_ANSWERS:
        monkeypatch.setattr("authn.jwt.jwks.TIMEOUT_SECONDS", 1.0)  # the test's own server needs some time
    jwks.answer = bad
    started = time.monotonic()

    with pytest.raises(Unavailable, match="Service temporarily unavailable"):
        tokens.verify(GOOD.token())

    assert time.monotonic() - started < 8
    assert jwks.paths == ["/jwks"]
    assert count_outages(caplog) == 1


def test_after_a_bad_response_the_old_set_stays_in_use_until_a_good_response(
    jwks: JwksServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = Signer.unknown(), Signer.unknown()
    jwks.lists(old)
    tokens.verify(old.token())

    jwks.answer = respond_with(b"", 500)
    clock.now += TTL + 0.1
    assert tokens.verify(old.token()).key_id == old.kid
    assert reason_for(new.token()) == "unknown_kid"
    assert (len(jwks.paths), count_outages(caplog)) == (2, 1)

    jwks.lists(new)
    clock.now += PAUSE_SECONDS
    assert tokens.verify(new.token()).key_id == new.kid
    assert reason_for(old.token()) == "unknown_kid"


def test_a_source_that_answers_again_is_used_and_an_outage_is_two_log_lines(
    jwks: JwksServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    signer = Signer.unknown()
    jwks.answer = respond_with(b"", 500)
    for _ in range(5):
        with pytest.raises(Unavailable):
            tokens.verify(signer.token())
        clock.now += PAUSE_SECONDS

    jwks.lists(signer)
    with pytest.raises(TokenRefused):
        tokens.verify(Signer.unknown().token())

    assert tokens.verify(signer.token()).key_id == signer.kid
    assert len(jwks.paths) == 6
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in lines] == ["ERROR", "INFO"]
    assert lines[1][1] == "Signing keys: answers again, after 10 s"


def test_a_source_that_failed_is_not_tried_during_the_pause(jwks: JwksServer, clock: Clock) -> None:
    signer = Signer.unknown()
    jwks.answer = respond_with(b"", 500)
    with pytest.raises(Unavailable):
        tokens.verify(signer.token())

    jwks.lists(signer)
    clock.now += PAUSE_SECONDS - 0.1
    with pytest.raises(Unavailable):
        tokens.verify(signer.token())

    assert len(jwks.paths) == 1
    clock.now += 0.1
    assert tokens.verify(signer.token()).key_id == signer.kid


def test_a_refused_connection_is_an_outage(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.BETTER_AUTH_KEYS, settings.BETTER_AUTH_JWKS_URL = "jwks", f"http://127.0.0.1:{free_port()}/jwks"

    with pytest.raises(Unavailable):
        tokens.verify(GOOD.token())

    assert count_outages(caplog) == 1


def test_a_connection_that_hangs_is_given_up(
    settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("authn.jwt.jwks.TIMEOUT_SECONDS", 0.5)
    settings.BETTER_AUTH_KEYS, settings.BETTER_AUTH_JWKS_PRIVATE = "jwks", True
    with ExitStack() as sockets:
        full = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        settings.BETTER_AUTH_JWKS_URL = f"http://127.0.0.1:{full.getsockname()[1]}/jwks"

        with pytest.raises(Unavailable):
            tokens.verify(GOOD.token())
        assert_ended(fetch_threads())

    assert count_outages(caplog) == 1


def test_a_dns_lookup_that_hangs_is_not_waited_for(
    jwks: JwksServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found, look_up = threading.Event(), socket.getaddrinfo

    def slow_lookup(*name: Any, **options: Any) -> Any:
        found.wait(30)
        return look_up(*name, **options)

    monkeypatch.setattr("authn.jwt.jwks.TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(socket, "getaddrinfo", slow_lookup)

    with pytest.raises(Unavailable):
        tokens.verify(GOOD.token())

    assert count_outages(caplog) == 1
    assert "too slow" in caplog.text
    assert [thread.daemon for thread in fetch_threads()] == [True]  # does not keep the process from exiting
    found.set()
    assert_ended(fetch_threads())


def test_a_fetch_leaves_no_thread_behind(jwks: JwksServer) -> None:
    jwks.lists(GOOD)

    tokens.verify(GOOD.token())

    assert_ended(fetch_threads())


def assert_ended(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def fetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "jwks"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
def test_keys_of_a_private_address_are_refused_unless_it_is_allowed(
    jwks: JwksServer, settings: Any, caplog: pytest.LogCaptureFixture, host: str
) -> None:
    signer = Signer.unknown()
    jwks.lists(signer)
    settings.BETTER_AUTH_JWKS_URL = jwks.origin.replace("127.0.0.1", host)
    settings.BETTER_AUTH_JWKS_PRIVATE = False

    with pytest.raises(Unavailable):
        tokens.verify(signer.token())

    assert "BETTER_AUTH_JWKS_PRIVATE is off" in caplog.text
    settings.BETTER_AUTH_JWKS_PRIVATE = True
    assert tokens.verify(signer.token()).key_id == signer.kid


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.7", True),
        ("169.254.169.254", True),  # the metadata service of cloud providers
        ("100.64.0.1", True),
        ("fd00::1", True),
        ("fe80::1%eth0", True),
        ("::ffff:10.0.0.7", True),
        ("::ffff:100.64.0.1", True),
        ("0.0.0.0", True),
        ("104.18.2.161", False),
        ("::ffff:104.18.2.161", False),
        ("2606:4700::6812:2a1", False),
    ],
)
def test_which_addresses_are_private(address: str, expected: bool) -> None:
    assert is_private(address) == expected


# --- Threads ---------------------------------------------------------------------------------------


class Gate:
    """A response that waits until it is opened."""

    def __init__(self, then: Answer) -> None:
        self.then, self.reached, self.opened = then, threading.Event(), threading.Event()
        self.was_given_up = False

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        self.reached.set()
        self.was_given_up = self.was_given_up or not self.opened.wait(10)
        self.then(request)


def test_one_request_refreshes_an_old_set_and_the_others_do_not_wait(
    jwks: JwksServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authn.jwt.jwks.TIMEOUT_SECONDS", 30.0)  # longer than the gate waits
    signer = Signer.unknown()
    jwks.lists(signer)
    tokens.verify(signer.token())
    jwks.answer = gate = Gate(jwks.answer)
    clock.now += TTL + 0.1

    with ThreadPoolExecutor(1) as pool:
        refreshing = pool.submit(tokens.verify, signer.token())
        assert gate.reached.wait(15)
        for _ in range(20):
            assert tokens.verify(signer.token()).key_id == signer.kid
        assert not gate.was_given_up
        gate.opened.set()

    assert refreshing.result().key_id == signer.kid
    assert len(jwks.paths) == 2


def test_requests_during_the_first_load_wait_for_it_and_share_it(
    jwks: JwksServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "MAX_WAIT_SECONDS", 30.0)  # the test's own server needs some time
    signer = Signer.unknown()
    jwks.answer = gate = Gate(respond_with(jwks_document(signer)))

    with ThreadPoolExecutor(50) as pool:
        verified = [pool.submit(tokens.verify, signer.token()) for _ in range(50)]
        assert gate.reached.wait(15)
        assert not wait(verified, timeout=0.2).done
        gate.opened.set()

    assert {claims.result().key_id for claims in verified} == {signer.kid}
    assert len(jwks.paths) == 1


def test_has_keys_does_not_wait_while_keys_are_loaded(jwks: JwksServer) -> None:
    signer = Signer.unknown()
    jwks.answer = gate = Gate(respond_with(jwks_document(signer)))

    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(tokens.verify, signer.token())
        assert gate.reached.wait(15)
        with pytest.raises(Unavailable):
            keys.has_keys()
        gate.opened.set()

    assert loading.result().key_id == signer.kid
    assert keys.has_keys()


def test_while_the_source_hangs_known_keys_work_and_unknown_ones_hold_few_threads(
    jwks: JwksServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One forged token waits for the source, others wait briefly, and later ones are refused at once."""
    monkeypatch.setattr("authn.jwt.jwks.TIMEOUT_SECONDS", 30.0)  # longer than the gate waits
    signer = Signer.unknown()
    jwks.lists(signer)
    tokens.verify(signer.token())
    jwks.answer = gate = Gate(jwks.answer)

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(keys.find, "forged")
        assert gate.reached.wait(15)
        forged = [pool.submit(keys.find, f"forged-{number}") for number in range(200)]
        known = pool.submit(tokens.verify, signer.token())
        refusals = [find.exception() for find in forged]
        assert known.result().key_id == signer.kid
        assert not gate.was_given_up
        gate.opened.set()

    assert {type(refusal) for refusal in refusals} == {Unavailable}
    assert {getattr(refusal, "reason", None) for refusal in refusals} == {"keys_unavailable"}
    assert first.result() is None
    assert (len(jwks.paths), count_outages(caplog)) == (2, 0)


def test_while_the_first_load_hangs_other_requests_wait_only_briefly(
    jwks: JwksServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without keys no JWT can be verified, but requests with a session cookie need the threads."""
    monkeypatch.setattr("authn.jwt.jwks.TIMEOUT_SECONDS", 30.0)  # longer than the gate waits
    monkeypatch.setattr(keys, "MAX_WAIT_SECONDS", 0.2)
    signer = Signer.unknown()
    jwks.answer = gate = Gate(respond_with(jwks_document(signer)))

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(keys.find, signer.kid)
        assert gate.reached.wait(15)
        others = [pool.submit(keys.find, f"forged-{number}") for number in range(200)]
        refusals = [getattr(find.exception(), "reason", None) for find in others]
        assert not gate.was_given_up
        gate.opened.set()

    assert set(refusals) == {"keys_unavailable"}
    assert first.result() is not None
    assert len(jwks.paths) == 1


def test_a_source_that_failed_is_tried_by_one_request_and_no_other_waits_for_it(
    jwks: JwksServer, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("authn.jwt.jwks.TIMEOUT_SECONDS", 30.0)
    monkeypatch.setattr(keys, "MAX_WAIT_SECONDS", 60.0)  # longer than the gate waits
    signer = Signer.unknown()
    jwks.answer = respond_with(b"", 500)
    with pytest.raises(Unavailable):
        keys.find(signer.kid)
    jwks.answer = gate = Gate(respond_with(jwks_document(signer)))
    clock.now += PAUSE_SECONDS

    with ThreadPoolExecutor(1) as pool:
        trying = pool.submit(keys.find, signer.kid)
        assert gate.reached.wait(15)
        for _ in range(20):
            with pytest.raises(Unavailable):
                keys.find(signer.kid)
        assert not gate.was_given_up
        gate.opened.set()

    assert trying.result() is not None
    assert (len(jwks.paths), count_outages(caplog)) == (2, 1)


def test_requests_wait_for_a_lock_that_is_held_without_a_fetch(jwks: JwksServer) -> None:
    jwks.lists()
    assert keys.find("forged") is None

    with ThreadPoolExecutor(1) as pool:
        with keys._key_set._lock:  # as if held by a request that the empty bucket stops
            turned_away = pool.submit(keys.find, "forged")
            assert not wait([turned_away], timeout=0.1).done
        assert turned_away.result() is None


def test_a_request_waits_for_a_new_key_that_another_request_loads(
    jwks: JwksServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "MAX_WAIT_SECONDS", 30.0)  # the test's own server needs some time
    old, new = Signer.unknown(), Signer.unknown()
    jwks.lists(old)
    tokens.verify(old.token())
    jwks.answer = gate = Gate(respond_with(jwks_document(old, new)))

    with ThreadPoolExecutor(4) as pool:
        verified = [pool.submit(tokens.verify, new.token()) for _ in range(4)]
        assert gate.reached.wait(15)
        gate.opened.set()

    assert {claims.result().key_id for claims in verified} == {new.kid}
    assert len(jwks.paths) == 2


def test_no_request_in_flight_is_refused_while_keys_rotate(
    auth: BetterAuth, django_db_blocker: DjangoDbBlocker
) -> None:
    """With committed rows, real threads and the real clock."""
    with django_db_blocker.unblock(), restored_jwks_table():
        live = [Signer.in_jwks_table().token()]
        over = threading.Event()

        def keep_verifying() -> int:
            verified = 0
            while not over.wait(0.005):
                try:
                    tokens.verify(live[-1])
                finally:
                    connection.close()  # as Django does at the end of a request
                verified += 1
            return verified

        with ThreadPoolExecutor(50) as pool:
            requests = [pool.submit(keep_verifying) for _ in range(50)]
            for _ in range(4):
                time.sleep(0.1)
                live.append(Signer.in_jwks_table().token())
            time.sleep(0.1)
            over.set()

        assert all(request.result() for request in requests)
