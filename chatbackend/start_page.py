"""The admin's start page: a row of numbers above Django's list of models."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse

from authn.admin import figures as of_better_auth
from support.admin import figures as of_the_chat


def start_page(request: HttpRequest) -> HttpResponse:
    """Django's start page. ``figures`` is for our template, which extends Django's."""
    figures = [*of_better_auth.figures(request), *of_the_chat.figures(request)]
    return admin.site.index(request, {"figures": figures})
