"""The schemas under ``#/components/schemas/``: ChatKit's protocol, and our own error body."""

from typing import Any

from support.openapi import operations, protocol_schema

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
    schemas = protocol_schema.components()
    for tag, name in _tagged(schemas):
        schemas[name]["title"] = tag
        if tag in operations.OPERATIONS:
            schemas[name]["description"] = operations.OPERATIONS[tag].description
    return {**schemas, "Error": ERROR, "Nothing": NOTHING}


def _tagged(schemas: dict[str, Json]) -> list[tuple[str, str]]:
    """Return the tag and the name of each schema that is a choice of a union, such as an operation.

    Swagger UI shows the title of a choice, and only "object" for a choice without a title.
    """
    mappings = [
        schema["discriminator"]["mapping"] for schema in schemas.values() if "discriminator" in schema
    ]
    return [
        (tag, ref.removeprefix(protocol_schema.REF))
        for mapping in mappings
        for tag, ref in mapping.items()
        if ref.removeprefix(protocol_schema.REF) in schemas
    ]


def ref(name: str) -> Json:
    return {"$ref": protocol_schema.REF + name}
