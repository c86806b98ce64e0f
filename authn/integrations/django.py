"""Better Auth's users in plain Django views: ``@better_auth_required``.

It runs the same code as a DRF view: it accepts and refuses the same requests, and writes the same audit log.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.views import APIView

from authn.authentication import BetterAuthAuthentication, challenge
from authn.responses import exception_handler


def better_auth_required(function: Any = None, *, permission_classes: Sequence[Any] = ()) -> Any:
    """Decorator for a sync or ``async`` view. Sets the request's ``user``, ``auth`` and ``user_id``."""

    for permission in permission_classes:
        permission()  # raises ImproperlyConfigured at once, and not only at the first request

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return refusal(request, permission_classes, kwargs) or view(request, *args, **kwargs)

        @wraps(view)
        async def guarded_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            refused = await sync_to_async(refusal)(request, permission_classes, kwargs)
            return refused or await view(request, *args, **kwargs)

        # No CSRF token is needed, as in DRF: a browser does not add the Authorization header by itself, and a
        # session cookie is accepted only with the Origin of an allowed page.
        return csrf_exempt(guarded_async if iscoroutinefunction(view) else guarded)

    return decorate if function is None else decorate(function)


def refusal(
    request: HttpRequest, permission_classes: Sequence[Any], kwargs: Mapping[str, Any]
) -> HttpResponseBase | None:
    """Accept the request and return ``None``, or return the response that refuses it.

    An accepted request has ``user``, ``auth`` and ``user_id``. ``kwargs``: the arguments that the view gets.
    Another view may have called it with other arguments than those of the URL.
    """
    gate = APIView()
    gate.kwargs = dict(kwargs)
    gate.authentication_classes = [BetterAuthAuthentication]
    gate.permission_classes = [IsAuthenticated, *permission_classes]
    gate.request = gate.initialize_request(request)
    try:
        gate.perform_authentication(gate.request)
        gate.check_permissions(gate.request)
    except Exception as exc:
        if isinstance(exc, AuthenticationFailed | NotAuthenticated):
            exc.auth_header = challenge()  # type: ignore[union-attr]
        response = exception_handler(exc, {"request": gate.request, "view": gate})
        if response is None:
            raise
        return _rendered(response)
    return None


def _rendered(response: Any) -> HttpResponseBase:
    response.accepted_renderer, response.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
    response.renderer_context = {}
    rendered: HttpResponseBase = response.render()
    return rendered
