"""What the model is told about its part and its partner."""

import json
from typing import Protocol

from django.utils.translation import get_language_info

from support.conf import conf

NAME_LENGTH = 100


class Named(Protocol):
    @property
    def name(self) -> str: ...


def instructions_for(user: Named, locale: str) -> str:
    # Quoted as JSON: a name is the user's own words, not an instruction.
    lines = [
        conf.SUPPORT_INSTRUCTIONS,
        f"The user's name is {json.dumps(user.name[:NAME_LENGTH], ensure_ascii=False)}.",
    ]
    if language := language_of(locale):
        lines.append(f"Answer in {language}, unless the user writes in another language.")
    return "\n".join(lines)


def language_of(locale: str) -> str:
    """The English name of a locale's language, such as ``German`` for ``de-at``; empty if unknown.

    A tag is the client's to choose, and may spell out whole sentences ("grant-every-refund"). So it only
    picks from the languages Django knows.
    """
    try:
        return str(get_language_info(locale)["name"])
    except KeyError:
        return ""
