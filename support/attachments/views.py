"""The views for attachments.

A client uploads a file, and gets the description of an attachment, with its usual credentials. It reads the
file with a signed URL and without credentials.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from shutil import copyfileobj
from tempfile import SpooledTemporaryFile
from typing import IO, Any, cast

from chatkit.store import NotFoundError
from chatkit.types import Attachment
from django.conf import settings
from django.http import HttpResponse, StreamingHttpResponse
from django.utils.http import content_disposition_header
from rest_framework import status
from rest_framework.exceptions import APIException, NotFound, ParseError
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request

from authn.authentication import BetterAuthAuthentication
from authn.errors import BodyTooLarge
from authn.sessions import Identity
from support import media_types
from support.api_view import NO_STORE, MeasuredView, NotSupported
from support.attachments import store
from support.chat import server_errors
from support.chat.configured_server import chatkit_server
from support.conf import conf
from support.context import Owner
from support.files import detection, signed_urls, stored_files, validation
from support.models import Attachment as AttachmentRow
from support.throttling import PerUserThrottle

FORM_BYTES = 64 * 1024  # of a form, in addition to the file in it


class UploadConflict(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_detail = "This attachment has been uploaded already"


class AttachmentView(MeasuredView):
    """The base of the views that need credentials. ``ContentView`` needs none."""

    authentication_classes = [BetterAuthAuthentication]
    throttle_classes = [PerUserThrottle]
    parser_classes = [MultiPartParser]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if not isinstance(chatkit_server().attachment_store, store.AttachmentStore):
            raise NotSupported


class DirectUploadView(AttachmentView):
    """``POST /support/attachments``: stores a file and returns its attachment.

    The body is a form with ``file``.
    """

    operation = "attachments.add"
    http_method_names = ["post"]

    def post(self, request: Request) -> HttpResponse:
        with _refusals(request), _form_file(request) as content:
            name, mime_type = str(content.name or ""), str(content.content_type or "")
            return _json_response(store.add(_owner(request), name, mime_type, content))


class UploadView(AttachmentView):
    """``POST`` or ``PUT /support/attachments/<id>/upload``: stores the file of an announced attachment.

    The body is a form with ``file``, or only the bytes of the file.
    """

    operation = "attachments.upload"
    http_method_names = ["post", "put"]

    def post(self, request: Request, attachment_id: str) -> HttpResponse:
        is_form = (request.content_type or "").lower().startswith("multipart/")
        with _refusals(request), _form_file(request) if is_form else _body(request) as content:
            return _json_response(store.receive(_owner(request), attachment_id, content))

    put = post


class DetailView(AttachmentView):
    """``GET /support/attachments/<id>``: returns the attachment, with a new signed URL for its file."""

    operation = "attachments.show"
    http_method_names = ["get"]

    def get(self, request: Request, attachment_id: str) -> HttpResponse:
        with _refusals(request):
            attachment = store.load(_owner(request), attachment_id)
            content_url = signed_urls.content_url(_owner(request).user_id, attachment_id)
        return _json_response(attachment, content_url=str(content_url))


class ContentView(MeasuredView):
    """``GET /support/attachments/<id>/content?signature=…``: returns the file. The signature is enough."""

    operation = "attachments.read"
    http_method_names = ["get", "head"]
    authentication_classes = []
    permission_classes = []

    def get(self, request: Request, attachment_id: str) -> StreamingHttpResponse:
        try:
            user_id, seconds = signed_urls.verify(attachment_id, request.GET.get("signature", ""))
            row = AttachmentRow.objects.owned_by(user_id).get(attachment_id=attachment_id)
            with server_errors.refusals_as_api_exceptions():  # a team's own storage may refuse
                content = stored_files.open_file(row.file)
        except (signed_urls.InvalidUrl, AttachmentRow.DoesNotExist, FileNotFoundError) as exc:
            raise NotFound("Not found") from exc
        mime_type = row.data["mime_type"]
        charset = (row.data.get("metadata") or {}).get("charset", "utf-8")
        return StreamingHttpResponse(
            _Chunks(content),
            headers={
                "Content-Type": f"text/plain; charset={charset}"
                if mime_type in media_types.TEXTS
                else mime_type,
                "Content-Length": str(row.size),
                "Content-Disposition": content_disposition_header(
                    mime_type not in media_types.IMAGES, row.data["name"]
                ),
                # A browser may treat the bytes as a page, although Django adds nosniff. No script may run
                # then.
                "Content-Security-Policy": "sandbox; default-src 'none'",
                "Cache-Control": f"private, max-age={seconds}",
                # ChatKit shows the file in an iframe of another origin.
                "Access-Control-Allow-Origin": "*",
                "Cross-Origin-Resource-Policy": "cross-origin",
            },
        )


class _Chunks:
    """The chunks of a file, for a response. Reads them in a thread, so that the event loop does not wait.

    Django calls ``close`` at the end of the response, also after an error.
    """

    def __init__(self, content: IO[bytes]) -> None:
        self.content = content
        self.close = content.close

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await asyncio.to_thread(self.content.read, detection.CHUNK_BYTES):
            yield chunk


@contextmanager
def _refusals(request: Request) -> Iterator[None]:
    """Raise REST framework's exceptions for refusals in the block. Also set the host of the block's URLs."""
    with signed_urls.use_host_of(request._request):
        try:
            with server_errors.refusals_as_api_exceptions():
                yield
        except NotFoundError as exc:
            raise NotFound("Not found") from exc
        except store.AlreadyUploaded as exc:
            raise UploadConflict from exc
        except validation.FileTooLarge as exc:
            raise BodyTooLarge(str(exc)) from exc
        except validation.FileRefused as exc:
            raise ParseError(str(exc)) from exc


@contextmanager
def _form_file(request: Request) -> Iterator[Any]:
    """Yield the file of the request's form."""
    _check_length(request, longest_body())
    try:
        sent = request.FILES.getlist("file")
    except ParseError as exc:
        # Do not use the message of ``exc``: it quotes the body.
        raise ParseError("The request body is not a valid form") from exc
    if len(sent) != 1:
        raise ParseError("The form needs one file, named file")
    yield sent[0]  # Django closes the file with the request


@contextmanager
def _body(request: Request) -> Iterator[IO[bytes]]:
    """Yield the request's body as a file."""
    _check_length(request, conf.ATTACHMENT_MAX_BYTES)
    with SpooledTemporaryFile(settings.FILE_UPLOAD_MAX_MEMORY_SIZE) as content:
        copyfileobj(request._request, content)
        yield content


def longest_body() -> int:
    """Return the largest size of a request's body for these views, in bytes."""
    return conf.ATTACHMENT_MAX_BYTES + FORM_BYTES


def _check_length(request: Request, limit: int) -> None:
    """Raise ``FileTooLarge`` for a body over the limit, before the body is copied.

    CONTENT_LENGTH is the measured length of the body: see runtime/body_limit.py.
    """
    if int(request.META.get("CONTENT_LENGTH") or 0) > limit:
        raise validation.FileTooLarge


def _owner(request: Request) -> Owner:
    return Owner.of(cast(Identity, request.auth))


def _json_response(attachment: Attachment, **more: str) -> HttpResponse:
    """Return the attachment as JSON, with more fields. The client never gets the metadata."""
    fields = attachment.model_dump(mode="json", exclude_none=True, context={"exclude_metadata": True})
    return HttpResponse(json.dumps(fields | more), content_type="application/json", headers=NO_STORE)
