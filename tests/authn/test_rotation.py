"""Keys that rotate at a real Better Auth while our server has requests in flight."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt

from chatbackend.dev.postgres import create_database
from tests.authn.deployments import with_plugins
from tests.authn.test_compatibility import DOOR
from tests.server import operation


def test_rotation_refuses_none_of_fifty_requests_in_flight(
    postgres_url: str, start_other_better_auth: Callable[..., Any], start_api: Callable[..., Any]
) -> None:
    url = create_database(postgres_url, "rotation")
    own = DOOR | {"BETTER_AUTH_DATABASE_URL": url}
    rotating = with_plugins(rotationInterval=2)
    with (
        start_other_better_auth(DATABASE_URL=url, PLUGINS=rotating) as auth,
        start_api(**own, BETTER_AUTH_URL=auth.origin) as api,
    ):
        person = auth.sign_up()

        def request(_number: int) -> tuple[str, int]:
            token = person.token()
            kid = jwt.get_unverified_header(token)["kid"]
            return kid, api.post(operation("threads.list"), token).status_code

        answers: list[tuple[str, int]] = []
        with ThreadPoolExecutor(50) as pool:
            while len({kid for kid, _ in answers}) < 3:
                answers += pool.map(request, range(50))

    assert {status for _, status in answers} == {200}
