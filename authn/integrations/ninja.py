"""Better Auth's users in Django Ninja. Needs the package django-ninja.

```
api = NinjaAPI(auth=BetterAuth())
api.add_exception_handler(RefusedByBetterAuth, respond)
```
"""

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from ninja.errors import HttpError
from ninja.security.http import HttpAuthBase

from authn.integrations.django import refusal
from authn.sessions import Identity


class RefusedByBetterAuth(HttpError):
    """The request was refused. Without the handler ``respond``, Ninja sends our status with its own body."""

    def __init__(self, response: Any) -> None:
        super().__init__(response.status_code, str(response.data["error"]))
        self.response = response


class BetterAuth(HttpAuthBase):
    """For Ninja's ``auth``. Sets ``request.auth`` to the ``Identity``, and ``request.user_id``."""

    openapi_scheme = "bearer"

    def __init__(self, *permission_classes: Any) -> None:
        super().__init__()
        for permission in permission_classes:
            permission()  # raises ImproperlyConfigured at once, and not only at the first request
        self.permission_classes: Sequence[Any] = permission_classes

    def __call__(self, request: HttpRequest) -> Identity:
        kwargs = request.resolver_match.kwargs if request.resolver_match else {}
        if (refused := refusal(request, self.permission_classes, kwargs)) is not None:
            raise RefusedByBetterAuth(refused)
        identity: Identity = request.auth  # type: ignore[attr-defined]
        return identity


def respond(request: HttpRequest, refused: RefusedByBetterAuth) -> HttpResponseBase:
    response: HttpResponseBase = refused.response
    return response
