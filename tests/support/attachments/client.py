"""A client of the attachments over HTTP, and files to upload."""

from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image

from support.models import Attachment
from tests.fixtures.accounts.people import Person
from tests.fixtures.environment import ATTACHMENT_DIRECTORY
from tests.fixtures.servers.api import Api, add, create, http, operation

NOT_FOUND = {"error": "Not found", "status": 404, "message": "Not found"}
LIMIT = 200_000  # bytes; the limit of the server ``small``


WESTERN = "Name;Preis\r\n„Grüße“ Ørsted;5 €\r\n"


def image(kind: str = "PNG", size: int = 8) -> bytes:
    content = BytesIO()
    Image.effect_noise((size, size), 50).convert("RGB").save(content, kind)
    return content.getvalue()


PNG, PDF, TEXT = image(), b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "Grüezi ✓\n\tline two\r\n".encode()
JPEG = image("JPEG")
HTML = b"<!doctype html><script>fetch('/support/chatkit')</script>"
OFFICE = bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 16 + b"\x3e\0\x03\0\xfe\xff\x09\0"  # an .xls file
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def bearer(person: Person) -> dict[str, str]:
    return {"Authorization": f"Bearer {person.token()}"}


def announce(
    api: Api, person: Person, name: str = "a.png", mime_type: str = "image/png", size: int = 1
) -> Any:
    body = operation("attachments.create", name=name, size=size, mime_type=mime_type)
    return api.post(body, person.token())


def put(api: Api, person: Person, attachment_id: str, content: Any, method: str = "PUT") -> httpx2.Response:
    url = f"{api.origin}/support/attachments/{attachment_id}/upload"
    return http.request(method, url, content=content, headers=bearer(person), timeout=30)


def attach(
    api: Api, person: Person, content: bytes = PNG, name: str = "a.png", mime_type: str = "image/png"
) -> dict[str, Any]:
    """Announce a file and upload it."""
    attachment_id = announce(api, person, name, mime_type).json()["id"]
    response = put(api, person, attachment_id, content)
    assert response.status_code == 200, response.text
    return dict(response.json())


def direct(api: Api, person: Person, content: bytes, name: str, mime_type: str) -> httpx2.Response:
    form = {"file": (name, content, mime_type)}
    return http.post(f"{api.origin}/support/attachments", files=form, headers=bearer(person))


def sending(*attachment_ids: str, thread_id: str = "") -> dict[str, Any]:
    body = add(thread_id, "Look") if thread_id else create("Look")
    body["params"]["input"]["attachments"] = list(attachment_ids)
    return body


def send(api: Api, person: Person, *attachment_ids: str, thread_id: str = "") -> str:
    events = api.events(sending(*attachment_ids, thread_id=thread_id), person.token())
    assert "error" not in [event["type"] for event in events]
    return thread_id or str(events[0]["thread"]["id"])


def items_of(api: Api, person: Person, thread_id: str) -> list[dict[str, Any]]:
    body = operation("items.list", thread_id=thread_id, order="asc")
    return list(api.post(body, person.token()).json()["data"])


def content_url(api: Api, person: Person, attachment_id: str) -> str:
    response = http.get(f"{api.origin}/support/attachments/{attachment_id}", headers=bearer(person))
    return str(response.json()["content_url"])


def stored() -> set[str]:
    return {path.name for path in Path(ATTACHMENT_DIRECTORY).rglob("*") if path.is_file()}


def row(attachment: dict[str, Any]) -> Attachment:
    return Attachment.objects.get(attachment_id=attachment["id"])
