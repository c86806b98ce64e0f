"""Files on S3 (moto's server). Only settings differ."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.management import call_command

from chatbackend.dev.processes import free_port, server
from support.files import stored_files
from tests.fixtures.accounts.people import Person
from tests.fixtures.attachments import NOT_FOUND, PNG, attach, attachment_row, send
from tests.fixtures.environment import process_environment
from tests.fixtures.servers.api import Api, http, operation

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore.*"),
]

STORAGE = "storages.backends.s3.S3Storage"
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The options of a storage on a running S3 server."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    with server("s3", command, process_environment(**KEYS), port, "/", show=False):
        http.put(f"http://127.0.0.1:{port}/chat").raise_for_status()
        yield f'{{"bucket_name": "chat", "endpoint_url": "http://127.0.0.1:{port}", "location": "files"}}'


@pytest.fixture(scope="module")
def api(auth: Any, start_api: Callable[..., Any], s3: str) -> Iterator[Api]:
    with start_api(ATTACHMENT_STORAGE=STORAGE, ATTACHMENT_STORAGE_OPTIONS=s3, **KEYS) as running:
        yield running


@pytest.fixture(autouse=True)
def _use_s3_in_this_process(settings: Any, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    storage = {"BACKEND": STORAGE, "OPTIONS": json.loads(s3)}
    settings.STORAGES = settings.STORAGES | {"attachments": storage}


def test_a_file_is_stored_on_s3_read_from_it_and_deleted_from_it(api: Api, person: Person) -> None:
    attachment = attach(api, person)
    file = attachment_row(attachment).file
    thread_id = send(api, person, attachment["id"])

    read = http.get(attachment["preview_url"])

    assert (read.content, read.headers["Content-Length"]) == (PNG, str(len(PNG)))
    with stored_files.open_file(file) as there:
        assert there.read() == PNG
    api.post(operation("threads.delete", thread_id=thread_id), person.token())
    assert not stored_files.storage().exists(file)


def test_a_file_that_is_missing_on_s3_is_a_404(api: Api, person: Person) -> None:
    attachment = attach(api, person)
    stored_files.delete([attachment_row(attachment).file])

    read = http.get(attachment["preview_url"])

    assert (read.status_code, read.json()) == (404, NOT_FOUND)


def test_sweep_attachments_works_on_s3() -> None:
    name = stored_files.save(ContentFile(b"Hello"))

    call_command("sweep_attachments", "--older-than", "1d")
    assert stored_files.storage().exists(name)

    call_command("sweep_attachments", "--older-than", "0m")
    assert not stored_files.storage().exists(name)
