"""Session cookies and session tokens: each only if it is listed, and never two credentials at once."""

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import httpx2
import psycopg
import pytest
from django.db import OperationalError, connection
from django.test import Client, RequestFactory
from django.utils import timezone
from rest_framework.request import Request

from authn.authentication import BetterAuthCookieAuthentication
from authn.errors import OriginRefused
from authn.models import Session
from chatbackend.dev.postgres import create_database
from tests.fixtures.accounts.people import PASSWORD, BetterAuth, Person
from tests.fixtures.accounts.refusals import BAD_TOKEN, NO_CREDENTIALS, REALM, SIGNED_OUT, body_of
from tests.fixtures.accounts.session_tokens import COOKIE_NAME, post_from_page, signed
from tests.fixtures.chatkit.kept_contexts import CONTEXTS
from tests.fixtures.environment import BETTER_AUTH_SECRET, BETTER_AUTH_URL, PAGE_ORIGIN
from tests.fixtures.servers.api import Api, http, operation

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _secret(settings: Any) -> None:
    settings.BETTER_AUTH_SECRET = BETTER_AUTH_SECRET


@pytest.fixture
def enable(settings: Any) -> Callable[..., None]:
    def make(*credentials: str) -> None:
        settings.BETTER_AUTH_CREDENTIALS = list(credentials)

    return make


def is_uniform_401(response: Any) -> bool:
    actual = (response.status_code, response.json(), response["WWW-Authenticate"])
    return bool(actual == (401, body_of(BAD_TOKEN, 401), f'{REALM}, error="invalid_token"'))


# --- Listed credentials ------------------------------------------------------------------------


def test_a_real_session_cookie_of_better_auth_is_accepted(
    client: Client, person: Person, enable: Callable[..., None], audit: Callable[[], list[dict[str, Any]]]
) -> None:
    enable("jwt", "cookie")

    response = post_from_page(client, cookie=f"theme=dark; {COOKIE_NAME}={person.cookie}; lang=en")

    assert response.status_code == 200
    [record] = audit()
    assert (record["credential"], record["user_id"]) == ("cookie", person.user_id)
    assert (record["session_id"], record["algorithm"]) == (person.session_id, None)


def test_a_signed_session_token_is_accepted_as_a_bearer_encoded_or_not(
    client: Client, person: Person, enable: Callable[..., None], audit: Callable[[], list[dict[str, Any]]]
) -> None:
    enable("bearer")

    statuses = [
        post_from_page(client, f"Bearer {value}").status_code
        for value in (person.cookie, signed(person.session_token, BETTER_AUTH_SECRET))
    ]

    assert statuses == [200, 200]
    assert {(record["credential"], record["user_id"]) for record in audit()} == {("bearer", person.user_id)}


def test_an_unsigned_token_is_only_accepted_if_the_setting_allows_it(
    client: Client, person: Person, enable: Callable[..., None], settings: Any
) -> None:
    enable("jwt", "cookie", "bearer")
    bare, signed_value = person.session_token, person.cookie
    before = post_from_page(client, f"Bearer {bare}")

    settings.BETTER_AUTH_BEARER_REQUIRE_SIGNATURE = False
    let_in = [post_from_page(client, f"Bearer {value}").status_code for value in (bare, signed_value)]
    unknown = post_from_page(client, f"Bearer {bare[::-1]}")
    in_the_cookie = post_from_page(client, cookie=f"{COOKIE_NAME}={bare}")
    person.sign_out()
    gone = post_from_page(client, f"Bearer {bare}")

    assert let_in == [200, 200]
    for response in (before, unknown, in_the_cookie, gone):  # nothing proves that Better Auth issued them
        assert is_uniform_401(response)


def test_a_session_token_gives_the_context_no_claims(
    client: Client, person: Person, enable: Callable[..., None], settings: Any
) -> None:
    enable("cookie")
    settings.CHATKIT_CONTEXT = "tests.fixtures.chatkit.kept_contexts.keep_context"

    post_from_page(client, cookie=f"{COOKIE_NAME}={person.cookie}")

    context = CONTEXTS.pop()
    assert (context.user_id, context.session.id) == (person.user_id, person.session_id)
    assert context.claims is None


@pytest.mark.parametrize(
    ("credentials", "show"),
    [
        (["jwt"], lambda person: f"Bearer {person.cookie}"),
        (["jwt"], lambda person: f"Bearer {person.session_token}"),
        (["jwt", "cookie"], lambda person: f"Bearer {person.cookie}"),
        (["jwt", "bearer"], lambda person: f"Bearer {person.session_token}"),
        (["bearer"], lambda person: f"Bearer {person.token()}"),
        (["cookie"], lambda person: f"Bearer {person.token()}"),
        (["cookie", "bearer"], lambda person: f"Bearer {person.token()}"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else "",
)
def test_a_kind_of_credential_that_is_not_listed_gets_the_uniform_401(
    client: Client,
    person: Person,
    enable: Callable[..., None],
    credentials: list[str],
    show: Callable[[Person], str],
) -> None:
    enable(*credentials)

    assert is_uniform_401(post_from_page(client, show(person)))


def test_a_cookie_is_ignored_if_cookies_are_not_listed(client: Client, person: Person) -> None:
    cookie = f"{COOKIE_NAME}={person.cookie}"

    assert post_from_page(client, cookie=cookie).json() == body_of(NO_CREDENTIALS, 401)
    assert post_from_page(client, f"Bearer {person.token()}", cookie).status_code == 200


# --- Only one credential ----------------------------------------------------------------------------------


TWO = {
    "JWT and cookie": lambda jwt, token: (f"Bearer {jwt}", f"{COOKIE_NAME}={token}"),
    "bearer and cookie": lambda jwt, token: (f"Bearer {token}", f"{COOKIE_NAME}={token}"),
    "a bad one and a good one": lambda jwt, token: ("Bearer a.b.c", f"{COOKIE_NAME}={token}"),
    "what is nothing and cookie": lambda jwt, token: ("Bearer undefined", f"{COOKIE_NAME}={token}"),
    "two JWTs": lambda jwt, token: (f"Bearer {jwt},Bearer {jwt}", ""),
    "JWT and bearer": lambda jwt, token: (f"Bearer {jwt}, bearer {token}", ""),
    "JWT and what is nothing": lambda jwt, token: (f"Bearer {jwt},BEARER {token[:8]}", ""),
    "JWT and two cookies": lambda jwt, token: (
        f"Bearer {jwt}",
        f"{COOKIE_NAME}={token}; {COOKIE_NAME}=planted",
    ),
}


@pytest.mark.parametrize("show", TWO.values(), ids=TWO)
def test_two_credentials_on_one_request_are_a_400(
    client: Client,
    person: Person,
    enable: Callable[..., None],
    audit: Callable[[], list[dict[str, Any]]],
    show: Callable[[str, str], tuple[str, str]],
) -> None:
    enable("jwt", "cookie", "bearer")

    response = post_from_page(client, *show(person.token(), person.cookie))

    message = "More than one credential on one request"
    assert (response.status_code, response.json()) == (400, body_of(message, 400))
    assert [record["reason"] for record in audit()] == ["two_credentials"]


def test_two_authorization_headers_are_a_400_on_a_real_server_too(api: Api, person: Person) -> None:
    token = person.token()
    headers = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]

    response = http.post(api.url, json=operation("threads.list"), headers=headers)

    assert response.status_code == 400


@pytest.mark.parametrize(
    "header", ["Bearer {0},Basic YTpi", "Bearer {0},{0}", "Bearer {0},", "Bearer {0} {0}", "Bearer  {0}"]
)
def test_anything_after_a_token_makes_it_invalid(client: Client, person: Person, header: str) -> None:
    assert is_uniform_401(post_from_page(client, header.format(person.token())))


# --- Cookies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "secure", "setting", "name"),
    [
        ("http://localhost:3000", None, "better-auth.session_token", "better-auth.session_token"),
        (
            "https://auth.example.com/",
            None,
            "better-auth.session_token",
            "__Secure-better-auth.session_token",
        ),
        ("HTTPS://auth.example.com", None, "acme.session_token", "__Secure-acme.session_token"),
        ("https://auth.example.com", None, "sid", "__Secure-sid"),
        ("https://auth.example.com", None, "__Secure-sid", "__Secure-sid"),
        ("http://auth.internal:3000", None, "__Secure-sid", "__Secure-sid"),
        ("https://auth.example.com", False, "better-auth.session_token", "better-auth.session_token"),
        (
            "http://auth.internal:3000",
            True,
            "better-auth.session_token",
            "__Secure-better-auth.session_token",
        ),
    ],
)
def test_only_the_cookie_with_better_auths_prefix_and_name_counts(
    client: Client,
    person: Person,
    enable: Callable[..., None],
    settings: Any,
    url: str,
    secure: bool | None,
    setting: str,
    name: str,
) -> None:
    enable("cookie")
    settings.BETTER_AUTH_URL, settings.BETTER_AUTH_COOKIE_NAME = url, setting
    if secure is not None:
        settings.BETTER_AUTH_SECURE_COOKIES = secure
    plain = name.removeprefix("__Secure-")
    others = {plain, f"__Secure-{plain}", f"__Host-{plain}", plain.upper(), f"{plain}_multi-x"} - {name}

    taken = post_from_page(client, cookie=f"{name}={person.cookie}")
    beside = post_from_page(
        client, cookie="; ".join([f"{other}=x" for other in others] + [f"{name}={person.cookie}"])
    )
    alone = [post_from_page(client, cookie=f"{other}={person.cookie}") for other in others]

    assert (taken.status_code, beside.status_code) == (200, 200)
    assert {response.json()["error"] for response in alone} == {NO_CREDENTIALS}


@pytest.mark.parametrize("before", ["\xa0", "\x85", "\x1f", "\x0b", "\u2003"], ids=ascii)
def test_a_secure_cookie_name_with_a_character_before_it_is_another_name(
    person: Person, enable: Callable[..., None], settings: Any, before: str
) -> None:
    enable("cookie")
    settings.BETTER_AUTH_URL = "https://auth.example.com"
    names = [
        f"{before}__Secure-{COOKIE_NAME}",
        f"__Secure-{COOKIE_NAME}{before}",
        f" \t__Secure-{COOKIE_NAME} \t",
    ]
    cookies = [
        f"{name}={value}" for name, value in zip(names, ["before", "behind", f" good{before}\t"], strict=True)
    ]
    request = RequestFactory().get("/support/somewhere", HTTP_COOKIE=";".join(cookies))

    assert BetterAuthCookieAuthentication().find(Request(request)) == [f"good{before}"]


INVALID_HEADERS = {
    "forged": lambda cookie: cookie[:40] + "AAAA" + cookie[44:],
    "truncated": lambda cookie: cookie[:-3],
    "quoted": lambda cookie: f'"{cookie}"',
    "empty": lambda cookie: "",
    "old secret": lambda cookie: signed(cookie.partition(".")[0], "the-secret-before"),
    "in two headers": lambda cookie: f"{cookie},{COOKIE_NAME}={cookie}",  # as an ASGI server joins them
}


@pytest.mark.parametrize("make_invalid", INVALID_HEADERS.values(), ids=INVALID_HEADERS)
def test_a_cookie_that_better_auth_did_not_sign_gets_the_uniform_401(
    client: Client, person: Person, enable: Callable[..., None], make_invalid: Callable[[str], str]
) -> None:
    enable("jwt", "cookie")

    assert is_uniform_401(post_from_page(client, cookie=f"{COOKIE_NAME}={make_invalid(person.cookie)}"))


def cookies(*values: str) -> str:
    return "; ".join(f"{COOKIE_NAME}={value}" for value in values)


# Arguments: a valid cookie, another user's valid cookie, and a cookie of an ended session.
Values = Callable[[str, str, str], list[str]]
SEVERAL: dict[str, tuple[Values, int, str]] = {
    "the same twice": (lambda good, other, ended: [good, good], 200, "ok"),
    "in two spellings": (lambda good, other, ended: [good, good.replace("%3D", "=")], 200, "ok"),
    "an ended one first": (lambda good, other, ended: [ended, good], 200, "ok"),
    "an ended one last": (lambda good, other, ended: [good, ended], 200, "ok"),
    "a planted one first": (lambda good, other, ended: ["planted", good], 200, "ok"),
    "a forged one last": (lambda good, other, ended: [good, INVALID_HEADERS["forged"](other)], 200, "ok"),
    "an empty one first": (lambda good, other, ended: ["", good], 200, "ok"),
    "four": (lambda good, other, ended: ["a", ended, good, "b"], 200, "ok"),
    "two good ones": (lambda good, other, ended: [good, other], 400, "several_session_cookies"),
    "five": (lambda good, other, ended: ["a", "b", "c", "d", good], 400, "several_session_cookies"),
    "an ended and a planted one": (lambda good, other, ended: ["x", ended], 404, "no_active_session"),
    "two planted ones": (lambda good, other, ended: ["x", "y"], 401, "malformed"),
}


@pytest.mark.parametrize(("choose", "status", "reason"), SEVERAL.values(), ids=SEVERAL)
def test_exactly_one_of_several_session_cookies_may_be_valid(
    client: Client,
    person: Person,
    other_person: Person,
    ended_cookie: str,
    enable: Callable[..., None],
    audit: Callable[[], list[dict[str, Any]]],
    choose: Values,
    status: int,
    reason: str,
) -> None:
    enable("jwt", "cookie")
    chosen = choose(person.cookie, other_person.cookie, ended_cookie)

    response = post_from_page(client, cookie=f"a=b; {cookies(*chosen)}; c=d")

    assert response.status_code == status
    [record] = audit()
    assert (record["reason"], record["credential"]) == (reason, "cookie")
    assert (record["user_id"] == person.user_id) == (status == 200)
    if status == 400:
        assert response.json() == body_of("More than one session cookie on one request", 400)


def test_two_sessions_of_one_user_count_as_two_valid_cookies(
    client: Client, person: Person, enable: Callable[..., None]
) -> None:
    enable("cookie")
    other = person.auth.sign_in(person.email)
    both = cookies(person.cookie, other.cookie)

    before = post_from_page(client, cookie=both).status_code
    person.sign_out()
    after = post_from_page(client, cookie=both).status_code

    assert (before, after) == (400, 200)


def test_refused_cookies_are_counted_and_do_not_block_a_valid_one(
    client: Client, person: Person, ended_cookie: str, enable: Callable[..., None], settings: Any
) -> None:
    enable("cookie")
    settings.REFUSED_RATE_PER_ADDRESS = "2/hour"

    of_two = [post_from_page(client, cookie=cookies(ended_cookie, "planted")).status_code for _ in range(3)]
    of_one = [post_from_page(client, cookie=cookies(ended_cookie)).status_code for _ in range(3)]

    assert of_two == [404, 404, 429]
    assert of_one[-1] == 429
    assert post_from_page(client, cookie=cookies(ended_cookie, person.cookie)).status_code == 200


def test_a_cookie_of_an_ended_session_is_counted_by_its_token_beside_other_cookies(
    client: Client, ended_cookie: str, enable: Callable[..., None], settings: Any
) -> None:
    enable("cookie")
    settings.REFUSED_RATE_PER_ADDRESS = "2/hour"

    pairs = [("x", ended_cookie), (ended_cookie, "y"), (ended_cookie, "z"), ("w", ended_cookie)]

    statuses = [post_from_page(client, cookie=cookies(*pair)).status_code for pair in pairs]

    assert statuses == [404, 404, 429, 429]


@pytest.mark.parametrize("turn", [1, -1], ids=["in one order", "in the other"])
def test_several_cookies_of_ended_sessions_are_each_counted_and_then_not_looked_up(
    client: Client,
    person: Person,
    enable: Callable[..., None],
    settings: Any,
    django_assert_num_queries: Callable[..., Any],
    turn: int,
) -> None:
    enable("cookie")
    settings.REFUSED_RATE_PER_ADDRESS = "2/hour"
    leaving = [person, person.auth.sign_in(person.email)]
    ended = cookies(*(each.cookie for each in leaving[::turn]))
    for each in leaving:
        each.sign_out()

    until_the_limit = [post_from_page(client, cookie=ended).status_code for _ in range(6)]
    with django_assert_num_queries(0):
        past_the_limit = post_from_page(client, cookie=ended).status_code

    assert until_the_limit == [404, 404, 429] * 2
    assert past_the_limit == 429


def test_two_valid_cookies_are_refused_together_and_accepted_alone(
    client: Client, person: Person, enable: Callable[..., None], settings: Any
) -> None:
    enable("cookie")
    settings.REFUSED_RATE_PER_ADDRESS = "2/hour"
    both = person.cookie, person.auth.sign_in(person.email).cookie

    together = [post_from_page(client, cookie=cookies(*both)).status_code for _ in range(4)]

    assert together == [400, 400, 429, 429]
    assert [post_from_page(client, cookie=cookies(each)).status_code for each in both] == [200, 200]


def test_more_than_four_session_cookies_are_not_looked_up(
    client: Client,
    person: Person,
    enable: Callable[..., None],
    django_assert_num_queries: Callable[..., Any],
) -> None:
    enable("cookie")
    token = person.session_token
    genuine = [signed(f"{token}{number}", BETTER_AUTH_SECRET) for number in range(5)]

    with django_assert_num_queries(0):
        response = post_from_page(client, cookie=cookies(*genuine))

    assert response.status_code == 400


def test_a_jwt_is_no_session_cookie(client: Client, person: Person, enable: Callable[..., None]) -> None:
    enable("jwt", "cookie")

    assert is_uniform_401(post_from_page(client, cookie=f"{COOKIE_NAME}={person.token()}"))


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "",
        "null",
        "https://evil.example",
        f"{PAGE_ORIGIN}.evil.example",
        PAGE_ORIGIN.replace("shop", "evil-shop"),
        PAGE_ORIGIN.replace("https:", "http:"),
        f"{PAGE_ORIGIN}:8443",
        f"{PAGE_ORIGIN}/",
        f"{PAGE_ORIGIN},{PAGE_ORIGIN}",
        PAGE_ORIGIN.upper(),
        "https://shop.example.com@evil.example",
        "https://shop.\u0435xample.com",  # a Cyrillic letter
        "*",
    ],
    ids=repr,
)
def test_a_cookie_from_a_page_that_is_not_allowed_is_a_403(
    client: Client, person: Person, enable: Callable[..., None], settings: Any, origin: str | None
) -> None:
    enable("jwt", "cookie")
    settings.CORS_ALLOWED_ORIGINS = [PAGE_ORIGIN, "null"]  # django-cors-headers allows it

    good, forged = (
        post_from_page(client, cookie=f"{COOKIE_NAME}={value}", origin=origin)
        for value in (person.cookie, "x")
    )

    message = "A session cookie is only accepted with the Origin of an allowed page"
    assert (good.status_code, good.json()) == (403, body_of(message, 403))
    assert forged.json() == good.json()  # so the page cannot learn whether there is a session


@pytest.mark.parametrize("origin", [PAGE_ORIGIN, BETTER_AUTH_URL], ids=["a page", "Better Auth"])
def test_pages_that_cors_allows_and_better_auths_own_may_send_the_cookie(
    client: Client, person: Person, enable: Callable[..., None], origin: str
) -> None:
    enable("cookie")

    assert post_from_page(client, cookie=f"{COOKIE_NAME}={person.cookie}", origin=origin).status_code == 200


@pytest.mark.parametrize(("method", "refused"), [("GET", False), ("HEAD", False), ("PUT", True), ("X", True)])
def test_a_safe_method_needs_no_origin(
    person: Person, enable: Callable[..., None], method: str, refused: bool
) -> None:
    enable("cookie")
    request = RequestFactory().generic(
        method, "/support/somewhere", HTTP_COOKIE=f"{COOKIE_NAME}={person.cookie}"
    )

    with pytest.raises(OriginRefused) if refused else nullcontext():
        assert BetterAuthCookieAuthentication().authenticate(Request(request))


def test_a_bearer_token_needs_no_origin_because_browsers_do_not_add_it(
    client: Client, person: Person, enable: Callable[..., None]
) -> None:
    enable("jwt", "cookie", "bearer")

    assert post_from_page(client, f"Bearer {person.cookie}", origin=None).status_code == 200


# --- Ended sessions -----------------------------------------------------------------------


SHOWN = {
    "cookie": lambda value: {"cookie": f"{COOKIE_NAME}={value}"},
    "bearer": lambda value: {"authorization": f"Bearer {value}"},
}


@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN)
def test_a_signed_session_token_finds_no_session_after_sign_out_or_expiry(
    client: Client,
    person: Person,
    enable: Callable[..., None],
    audit: Callable[[], list[dict[str, Any]]],
    show: Callable[[str], dict[str, str]],
) -> None:
    enable("cookie", "bearer")
    person.auth.sign_in(person.email)  # another active session does not help the cookie's session
    other, token = person.auth.sign_in(person.email), person.cookie
    Session.objects.using("default").filter(id=other.session_id).update(
        expires_at=timezone.now() - timedelta(seconds=1)
    )
    person.sign_out()

    ended, expired = (post_from_page(client, **show(value)) for value in (token, other.cookie))

    assert (ended.status_code, ended.json()) == (expired.status_code, expired.json()) == (404, SIGNED_OUT)
    assert [record["reason"] for record in audit()] == ["no_active_session"] * 2
    assert [record["user_id"] for record in audit()] == [None, person.user_id]


def test_an_unsigned_token_of_an_expired_session_counts_as_genuine(
    client: Client, person: Person, enable: Callable[..., None], settings: Any
) -> None:
    enable("bearer")
    settings.BETTER_AUTH_BEARER_REQUIRE_SIGNATURE = False
    Session.objects.using("default").filter(id=person.session_id).update(expires_at=timezone.now())

    response = post_from_page(client, f"Bearer {person.session_token}")

    assert (response.status_code, response.json()) == (404, SIGNED_OUT)


def test_a_deleted_user_has_no_session(client: Client, person: Person, enable: Callable[..., None]) -> None:
    enable("cookie")
    cookie = person.cookie
    person.post("delete-user", password="correct horse battery staple")

    assert post_from_page(client, cookie=f"{COOKIE_NAME}={cookie}").status_code == 404


def test_one_statement_finds_session_and_user_and_never_selects_the_token(
    client: Client,
    person: Person,
    enable: Callable[..., None],
    settings: Any,
    django_assert_num_queries: Callable[..., Any],
) -> None:
    enable("cookie")
    settings.CHATKIT_CONTEXT = "tests.fixtures.chatkit.kept_contexts.keep_context"
    session = Session.with_token(person.session_token)

    with django_assert_num_queries(1) as statements:
        [found] = session.select_related("user")
        _ = found.user.email, found.user_id, found.is_active, repr(found), found.user.name

    selected, _, condition = statements[0]["sql"].partition(" WHERE ")
    assert '"token"' not in selected
    assert '"token" = ' in condition
    assert person.session_token not in repr(vars(found)) + repr(vars(found.user))


def test_the_role_needs_the_token_column_only_for_session_tokens(
    client: Client, person: Person, enable: Callable[..., None]
) -> None:
    client.raise_request_exception = False
    enable("jwt", "cookie")
    jwt, cookie = f"Bearer {person.token()}", f"{COOKIE_NAME}={person.cookie}"
    columns = '"id", "userId", "expiresAt", "createdAt", "updatedAt", "ipAddress", "userAgent"'
    with connection.cursor() as cursor:  # the test's rollback undoes all of it
        cursor.execute("CREATE ROLE without_token")
        cursor.execute('GRANT SELECT ("id", "publicKey", "alg", "expiresAt") ON "jwks" TO without_token')
        cursor.execute('GRANT SELECT ON "user" TO without_token')
        cursor.execute("GRANT SELECT ON support_thread TO without_token")
        cursor.execute(f'GRANT SELECT ({columns}) ON "session" TO without_token')
        before = connection.savepoint()
        cursor.execute("SET LOCAL ROLE without_token")
        statuses = [
            post_from_page(client, jwt).status_code,
            post_from_page(client, cookie=cookie).status_code,
        ]
        connection.savepoint_rollback(before)
        cursor.execute('GRANT SELECT ("token") ON "session" TO without_token')
        cursor.execute("SET LOCAL ROLE without_token")
        statuses.append(post_from_page(client, cookie=cookie).status_code)

    assert statuses == [200, 500, 200]


def test_a_database_that_does_not_answer_is_a_503(
    client: Client, person: Person, enable: Callable[..., None], audit: Callable[[], list[dict[str, Any]]]
) -> None:
    enable("cookie")

    def broken(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        raise OperationalError("the server closed the connection unexpectedly")

    with connection.execute_wrapper(broken):
        response = post_from_page(client, cookie=f"{COOKIE_NAME}={person.cookie}")

    assert (response.status_code, response["Retry-After"]) == (503, "2")
    assert [record["reason"] for record in audit()] == ["database_unavailable"]


def test_no_response_and_no_log_line_holds_the_token(
    client: Client, person: Person, enable: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    client.raise_request_exception = False
    enable("jwt", "cookie", "bearer")
    token, cookie = person.session_token, person.cookie

    responses = [
        post_from_page(client, cookie=f"{COOKIE_NAME}={cookie}"),
        post_from_page(client, cookie=f"{COOKIE_NAME}={cookie}x"),
        post_from_page(client, f"Bearer {cookie}"),
        post_from_page(client, f"Bearer {token}"),
        post_from_page(client, f"Bearer {cookie}", f"{COOKIE_NAME}={cookie}"),
        post_from_page(client, cookie=f"{COOKIE_NAME}={cookie}", origin="null"),
    ]
    with connection.cursor() as cursor:  # causes a 500 with a traceback; the test's rollback undoes it
        cursor.execute('ALTER TABLE "session" RENAME COLUMN "userAgent" TO "agent"')
    responses.append(post_from_page(client, cookie=f"{COOKIE_NAME}={cookie}"))

    assert [response.status_code for response in responses] == [200, 401, 200, 401, 400, 403, 500]
    seen = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    seen += "".join(str(response.headers) + response.content.decode() for response in responses)
    assert "UndefinedColumn" in seen
    assert token not in seen


# --- A real server ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deployment(
    postgres_url: str, start_other_better_auth: Callable[..., Any], start_api: Callable[..., Any]
) -> Iterator[tuple[BetterAuth, Api, str]]:
    """Better Auth with its bearer() and admin() plugins, and a server that accepts every credential."""
    url = create_database(postgres_url, "with_bearer_plugin")
    plugins = json.dumps({"jwt": {}, "admin": {}, "bearer": {}})
    ours = {
        "BETTER_AUTH_CREDENTIALS": "jwt,cookie,bearer",
        "BETTER_AUTH_SECRET": BETTER_AUTH_SECRET,
        "BETTER_AUTH_PLUGINS": "admin",
    }
    with (
        start_other_better_auth(DATABASE_URL=url, PLUGINS=plugins) as auth,
        start_api(DATABASE_URL=url, BETTER_AUTH_URL=auth.origin, **ours) as api,
    ):
        yield auth, api, url


def post_to_server(api: Api, **headers: str) -> httpx2.Response:
    # This database has no chat tables, so use an operation that needs none. A 501 means: authenticated.
    return api.post(operation("input.transcribe", audio_base64="AAAA", mime_type="audio/webm"), **headers)


def test_a_token_of_the_bearer_plugin_is_accepted_and_a_ban_refuses_every_credential(
    deployment: tuple[BetterAuth, Api, str],
) -> None:
    auth, api, url = deployment
    person = auth.sign_up()
    signed_in = person.browser.post("sign-in/email", json={"email": person.email, "password": PASSWORD})
    given_out, bare = signed_in.headers["set-auth-token"], signed_in.json()["token"]
    credentials: list[dict[str, str]] = [
        {"Authorization": f"Bearer {person.token()}"},
        {"Authorization": f"Bearer {given_out}"},
        {"Cookie": f"{COOKIE_NAME}={person.cookie}", "Origin": auth.origin},
    ]

    before = [post_to_server(api, **headers).status_code for headers in credentials]
    not_signed = post_to_server(api, Authorization=f"Bearer {bare}")
    with psycopg.connect(url) as database:
        database.execute('UPDATE "user" SET banned = true WHERE id = %s', [person.user_id])
    banned = [post_to_server(api, **headers, X_Request_ID="a-banned-one") for headers in credentials]

    assert before == [501, 501, 501]
    assert not_signed.json() == body_of(BAD_TOKEN, 401)
    assert [response.json() for response in banned] == [body_of("User is banned", 403)] * 3
    records = api.audit_records("a-banned-one")
    assert [record["credential"] for record in records] == ["jwt", "bearer", "cookie"]
    assert {record["user_id"] for record in records} == {person.user_id}
    assert bare not in api.log.read_text()


def test_cors_allows_credentials_only_if_cookies_are_listed(
    deployment: tuple[BetterAuth, Api, str], api: Api
) -> None:
    preflight = {"Origin": PAGE_ORIGIN, "Access-Control-Request-Method": "POST"}
    _, with_cookies, _ = deployment

    allowed, not_allowed = (http.options(each.url, headers=preflight) for each in (with_cookies, api))

    assert allowed.headers["Access-Control-Allow-Credentials"] == "true"
    assert allowed.headers["Access-Control-Allow-Origin"] == PAGE_ORIGIN
    assert "Access-Control-Allow-Credentials" not in not_allowed.headers
