"""The app ``authn`` in a project of a team's own, with Django's own handlers and the fewest packages.

One server runs the project of tests/fixtures/team_project and the code of docs/permissions.md. Its Python
finds only Django, DRF, PyJWT with cryptography, psycopg, and the packages that these four need.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from packaging.requirements import Requirement

from chatbackend.dev.postgres import create_database
from chatbackend.dev.processes import free_port, wait_until_it_answers
from tests.fixtures.accounts.organizations import Organization
from tests.fixtures.accounts.people import BetterAuth, Person
from tests.fixtures.accounts.refusals import BAD_TOKEN, NO_CREDENTIALS, body_of
from tests.fixtures.code_blocks import TOP, blocks
from tests.fixtures.servers.api import http
from tests.fixtures.servers.deployments import with_ids, with_plugins
from tests.fixtures.servers.forkserver import uvicorn

PACKAGES = ["django", "djangorestframework", "pyjwt[crypto]", "psycopg[binary]"]
PROJECT = ["authn", "runtime", "team_project", "shop"]
PAGE = (TOP / "docs/compatibility.md").read_text()
ROLE, MEMBERS = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)[:2]
GRANT = re.compile(r"^GRANT SELECT \((?P<columns>.*)\) ON (?P<table>\S+) TO \w+;", re.MULTILINE)


def needed(requirements: list[str]) -> Iterator[Distribution]:
    """The installed packages that these requirements name, and those that they need themselves."""
    for requirement in map(Requirement, requirements):
        found = distribution(requirement.name)
        yield found
        extras = requirement.extras or {""}
        own = [
            each
            for each in found.requires or []
            for extra in extras
            if (marker := Requirement(each).marker) is None or marker.evaluate({"extra": extra})
        ]
        yield from needed(list(dict.fromkeys(own)))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with these packages, our apps and the project.

    Everything is a link, except the app ``shop``, which has the code of docs/permissions.md.
    """
    folder = tmp_path_factory.mktemp("installed")
    for package in needed(PACKAGES):
        for name in {file.parts[0] for file in package.files or []} - {"..", "__pycache__"}:
            if not (folder / name).exists():
                (folder / name).symlink_to(Path(str(package.locate_file(name))))
    for name in ("authn", "runtime", "tests/fixtures/team_project"):
        (folder / Path(name).name).symlink_to(TOP / name)
    (folder / "shop").mkdir()
    for block in blocks("test_alone.py", "python"):
        (folder / block.text.splitlines()[0].removeprefix("# ")).write_text(block.text)
    return folder


@pytest.fixture(scope="module")
def owner(postgres_url: str) -> str:
    """The URL of the project's database for its owner. Better Auth's tables are in the same database."""
    return create_database(postgres_url, "alone")


@pytest.fixture(scope="module")
def better_auth(owner: str, start_other_better_auth: Callable[..., Any]) -> Iterator[BetterAuth]:
    with start_other_better_auth(
        DATABASE_URL=owner, PLUGINS=with_plugins("admin", "organization"), OPTIONS=with_ids("uuid")
    ) as running:
        yield running


@pytest.fixture(scope="module")
def environment(owner: str, better_auth: BetterAuth, installed: Path) -> dict[str, str]:
    """The project reads Better Auth's tables with the role of docs/compatibility.md."""
    with psycopg.connect(owner) as database:
        database.execute((ROLE + MEMBERS).replace("chatbackend_reader", "team_reader"))
    _, _, host = owner.partition("//")[2].rpartition("@")
    return {
        "DJANGO_SETTINGS_MODULE": "team_project.settings",
        "PYTHONPATH": str(installed),
        "DATABASE_URL": owner,
        "BETTER_AUTH_DATABASE_URL": f"postgresql://team_reader:a-password-of-its-own@{host}",
        "BETTER_AUTH_URL": better_auth.origin,
    }


@dataclass
class Team:
    """The running project. ``report``: what ``team_project.start`` has printed."""

    origin: str
    report: dict[str, Any]
    log: Path

    def get(self, path: str, token: str = "", **headers: str) -> httpx2.Response:
        return self.send("GET", path, token, **headers)

    def send(self, method: str, path: str, token: str = "", **headers: str) -> httpx2.Response:
        own = {name.replace("_", "-"): value for name, value in headers.items()}
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        return http.request(method, f"{self.origin}{path}", headers=bearer | own, follow_redirects=False)

    def audit(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith('{"time"')]
        return [line for line in lines if line["logger"] == "authn.audit"]


@pytest.fixture(scope="module")
def team(
    environment: dict[str, str], installed: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Team]:
    """The project on Django's development server, which is WSGI."""
    port, folder = free_port(), tmp_path_factory.mktemp("team")
    command = [sys.executable, "-S", "-W", "error", "-m", "team_project.start", str(port)]
    with (folder / "out").open("w") as out, (folder / "log").open("w") as log:
        running = subprocess.Popen(command, env=environment, cwd=installed, stdout=out, stderr=log)
        try:
            wait_until_it_answers(running, port, "/profile", "team_project", (folder / "log").read_text)
            report = json.loads((folder / "out").read_text().splitlines()[0])
            yield Team(f"http://127.0.0.1:{port}", report, folder / "log")
        finally:
            running.kill()
            running.wait()


@pytest.fixture(scope="module")
def asgi(environment: dict[str, str], team: Team, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """The same project with Django's ASGI handler, and with the package django-ninja."""
    port, log = free_port(), tmp_path_factory.mktemp("asgi") / "log"
    with uvicorn(["team_project.asgi:application", "--port", str(port)], environment, port, log):
        yield Team(f"http://127.0.0.1:{port}", team.report, log)


@pytest.fixture(scope="module")
def administrator(better_auth: BetterAuth, owner: str) -> Person:
    """An administrator of Better Auth. They have changed the roles of others with Better Auth's own API."""
    person = better_auth.sign_up()
    with psycopg.connect(owner) as database:
        database.execute("UPDATE \"user\" SET role = 'admin' WHERE id = %s", [person.user_id])
    return person


@pytest.fixture(scope="module")
def organization(better_auth: BetterAuth) -> Organization:
    return Organization.created_by(better_auth.sign_up())


# --- The project ----------------------------------------------------------------------------------


def test_every_module_can_be_imported_without_the_packages_that_are_not_installed(team: Team) -> None:
    others = {name for name in team.report["packages"] if name not in sys.stdlib_module_names}
    others -= {name for name in others if name.startswith("_")}

    assert team.report["missing"] == {"authn.openapi": "drf_spectacular", "authn.integrations.ninja": "ninja"}
    assert others <= {
        *("django", "rest_framework", "asgiref", "sqlparse", "typing_extensions", "tzdata"),
        *("jwt", "cryptography", "cffi", "psycopg", "psycopg_binary", "cython_runtime"),
        *PROJECT,
    }


def test_the_checks_and_the_doctor_find_no_fault_in_the_project(team: Team) -> None:
    status, output = team.report["doctor"]
    outcomes = {each["name"]: each["outcome"] for each in json.loads(output)["examinations"]}

    assert team.report["check"] == [0, "System check identified no issues (0 silenced).\n"]
    assert "authn" not in team.report["makemigrations"][1]
    assert status == 0
    assert "failure" not in outcomes.values()
    assert (outcomes["settings"], outcomes["connections"], outcomes["jwks"]) == ("ok", "skipped", "skipped")


def test_a_view_returns_the_rows_of_the_user(team: Team, better_auth: BetterAuth) -> None:
    ada, bob = better_auth.sign_up(), better_auth.sign_up()
    token = ada.token()

    created = http.post(
        f"{team.origin}/orders/", json={"title": "Tea"}, headers={"Authorization": f"Bearer {token}"}
    )

    assert created.status_code == 201
    assert [order["title"] for order in team.get("/orders/", token).json()] == ["Tea"]
    assert team.get(f"/orders/{created.json()['id']}/", token).status_code == 200
    assert team.get("/orders/", bob.token()).json() == []
    assert team.get(f"/orders/{created.json()['id']}/", bob.token()).status_code == 404


def test_the_admin_lists_sessions_beside_the_teams_own_accounts_for_staff(
    team: Team, better_auth: BetterAuth
) -> None:
    person = better_auth.sign_up()
    staff = {"Cookie": f"sessionid={team.report['admin_cookie']}"}

    sessions = team.get("/admin/authn/session/", **staff)
    users = team.get(f"/admin/authn/user/{person.user_id}/change/", **staff)

    assert (sessions.status_code, users.status_code) == (200, 200)
    assert person.email in sessions.text
    assert "python-httpx2/" in sessions.text  # the user agent, because ua-parser is not installed
    assert person.session_id in users.text


# --- Refusals -------------------------------------------------------------------------------------


def signed_out(person: Person) -> str:
    token = person.token()
    person.sign_out()
    return token


@pytest.mark.parametrize(
    ("credential", "status", "message", "reason"),
    [
        (lambda _: "", 401, NO_CREDENTIALS, "no_credentials"),
        (lambda _: "a.b.c", 401, BAD_TOKEN, "malformed"),
        (signed_out, 404, "No active sessions found for user", "no_active_session"),
    ],
    ids=["no-credentials", "bad-token", "signed-out"],
)
@pytest.mark.parametrize("server", ["team", "asgi"])
def test_plain_views_refuse_like_our_own_api_and_drf_with_its_own_bodies(
    request: pytest.FixtureRequest,
    better_auth: BetterAuth,
    server: str,
    credential: Callable[[Person], str],
    status: int,
    message: str,
    reason: str,
) -> None:
    team: Team = request.getfixturevalue(server)
    token, so_far = credential(better_auth.sign_up()), len(team.audit())

    plain, drf = team.get("/profile", token), team.get("/orders/", token)

    assert (plain.status_code, plain.json()) == (status, body_of(message, status))
    assert drf.status_code == status
    assert drf.json().keys() == {"detail"}
    challenge = 'Bearer realm="shop"' if status == 401 else ""
    detail = ', error="invalid_token"' if challenge and token else ""
    assert plain.headers.get("WWW-Authenticate", "") == challenge + detail
    assert drf.headers.get("WWW-Authenticate", "") == challenge
    # DRF's own handler writes no record of a request without credentials: docs/permissions.md
    expected = [reason] if reason == "no_credentials" else [reason, reason]
    assert [line["reason"] for line in team.audit()[so_far:]] == expected


def test_a_plain_view_needs_no_csrf_token_and_an_async_view_works_too(
    team: Team, asgi: Team, organization: Organization
) -> None:
    token = organization.owner.token()

    assert team.send("POST", "/profile", token).json()["user_id"] == organization.owner.user_id
    assert team.send("POST", "/profile").status_code == 401
    for server in (team, asgi):
        assert server.get("/team", token).json() == {"roles": ["owner"]}
        assert server.get("/team").json() == body_of(NO_CREDENTIALS, 401)


def test_django_ninja_accepts_and_refuses_like_our_own_api(
    asgi: Team, better_auth: BetterAuth, organization: Organization
) -> None:
    person, owner, so_far = better_auth.sign_up(), organization.owner.token(), len(asgi.audit())
    token, billing = person.token(), f"/ninja/organizations/{organization.id}/billing"

    accepted, refused = asgi.get("/ninja/profile", token), asgi.get("/ninja/profile", "a.b.c")
    anonymous, stranger = asgi.get("/ninja/profile"), asgi.get(billing, token)

    assert accepted.json() == {"user_id": person.user_id, "email": person.email}
    assert (refused.status_code, refused.json()) == (401, body_of(BAD_TOKEN, 401))
    assert refused.headers["WWW-Authenticate"] == 'Bearer realm="shop", error="invalid_token"'
    assert anonymous.json() == body_of(NO_CREDENTIALS, 401)
    assert (stranger.status_code, stranger.json()) == (403, body_of(FORBIDDEN, 403))
    assert asgi.get(billing, owner).json() == {"organization_id": organization.id}
    assert [line["reason"] for line in asgi.audit()[so_far:]] == [
        *("ok", "malformed", "no_credentials", "ok", "ok")
    ]


# --- Permission classes ---------------------------------------------------------------------------

FORBIDDEN = "You do not have permission to perform this action."


def test_roles_and_the_verified_address_are_those_of_the_row_and_need_no_statement(
    team: Team, better_auth: BetterAuth, administrator: Person, owner: str
) -> None:
    person = better_auth.sign_up()
    token = person.token()  # the same in all steps: its claims stay as they were

    def ask() -> tuple[int, str, str]:
        response = team.send("POST", "/refunds", token)
        return response.status_code, response.json().get("detail", ""), response.headers["X-Statements"]

    neither = ask()
    administrator.post("admin/update-user", userId=person.user_id, data={"emailVerified": True})
    without_role = ask()
    with psycopg.connect(owner) as database:
        database.execute("UPDATE \"user\" SET role = 'superadmin' WHERE id = %s", [person.user_id])
    with_similar_role = ask()
    administrator.post("admin/set-role", userId=person.user_id, role=["user", "admin"])
    with_role = ask()
    administrator.post("admin/set-role", userId=person.user_id, role="user")

    assert neither == (403, "The email address is not verified", "1")
    assert [without_role, with_similar_role, ask()] == [(403, FORBIDDEN, "1")] * 3
    assert with_role == (200, "", "1")
    assert team.send("POST", "/refunds").status_code == 401


def test_a_stranger_and_a_missing_organization_get_the_same_response(
    team: Team, better_auth: BetterAuth, organization: Organization
) -> None:
    token = better_auth.sign_up().token()
    ids = (organization.id, "x" * 32, "%00", "%F0%9F%8D%B5", "a" * 5000)
    owners = team.get(f"/organizations/{organization.id}/projects", organization.owner.token())

    answers = [team.get(f"/organizations/{each}/projects", token) for each in ids]

    assert (owners.status_code, owners.json()) == (200, [])
    assert {(each.status_code, each.content) for each in answers} == {(403, answers[0].content)}
    assert answers[0].json() == {"detail": FORBIDDEN}
    # One statement finds the user, and one the membership. The view of the owner reads the projects too.
    statements = [each.headers["X-Statements"] for each in (owners, *answers)]
    assert statements == ["3", "2", "2", "1", "1", "1"]


def test_a_membership_ends_with_its_row_although_it_is_the_sessions_active_organization(
    team: Team, better_auth: BetterAuth, organization: Organization
) -> None:
    person = better_auth.sign_up()
    token, address = person.token(), f"/organizations/{organization.id}/projects"

    def statuses() -> list[int]:
        return [team.get(path, token).status_code for path in (address, "/team")]

    before = statuses()
    member_id = organization.invite(person, "member")
    person.post("organization/set-active", organizationId=organization.id)
    during = statuses()
    organization.owner.post(
        "organization/remove-member", memberIdOrEmail=member_id, organizationId=organization.id
    )

    assert (before, during, statuses()) == ([403, 403], [200, 200], [403, 403])


def test_the_active_organization_without_a_membership_is_refused(
    team: Team, better_auth: BetterAuth, organization: Organization, owner: str
) -> None:
    person = better_auth.sign_up()
    token = person.token()
    with psycopg.connect(owner) as database:
        change = 'UPDATE "session" SET "activeOrganizationId" = %s WHERE "userId" = %s'
        database.execute(change, [organization.id, person.user_id])

    assert team.get("/team", token).status_code == 403


def test_a_role_is_that_of_this_organization_and_may_be_one_of_several(
    team: Team, better_auth: BetterAuth, organization: Organization
) -> None:
    person = better_auth.sign_up()
    own = person.post("organization/create", name="Own", slug=f"own-{person.user_id.lower()}")
    member_id, token = organization.invite(person, "member"), person.token()

    def billing(organization_id: str) -> tuple[int, str]:
        response = team.get("/billing", token, X_Organization=organization_id)
        return response.status_code, response.headers["X-Statements"]

    as_owner, as_member = billing(own["id"]), billing(organization.id)
    organization.owner.post(
        "organization/update-member-role",
        memberId=member_id,
        role=["member", "admin"],
        organizationId=organization.id,
    )

    assert (as_owner, as_member, billing(organization.id)) == ((200, "2"), (403, "2"), (200, "2"))
    assert team.get("/billing", token).status_code == 403
    assert team.get("/billing", X_Organization=own["id"]).status_code == 401


@pytest.mark.parametrize(
    ("table", "column"),
    [
        (found["table"], column)
        for found in GRANT.finditer(MEMBERS)
        for column in found["columns"].split(", ")
    ],
    ids=str,
)
def test_each_column_that_is_granted_for_the_organization_plugin_is_needed(
    team: Team, organization: Organization, owner: str, table: str, column: str
) -> None:
    token, address = organization.owner.token(), f"/organizations/{organization.id}/projects"

    with psycopg.connect(owner, autocommit=True) as database:
        database.execute(f"REVOKE SELECT ({column}) ON {table} FROM team_reader")
        try:
            without = team.get(address, token).status_code
        finally:
            database.execute(f"GRANT SELECT ({column}) ON {table} TO team_reader")

    assert (without, team.get(address, token).status_code) == (500, 200)
