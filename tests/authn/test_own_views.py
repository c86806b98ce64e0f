"""A team's own views: wrong uses of the permission classes, and other authentication classes.

tests/authn/test_alone.py tests them with a real Better Auth.
"""

from types import SimpleNamespace
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.urls import ResolverMatch, include, path
from drf_spectacular.generators import SchemaGenerator
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory, force_authenticate
from rest_framework.views import APIView

from authn.authentication import BetterAuthJWTAuthentication
from authn.integrations.django import better_auth_required
from authn.integrations.ninja import BetterAuth
from authn.oauth.authentication import OAuthAccessTokenAuthentication
from authn.oauth.metadata import metadata_url
from authn.permissions import HasRole, IdentityPermission, IsEmailVerified, IsMember
from tests.fixtures.accounts.people import Person


class View(APIView):
    authentication_classes = [BetterAuthJWTAuthentication]
    permission_classes: Any = [IsEmailVerified]

    def get(self, request: Request) -> Response:
        return Response({"user_id": getattr(request, "user_id", "")})


def with_permission(permission: Any) -> type[View]:
    return type("View", (View,), {"permission_classes": [permission]})


@pytest.fixture
def organizations(settings: Any) -> None:
    """Permission classes can be used as if the settings listed the plugins."""
    settings.BETTER_AUTH_PLUGINS = ["admin", "organization"]


@pytest.mark.usefixtures("organizations")
@pytest.mark.parametrize(
    "permission", [IsEmailVerified, lambda: HasRole("admin"), lambda: IsMember(active=True)]
)
def test_a_request_that_another_authentication_class_has_accepted_is_refused(permission: Any) -> None:
    request = APIRequestFactory().get("/")
    staff = SimpleNamespace(is_authenticated=True, email_verified=True, roles={"admin"})
    force_authenticate(request, user=staff, token=SimpleNamespace(user=staff))

    assert with_permission(permission).as_view()(request).status_code == 403
    assert with_permission(AllowAny).as_view()(request).status_code == 200


@pytest.mark.parametrize(
    ("make", "plugin"),
    [
        (lambda: HasRole("admin"), "admin"),
        (IsMember, "organization"),
        (lambda: IsMember(role="owner"), "organization"),
        (lambda: better_auth_required(permission_classes=[IsMember]), "organization"),
        (lambda: BetterAuth(IsMember), "organization"),
    ],
    ids=["role", "member", "owner", "decorator", "ninja"],
)
def test_a_permission_without_its_plugin_is_an_error_at_once(make: Any, plugin: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"the {plugin} plugin, which BETTER_AUTH_PLUGINS"):
        make()


@pytest.mark.usefixtures("organizations")
@pytest.mark.parametrize(
    "make",
    [HasRole, lambda: IsMember(kwarg="id", active=True), lambda: IsMember(header="X-A", kwarg="id")],
    ids=["no-role", "two-sources", "two-other-sources"],
)
def test_a_permission_that_could_mean_two_things_is_an_error_at_once(make: Any) -> None:
    with pytest.raises(ImproperlyConfigured):
        make()


@pytest.mark.usefixtures("organizations")
@pytest.mark.parametrize("role", ["", [], set(), [""]])
def test_an_empty_list_of_roles_does_not_mean_every_member(role: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="empty role"):
        IsMember(role)


@pytest.mark.django_db
def test_a_url_without_the_argument_is_an_error_that_names_it(settings: Any, person: Person) -> None:
    settings.BETTER_AUTH_PLUGINS = ["organization"]
    request = APIRequestFactory().get("/", HTTP_AUTHORIZATION=f"Bearer {person.token()}")

    with pytest.raises(ImproperlyConfigured, match="the URL has no argument team"):
        with_permission(IsMember(kwarg="team")).as_view()(request)


@pytest.mark.parametrize(
    "permission", [IsMember, IsEmailVerified & IsMember, AllowAny | ~(IsEmailVerified & IsMember)]
)
def test_a_check_finds_a_permission_in_the_urls_and_names_the_plugin(settings: Any, permission: Any) -> None:
    view = with_permission(permission).as_view()
    patterns = [path("api/", include([path("own", view)]))]
    settings.ROOT_URLCONF = type("urls", (), {"urlpatterns": patterns})

    messages = {message.id: message for message in run_checks()}

    assert "IsMember needs the organization plugin" in messages["authn.E031"].msg
    assert "Add organization to BETTER_AUTH_PLUGINS" in (messages["authn.E031"].hint or "")
    settings.BETTER_AUTH_PLUGINS = ["organization"]
    assert "authn.E031" not in {message.id for message in run_checks()}


@pytest.mark.django_db
def test_djangos_request_has_the_user_id_too(person: Person) -> None:
    request = APIRequestFactory().get("/", HTTP_AUTHORIZATION=f"Bearer {person.token()}")

    @better_auth_required
    def view(request: HttpRequest) -> Any:
        return getattr(request, "user_id", None), request.user.pk

    assert view(request) == (person.user_id, person.user_id)


class IsForOwnOrganization(IdentityPermission):
    def allows(self, identity: Any, request: Request, view: APIView) -> bool:
        return bool(view.kwargs["organization_id"] == "own")


@pytest.mark.django_db
def test_a_plain_view_is_refused_by_the_arguments_that_it_gets(person: Person) -> None:
    request = APIRequestFactory().get("/", HTTP_AUTHORIZATION=f"Bearer {person.token()}")
    request.resolver_match = ResolverMatch(lambda: None, (), {"organization_id": "own"})

    @better_auth_required(permission_classes=[IsForOwnOrganization])
    def view(request: HttpRequest, organization_id: str) -> HttpResponse:
        return HttpResponse(organization_id)

    assert view(request, organization_id="own").status_code == 200
    assert view(request, organization_id="another").status_code == 403


class OAuthView(View):
    def get_authenticators(self) -> list[Any]:
        resource = "https://api.example.com/mcp"
        return [OAuthAccessTokenAuthentication(resource, metadata_url(resource))]


def test_drf_spectacular_describes_the_authentication_class_of_a_view(settings: Any) -> None:
    settings.BETTER_AUTH_PLUGINS = ["oauth-provider"]
    patterns = [path("own", View.as_view()), path("oauth", OAuthView.as_view())]

    document = SchemaGenerator(patterns=patterns).get_schema(public=True)

    assert document["paths"]["/own"]["get"]["security"] == [{"betterAuth_jwt": []}]
    assert document["paths"]["/oauth"]["get"]["security"] == [{"betterAuth_oauth": []}]
    schemes = document["components"]["securitySchemes"]
    assert schemes["betterAuth_jwt"]["bearerFormat"] == "JWT"
    assert schemes["betterAuth_oauth"]["bearerFormat"] == "OAuth access token"
