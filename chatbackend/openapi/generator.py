"""Generates the OpenAPI 3.1 document. ``manage.py spectacular --file docs/openapi.yaml`` writes the file."""

from typing import Any

from drf_spectacular.generators import SchemaGenerator

import support.openapi.view_extensions  # noqa: F401  # the import registers its extensions with drf-spectacular
from support.openapi.components import components

Json = dict[str, Any]


def _check(*faults: str, description: str) -> Json:
    return {"enum": ["ok", *faults], "description": description}


CHECKS = {
    "type": "object",
    "properties": {
        "database": _check("unreachable", description="The database with the conversations."),
        "better_auth_tables": _check(
            "unreachable",
            "unreadable",
            description="The tables of Better Auth. `unreadable`: a table, a column or the right to read it "
            "is missing.",
        ),
        "keys": _check(
            "unreachable",
            "missing",
            description="The keys that verify JWTs. `missing`: Better Auth has no key yet. It creates one "
            "for its first token. The server leaves this check out if it accepts no JWTs.",
        ),
        "sessions": _check(
            "unreachable",
            description="The Redis with Better Auth's sessions. The server leaves this check out if the "
            "sessions are in a database.",
        ),
    },
    "required": ["database", "better_auth_tables"],
    "additionalProperties": False,
}


def _status(status: str, **properties: Json) -> Json:
    """Return the schema of ``{"status": status}``, with these properties added."""
    properties = {"status": {"const": status}, **properties}
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


def _response(description: str, schema: Json) -> Json:
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


# drf-spectacular finds only the views of REST framework. These URLs have no such view.
PROBES = {
    "/support/health": _probe(
        "health",
        "A health check, as in ChatKit's samples",
        {"200": _response("The server answers.", _status("healthy"))},
    ),
    "/healthz": _probe(
        "healthz", "Is the process alive?", {"200": _response("The process answers.", _status("alive"))}
    ),
    "/readyz": _probe(
        "readyz",
        "Should this process get requests?",
        {
            "200": _response(
                "Yes, all checks are `ok`.", _status("ready", checks={"$ref": "#/components/schemas/Checks"})
            ),
            "503": _response(
                "No, a check is not `ok`.",
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
            "attachment": {
                "operationId": "getAttachment",
                "parameters": {"attachment_id": "$response.body#/id"},
            }
        }
        schema["components"]["responses"] = _extract_errors(schema)
        schema["components"]["schemas"] = {**components(), "Checks": CHECKS}
        schema["paths"] |= PROBES
        return schema


def _operations(schema: Json) -> list[Json]:
    return [operation for path in schema["paths"].values() for operation in path.values()]


def _extract_errors(schema: Json) -> Json:
    """Replace each error response with a reference, and return the responses by their names."""
    errors: Json = {}
    for operation in _operations(schema):
        for status, response in operation["responses"].items():
            if status >= "400":
                assert errors.setdefault(f"Error{status}", response) == response  # noqa: S101
                operation["responses"][status] = {"$ref": f"#/components/responses/Error{status}"}
    return dict(sorted(errors.items()))
