"""The API as OpenAPI 3.1: ``manage.py spectacular --file docs/openapi.yaml`` writes it down."""

from typing import Any

from drf_spectacular.generators import SchemaGenerator

import authn.openapi  # noqa: F401  # by being imported, drf-spectacular learns of them
from support.openapi import schema as support_schema

Json = dict[str, Any]


def _words(*words: str, of: str) -> Json:
    return {"enum": ["ok", *words], "description": of}


CHECKS = {
    "type": "object",
    "properties": {
        "database": _words("unreachable", of="Our own."),
        "better_auth_tables": _words(
            "unreachable",
            "unreadable",
            of="`unreadable`: a table, a column or the right to read it is missing.",
        ),
        "keys": _words(
            "unreachable", "missing", of="Those that tokens are verified with, if callers show any."
        ),
        "sessions": _words("unreachable", of="The Redis of Better Auth's sessions, if they are in one."),
    },
    "required": ["database", "better_auth_tables"],
    "additionalProperties": False,
}


def _status(word: str, **more: Json) -> Json:
    """The schema of ``{"status": word}``."""
    properties = {"status": {"const": word}, **more}
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


def _answer(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _probe(name: str, summary: str, responses: dict[str, Json]) -> Json:
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "tags": ["health"],
            "responses": responses,
            "security": [],
        }
    }


# They are no views of REST framework's, so it knows nothing of them.
PROBES = {
    "/support/health": _probe(
        "health", "As ChatKit's samples have it", {"200": _answer("It answers.", _status("healthy"))}
    ),
    "/healthz": _probe("healthz", "Does the process answer?", {"200": _answer("It does.", _status("alive"))}),
    "/readyz": _probe(
        "readyz",
        "Should it be sent requests?",
        {
            "200": _answer("It should.", _status("ready", checks={"$ref": "#/components/schemas/Checks"})),
            "503": _answer(
                "It should not, for what is not `ok`.",
                _status("unavailable", checks={"$ref": "#/components/schemas/Checks"}),
            ),
        },
    ),
}


class Generator(SchemaGenerator):
    def get_schema(self, request: Any = None, public: bool = False) -> Json:
        schema: Json = super().get_schema(request, public)  # type: ignore[no-untyped-call]
        for operation in _operations(schema):
            if "requestBody" in operation:
                operation["requestBody"]["required"] = True
        uploaded = schema["paths"]["/support/attachments"]["post"]["responses"]["200"]
        uploaded["links"] = {
            "it": {"operationId": "getAttachment", "parameters": {"attachment_id": "$response.body#/id"}}
        }
        schema["components"]["responses"] = _errors_of(schema)
        schema["components"]["schemas"] = {**support_schema.components(), "Checks": CHECKS}
        schema["paths"] |= PROBES
        return schema


def _operations(schema: Json) -> list[Json]:
    return [operation for path in schema["paths"].values() for operation in path.values()]


def _errors_of(schema: Json) -> Json:
    """They are the same everywhere, and taken out of there to be said once."""
    errors: Json = {}
    for operation in _operations(schema):
        for status, response in operation["responses"].items():
            if status >= "400":
                assert errors.setdefault(f"Error{status}", response) == response  # noqa: S101
                operation["responses"][status] = {"$ref": f"#/components/responses/Error{status}"}
    return dict(sorted(errors.items()))
