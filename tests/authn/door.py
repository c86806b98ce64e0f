"""Our server's door and nothing behind it: settings, checks, middleware, authentication and errors are the
project's, ChatKit is not there. It starts in a quarter of the time, which a matrix of deployments needs.

An ASGI application and, for ``door_settings``, a URLconf.
"""

from io import StringIO

import django

django.setup(set_prefix=False)

from django.core.management import call_command
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from chatbackend.handler import OneHopHandler
from tests.authn.telling import tell


class Door(APIView):
    def post(self, request: Request) -> Response:
        tell(request.auth)
        return Response({"data": []})


class Health(APIView):
    authentication_classes = permission_classes = []

    def get(self, request: Request) -> Response:
        return Response({})


urlpatterns = [path("support/chatkit", Door.as_view()), path("support/health", Health.as_view())]
call_command("check", stdout=StringIO())
application = OneHopHandler()
