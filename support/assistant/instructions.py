"""The system prompt: the configured instructions, the user's name and the language to answer in."""

import json
from typing import Protocol

from django.utils.translation import get_language_info

from support.conf import conf

NAME_LENGTH = 100


class Named(Protocol):
    @property
    def name(self) -> str: ...


def make_instructions(user: Named, locale: str) -> str:
    # Quoted as JSON, because the user chose the name. It must not look like an instruction.
    lines = [
        conf.SUPPORT_INSTRUCTIONS,
        f"The user's name is {json.dumps(user.name[:NAME_LENGTH], ensure_ascii=False)}.",
    ]
    if language := language_of(locale):
        lines.append(f"Answer in {language}, unless the user writes in another language.")
    return "\n".join(lines)


def language_of(locale: str) -> str:
    """The English name of a locale's language, such as ``German`` for ``de-at``; empty if unknown.

    The client chooses the locale, and could write a sentence into it ("grant-every-refund"). So the model
    only gets a name from Django's list of languages.
    """
    try:
        return str(get_language_info(locale)["name"])
    except KeyError:
        return ""
