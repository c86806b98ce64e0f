"""docs/stream.md shows one real stream. Its events are those that a real server sends."""

import json
import re
from collections.abc import Callable
from typing import Any

from tests.fixtures.accounts.people import Person
from tests.fixtures.code_blocks import blocks
from tests.fixtures.model.server import Model
from tests.fixtures.servers.api import Api

TIME = "2026-03-01T12:30:15.123456"


def test_the_document_shows_the_events_of_a_real_stream(
    assistants: Callable[[str], Api], person: Person, model: Model
) -> None:
    model.will_answer("It arrives ", "**today**.", reasoning=["The user ", "means order 7."])
    model.title.tokens = ["Parcel"]
    request, *documented = [json.loads(block.text) for block in blocks("test_stream.py", "json")]

    events = assistants("responses").events(request, person.token())

    assert documented == comparable(events)


def comparable(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events with the ids, times and order of the document.

    The title is made while the answer is made, so its event has no fixed place. The document shows it last.
    """
    text = re.sub(r'"created_at": "[^"]+"', f'"created_at": "{TIME}"', json.dumps(events))
    text = re.sub(r'"duration": \d+', '"duration": 0', text)
    for number, found in enumerate(dict.fromkeys(re.findall(r'"((?:thr|msg|wf)_[^"]+)"', text)), 1):
        text = text.replace(found, f"{found.partition('_')[0]}_{number}")
    same: list[dict[str, Any]] = json.loads(text)
    return sorted(same, key=lambda event: event["type"] == "thread.updated")
