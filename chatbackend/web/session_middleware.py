"""Applies Django's middleware for sessions, authentication and messages to the admin, but not to the API.

Callers of the API have no Django session, so their requests skip this work. The classes are subclasses of
Django's, because the admin's system checks look for Django's classes in MIDDLEWARE.
"""

from typing import Any

from django.conf import settings
from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.http import HttpRequest


class SkipsAPI:
    get_response: Any

    def __call__(self, request: HttpRequest) -> Any:
        if request.path_info.startswith(settings.API_PREFIX):
            return self.get_response(request)
        return super().__call__(request)  # type: ignore[misc]  # MiddlewareMixin has it


class SessionMiddleware(SkipsAPI, sessions.SessionMiddleware):
    pass


class AuthenticationMiddleware(SkipsAPI, auth.AuthenticationMiddleware):
    pass


class MessageMiddleware(SkipsAPI, messages.MessageMiddleware):
    pass
