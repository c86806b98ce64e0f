"""What is spoken under /support/, for drf-spectacular, which alone imports this."""

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

from support.files import media_types
from support.openapi import operations, protocol_schema

Json = dict[str, Any]

EVENT_STREAM = "text/event-stream"

ERROR = {
    "type": "object",
    "description": "The body of every error. `message` repeats `error`: it is what ChatKit's client shows.",
    "properties": {
        "error": {"type": "string"},
        "status": {"type": "integer", "description": "The status code of the response."},
        "message": {"type": "string"},
    },
    "required": ["error", "status", "message"],
}
# As OpenAPI 3.2 has it: what comes in a stream is described one by one, and ``data`` by its content.
EVENT = {
    "type": "object",
    "description": "One event of the stream.",
    "properties": {
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": f"{protocol_schema.REF}ThreadStreamEvent"},
        }
    },
    "required": ["data"],
}
NOTHING = {"type": "object", "description": "An empty object.", "maxProperties": 0}

ERRORS = {
    400: ("The body is not what is asked for, or there are two credentials.", "params.thread_id is missing"),
    401: (
        "No credentials, or bad ones. A new token helps if the token has expired, if its own session has "
        "ended and its user has another one, or if the user has changed their address.",
        "Invalid or expired JWT token",
    ),
    403: ("The user is banned, or the page may not send a cookie.", "User is banned"),
    404: (
        "The user is gone, or has no live session; or the thing asked for is missing, or somebody else's. "
        "The last two get the same answer.",
        "Not found",
    ),
    409: ("It has been uploaded before.", "This attachment has been uploaded already"),
    413: ("The body is too large.", "The request body exceeds 1000000 bytes"),
    429: (
        "Too many requests of this user, too many answers to them at once, or too many refused attempts.",
        "Request was throttled. Expected available in 23 seconds.",
    ),
    500: ("A fault of ours.", "Internal Server Error"),
    501: ("The ChatKit server in use does not do that.", "This server does not support that operation"),
    503: ("The database, the keys or a model cannot be reached.", "Service temporarily unavailable"),
}
OF_A_CALLER = (400, 401, 403, 404, 413, 429, 500, 501, 503)

CHATKIT = f"""\
ChatKit's one endpoint: the operation is in the body, as `type`. A page with `@openai/chatkit` has no need to
know more than this address.

{operations.table()}

Those marked … make the assistant speak: they are answered with a stream of server-sent events, each one line
`data: <ThreadStreamEvent as JSON>` and an empty line. While there is nothing to send, a comment comes every
12 seconds: the line `: keep-alive`. Clients skip it. The stream ends when the answer does, without a word.
What fails after its first byte is an event of type `error`, and what was said until then is kept. To stop an
answer, close the connection.

`inference_options` says which model and which tool the user picked for a message. A model or a
tool that the server does not offer is a 400.

`limit` counts up to 100, and is 20 if not given. `after` is the `after` of the page before, or the id of a
row."""


def components() -> dict[str, Json]:
    return {**protocol_schema.components(), "Error": ERROR, "Nothing": NOTHING}


def ref(name: str) -> Json:
    return {"$ref": protocol_schema.REF + name}


def errors(*statuses: int) -> dict[int, OpenApiResponse]:
    return {
        status: OpenApiResponse(
            ref("Error"),
            description=ERRORS[status][0],
            examples=[OpenApiExample(f"{status}", _error(ERRORS[status][1], status))],
        )
        for status in statuses
    }


def _error(message: str, status: int) -> Json:
    return {"error": message, "status": status, "message": message}


def _header(name: str, kind: type, description: str, *statuses: int) -> OpenApiParameter:
    """Of a response; of those with these statuses, or of every one."""
    return OpenApiParameter(
        name,
        kind,
        OpenApiParameter.HEADER,
        required=True,
        description=description,
        response=list(statuses) or True,
    )


HEADERS = [
    OpenApiParameter(
        "X-Request-ID",
        str,
        OpenApiParameter.HEADER,
        description="Taken over into the log, and sent back: up to 128 letters, digits, `.`, `_`, `:`, `=` "
        "and `-`. In place of any other, one is made.",
    ),
    _header("X-Request-ID", str, "The request's own, or one that was made for it."),
    _header("WWW-Authenticate", str, "What kind of credentials is asked for.", 401),
    _header("Retry-After", int, "Seconds.", 429, 503),
]
LANGUAGE = OpenApiParameter(
    "Accept-Language",
    str,
    OpenApiParameter.HEADER,
    description="The language of the interface, in which the assistant answers.",
)


WHICH = OpenApiParameter("attachment_id", {"type": "string", "minLength": 1}, OpenApiParameter.PATH)


class _Documented(OpenApiViewExtension):
    """A subclass of the view, so that the one that serves stays as it is."""

    methods: dict[str, Any]

    def view_replacement(self) -> Any:
        documented = type(self.target.__name__, (self.target,), {})
        return extend_schema_view(**self.methods)(documented)


class ChatKit(_Documented):
    target_class = "support.views.ChatKitView"
    methods = {
        "post": extend_schema(
            operation_id="chatkit",
            summary="Everything a chat does",
            description=CHATKIT,
            parameters=[*HEADERS, LANGUAGE],
            request={
                "application/json": OpenApiRequest(
                    ref("ChatKitRequest"),
                    examples=[
                        OpenApiExample(
                            name, operations.example(name), summary=name, description=operation.does
                        )
                        for name, operation in operations.OPERATIONS.items()
                    ],
                )
            },
            responses={
                (200, "application/json"): OpenApiResponse(
                    {"anyOf": [ref(name) for name in dict.fromkeys(operations.json_answers())]},
                    description="The operation's answer: JSON, or a stream.",
                ),
                (200, EVENT_STREAM): OpenApiResponse(
                    EVENT,
                    description="The operation's answer: JSON, or a stream.",
                    examples=[OpenApiExample("threads.create", operations.example_stream())],
                ),
                **errors(*OF_A_CALLER),
            },
        )
    }


UPLOADED = OpenApiResponse(ref("Attachment"), description="The attachment, ready to be sent with a message.")
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
            description='`uploadStrategy: { type: "direct" }`. What it is, is told by its bytes.',
            parameters=HEADERS,
            request={"multipart/form-data": FORM},
            responses={200: UPLOADED, **errors(*OF_A_CALLER)},
        )
    }


def _upload(operation_id: str) -> Any:
    return extend_schema(
        operation_id=operation_id,
        summary="Upload a file that was announced",
        description='`uploadStrategy: { type: "two_phase" }`, after `attachments.create`: a form with the '
        "file, or its bytes alone, of whatever type.",
        parameters=[*HEADERS, WHICH],
        request={
            "multipart/form-data": FORM,
            "application/octet-stream": BINARY,
        },
        responses={200: UPLOADED, **errors(*OF_A_CALLER, 409)},
    )


class Upload(_Documented):
    target_class = "support.attachments.views.UploadView"
    methods = {"post": _upload("uploadAttachment"), "put": _upload("putAttachment")}


class Detail(_Documented):
    target_class = "support.attachments.views.DetailView"
    methods = {
        "get": extend_schema(
            operation_id="getAttachment",
            summary="An attachment, and where to read it",
            parameters=[*HEADERS, WHICH],
            responses={
                200: OpenApiResponse(
                    {
                        "allOf": [ref("Attachment")],
                        "type": "object",
                        "properties": {"content_url": {"type": "string", "format": "uri"}},
                        "required": ["content_url"],
                    },
                    description="`content_url` is good for minutes, and needs no credentials.",
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
            description="For whoever has the address, as `preview_url` or `content_url`: an `<img>` sends no "
            "credentials.",
            parameters=[
                *(header for header in HEADERS if header.name != "WWW-Authenticate"),
                WHICH,
                OpenApiParameter("signature", str, required=True, description="A part of the address."),
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
