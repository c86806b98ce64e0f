"""Documents the views under /support/ for drf-spectacular. The import registers these classes."""

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
from support.openapi import example_responses, operations
from support.openapi.components import STREAM_EVENT, ref
from support.openapi.responses import COMMON_ERRORS, HEADERS, errors

EVENT_STREAM = "text/event-stream"

CHATKIT = f"""\
ChatKit's only endpoint. The `type` in the body names the operation. A page that uses `@openai/chatkit` needs
only this URL. ChatKit calls a conversation a thread.

{operations.table()}

**Streams.** A stream consists of server-sent events. Each event is one line
`data: <ThreadStreamEvent as JSON>` and an empty line. While there is no event to send, the server sends a
comment every 12 seconds: the line `: keep-alive`. Ignore it. The stream ends when the answer is complete, and
no special event marks the end. If something fails after the stream has begun, the stream has an event of the
type `error`. To stop an answer, close the connection. In both cases the server stores the part of the answer
that it has sent.

**Models and tools.** `inference_options` names the model and the tool that the user picked for a message. If
the server does not offer the model, the response is a 400. If it does not offer the tool, the response is a
400, or the stream has an event of the type `error`.

**Pages.** `limit` is the number of rows in a page. Its default is 20. A page never has more than 100 rows. By
default, the newest rows come first (`order`: `desc`). To get the next page, send the `after` of the previous
page. You can also send the id of a row: the page then starts after this row."""


OPERATION_RESPONSE = "JSON or a stream. The table of operations says which."

LANGUAGE = OpenApiParameter(
    "Accept-Language",
    str,
    OpenApiParameter.HEADER,
    description="The language of the interface. The default assistant answers in this language, unless the "
    "user writes in another one.",
)


ATTACHMENT_ID_PARAMETER = OpenApiParameter(
    "attachment_id", {"type": "string", "minLength": 1}, OpenApiParameter.PATH
)


class _Documented(OpenApiViewExtension):
    """Documents the view ``target_class``. It changes a subclass, so the view itself stays as it is."""

    methods: dict[str, Any]

    def view_replacement(self) -> Any:
        documented = type(self.target.__name__, (self.target,), {})
        return extend_schema_view(**self.methods)(documented)


class ChatKit(_Documented):
    target_class = "support.views.ChatKitView"
    methods = {
        "post": extend_schema(
            operation_id="chatkit",
            summary="All operations of ChatKit",
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
                    description=OPERATION_RESPONSE,
                    examples=[
                        OpenApiExample(name, value)
                        for name, value in example_responses.json_responses().items()
                    ],
                ),
                (200, EVENT_STREAM): OpenApiResponse(
                    STREAM_EVENT,
                    description=OPERATION_RESPONSE,
                    examples=[OpenApiExample("threads.create", example_responses.stream())],
                ),
                **errors(*COMMON_ERRORS),
            },
        )
    }


UPLOADED = OpenApiResponse(
    ref("Attachment"), description="The attachment. You can now send a message with it."
)
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
            summary="Upload a file in one step",
            description='For ChatKit\'s `uploadStrategy: { type: "direct" }`. The server finds out the type '
            "of the file from its bytes. The suffix of its name decides between the types of text.",
            parameters=HEADERS,
            request={"multipart/form-data": FORM},
            responses={200: UPLOADED, **errors(*COMMON_ERRORS)},
        )
    }


def _upload(operation_id: str) -> Any:
    return extend_schema(
        operation_id=operation_id,
        summary="Upload a file after attachments.create",
        description='The second phase of ChatKit\'s `uploadStrategy: { type: "two_phase" }`. The body is a '
        "form with the field `file`, or only the bytes of the file. The bytes may have any other content "
        "type. If you do not get the response, send the same bytes again.",
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
            summary="Get an attachment and the URL of its file",
            parameters=[*HEADERS, ATTACHMENT_ID_PARAMETER],
            responses={
                200: OpenApiResponse(
                    {
                        "allOf": [ref("Attachment")],
                        "type": "object",
                        "properties": {"content_url": {"type": "string", "format": "uri"}},
                        "required": ["content_url"],
                    },
                    description="The attachment. Read its file from `content_url`. This URL is valid for a "
                    "few minutes, and needs no credentials.",
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
            summary="Read the file of an attachment",
            description="Use the URL from `preview_url` or `content_url` of the attachment. The URL is "
            "signed. So it needs no credentials, and you can use it in an `<img>`.",
            parameters=[
                *(header for header in HEADERS if header.name != "WWW-Authenticate"),
                ATTACHMENT_ID_PARAMETER,
                OpenApiParameter(
                    "signature", str, required=True, description="The signature. It is a part of the URL."
                ),
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
