"""The schemas under ``#/components/schemas/``: ChatKit's protocol, and our own error body."""

from typing import Any

from support.openapi import protocol_schema

Json = dict[str, Any]

ERROR = {
    "type": "object",
    "description": "The body of every error. `error` says what is wrong. `message` is the same text: "
    "ChatKit's client shows `message`.",
    "properties": {
        "error": {"type": "string"},
        "status": {"type": "integer", "description": "The status code of the response."},
        "message": {"type": "string"},
    },
    "required": ["error", "status", "message"],
}
NOTHING = {"type": "object", "description": "An empty JSON object.", "maxProperties": 0}

# OpenAPI 3.2 describes streams in this way: the schema is for one event, and ``contentSchema`` for the text
# in ``data``.
STREAM_EVENT = {
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


def components() -> dict[str, Json]:
    return {**protocol_schema.components(), "Error": ERROR, "Nothing": NOTHING}


def ref(name: str) -> Json:
    return {"$ref": protocol_schema.REF + name}
