"""Documents the views under /support/ for drf-spectacular. The import registers the classes."""

from typing import Any

from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiRequest,
    OpenApiResponse,
    extend_schema,
    extend_schema_view,
)

from support import media_types
from support.openapi import operations
from support.openapi.components import STREAM_EVENT, ref
from support.openapi.responses import COMMON_ERRORS, HEADERS, errors

EVENT_STREAM = "text/event-stream"

CHATKIT = f"""\
ChatKit's only endpoint. The body's `type` names the operation. A page with `@openai/chatkit` needs only this
URL.

{operations.table()}

Operations that are marked … have a stream of server-sent events as their response. Each event is one line
`data: <ThreadStreamEvent as JSON>` and an empty line. While there is no event to send, the server sends a
comment every 12 seconds: the line `: keep-alive`. Clients ignore it. The stream ends with the answer; there
is no final event. An error after the first byte is an event of type `error`, and the partial answer is kept.
To stop an answer, close the connection.

`inference_options` names the model and the tool that the user picked for a message. The response is 400 if
the server does not offer them.

`limit` is at most 100. Its default is 20. `after` is the `after` of the previous page, or the id of a row."""


LANGUAGE = OpenApiParameter(
    "Accept-Language",
    str,
    OpenApiParameter.HEADER,
    description="The language of the interface. The assistant answers in this language.",
)


ATTACHMENT_ID_PARAMETER = OpenApiParameter(
    "attachment_id", {"type": "string", "minLength": 1}, OpenApiParameter.PATH
)


class _Documented(OpenApiViewExtension):
    """Documents a subclass of the view, so that the view itself does not change."""

    methods: dict[str, Any]

    def view_replacement(self) -> Any:
        documented = type(self.target.__name__, (self.target,), {})
        return extend_schema_view(**self.methods)(documented)


class ChatKit(_Documented):
    target_class = "support.views.ChatKitView"
    methods = {
        "post": extend_schema(
            operation_id="chatkit",
            summary="All operations of a chat",
            description=CHATKIT,
            parameters=[*HEADERS, LANGUAGE],
            request={
                "application/json": OpenApiRequest(
                    ref("ChatKitRequest"),
                    examples=[
                        OpenApiExample(
                            name, operations.example(name), summary=name, description=operation.description
                        )
                        for name, operation in operations.OPERATIONS.items()
                    ],
                )
            },
            responses={
                (200, "application/json"): OpenApiResponse(
                    {"anyOf": [ref(name) for name in operations.json_schemas()]},
                    description="The response of the operation: JSON, or a stream.",
                ),
                (200, EVENT_STREAM): OpenApiResponse(
                    STREAM_EVENT,
                    description="The response of the operation: JSON, or a stream.",
                    examples=[OpenApiExample("threads.create", operations.example_stream())],
                ),
                **errors(*COMMON_ERRORS),
            },
        )
    }


UPLOADED = OpenApiResponse(ref("Attachment"), description="The attachment. A message can now carry it.")
BINARY = {"type": "string", "format": "binary"}
FORM = OpenApiRequest(
    {"type": "object", "properties": {"file": BINARY}, "required": ["file"]},
    encoding={"file": {"contentType": ", ".join(media_types.SUPPORTED)}},
)


class DirectUpload(_Documented):
    target_class = "support.attachments.views.DirectUploadView"
    methods = {
        "post": extend_schema(
            operation_id="addAttachment",
            summary="Upload a file, in one step",
            description='`uploadStrategy: { type: "direct" }`. The bytes of the file decide its type.',
            parameters=HEADERS,
            request={"multipart/form-data": FORM},
            responses={200: UPLOADED, **errors(*COMMON_ERRORS)},
        )
    }


def _upload(operation_id: str) -> Any:
    return extend_schema(
        operation_id=operation_id,
        summary="Upload a file that was announced",
        description='`uploadStrategy: { type: "two_phase" }`, after `attachments.create`: a form with the '
        "file, or only its bytes, with any content type.",
        parameters=[*HEADERS, ATTACHMENT_ID_PARAMETER],
        request={
            "multipart/form-data": FORM,
            "application/octet-stream": BINARY,
        },
        responses={200: UPLOADED, **errors(*COMMON_ERRORS, 409)},
    )


class Upload(_Documented):
    target_class = "support.attachments.views.UploadView"
    methods = {"post": _upload("uploadAttachment"), "put": _upload("putAttachment")}


class Detail(_Documented):
    target_class = "support.attachments.views.DetailView"
    methods = {
        "get": extend_schema(
            operation_id="getAttachment",
            summary="An attachment, and the URL of its file",
            parameters=[*HEADERS, ATTACHMENT_ID_PARAMETER],
            responses={
                200: OpenApiResponse(
                    {
                        "allOf": [ref("Attachment")],
                        "type": "object",
                        "properties": {"content_url": {"type": "string", "format": "uri"}},
                        "required": ["content_url"],
                    },
                    description="`content_url` is valid for some minutes, and needs no credentials.",
                ),
                **errors(401, 403, 404, 429, 500, 501, 503),
            },
        )
    }


class Content(_Documented):
    target_class = "support.attachments.views.ContentView"
    methods = {
        "get": extend_schema(
            operation_id="readAttachment",
            summary="The bytes of an attachment",
            description="Use the URL in `preview_url` or `content_url`. It needs no credentials, because an "
            "`<img>` sends none.",
            parameters=[
                *(header for header in HEADERS if header.name != "WWW-Authenticate"),
                ATTACHMENT_ID_PARAMETER,
                OpenApiParameter("signature", str, required=True, description="Part of the URL."),
            ],
            responses={
                **{
                    (200, kind): OpenApiResponse(BINARY, description="The file.")
                    for kind in media_types.SUPPORTED
                },
                **errors(404, 500, 503),
            },
        )
    }
