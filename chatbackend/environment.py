"""Typed readers of environment variables.

Each reader raises ``ImproperlyConfigured`` with the variable's name if the value has the wrong form.
"""

import json
from math import isfinite
from typing import Any, TypeVar

import environ
from django.core.exceptions import ImproperlyConfigured

N = TypeVar("N", int, float)

env = environ.Env()


def number(name: str, default: N) -> N:
    """Return a number of the default's type.

    This is stricter than django-environ: its float() reads "1h" as 1.0.
    """
    try:
        value = type(default)(env.str(name, default=str(default)))
    except ValueError:
        value = None
    if value is None or not isfinite(value):
        raise ImproperlyConfigured(f"{name} should be a number, such as {default}.")
    return value


def flag(name: str, default: bool) -> bool:
    """Return a boolean.

    This is stricter than django-environ: its bool() reads the typing error "Ture" as False. Some flags
    protect the deployment, so a typing error must not turn them off.
    """
    match env.str(name, default=str(default)).strip().lower():
        case "true" | "on" | "yes" | "y" | "1":
            return True
        case "false" | "off" | "no" | "n" | "0":
            return False
    raise ImproperlyConfigured(f"{name} should be True or False.")


def names(name: str, default: list[str]) -> list[str]:
    """Return the items of a comma-separated list, without the spaces that django-environ's list() keeps."""
    return [each.strip() for each in env.list(name, default=default) if each.strip()]


def mapping(name: str) -> dict[str, str]:
    """Return the pairs of ``key=value,key=value``. Empty if the variable is not set."""
    try:
        given: dict[str, str] = env.dict(name, default={})
    except ValueError:
        raise ImproperlyConfigured(f"{name} should be name=value,name=value.") from None
    return given


def from_json(name: str, default: str) -> Any:
    """Return the parsed JSON.

    The settings contain the parsed value, because Django's error reports hide secrets by their keys. In a
    string, the secrets would be visible.
    """
    try:
        return json.loads(env.str(name, default="") or default)
    except ValueError:
        # ``from None``, because the original error contains the text with its secrets.
        raise ImproperlyConfigured(f"{name} should be JSON. .env.example shows an example.") from None
