"""Access tokens of a real Better Auth, at an endpoint of ours."""

from tests.fixtures.accounts.people import Person
from tests.fixtures.oauth.clients import OAuthClient, Tokens
from tests.fixtures.oauth.endpoint import Endpoint


def test_a_client_acts_for_the_user_who_has_allowed_it(
    endpoint: Endpoint, client_of_all: OAuthClient, user: Person, tokens: Tokens
) -> None:
    response = endpoint.get(tokens.access)

    assert response.status_code == 200, endpoint.record(response)
    assert response.json() == {
        "user_id": user.user_id,
        "client_id": client_of_all.client_id,
        "scopes": ["offline_access", "tools:read"],
        "session_id": user.session_id,
        "statements": 1,
    }
