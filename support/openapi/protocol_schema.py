"""Makes JSON schemas of ChatKit's protocol from the classes of the ChatKit SDK."""

import re
from collections.abc import Iterator
from typing import Any

from chatkit import icons, types, widgets
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from support import media_types
from support.chat import protocol
from support.storage import attachments, feedback

Json = dict[str, Any]

REF = "#/components/schemas/"

REQUESTS: dict[str, Any] = {"ChatKitRequest": types.ChatKitReq}
RESPONSES: dict[str, Any] = {
    "Thread": types.Thread,
    "ThreadPage": types.Page[types.Thread],
    "ThreadItemPage": types.Page[types.ThreadItem],
    "Attachment": types.Attachment,
    "TranscriptionResult": types.TranscriptionResult,
    "SyncCustomActionResponse": types.SyncCustomActionResponse,
    "ThreadStreamEvent": types.ThreadStreamEvent,
}
# pydantic repeats the schema of a union wherever the union is used. These unions get schemas of their own.
UNIONS: dict[str, Any] = {
    "ThreadItem": types.ThreadItem,
    "ThreadItemUpdate": types.ThreadItemUpdate,
    "Task": types.Task,
    "IconName": icons.IconName,
    "Widget": widgets.WidgetRoot,
    "WidgetComponent": widgets.WidgetComponent,
}

# Items of these types never leave the server.
HIDDEN = [f"{REF}HiddenContextItem", f"{REF}SDKHiddenContextItem"]

# Our own limits, which the classes of the ChatKit SDK do not have.
LIMITS: dict[str, Json] = {
    "AttachmentCreateParams": {
        "mime_type": {"enum": [*media_types.SUPPORTED, *media_types.TYPE_OF_ALIAS]},
        "size": {"minimum": 1},
    },
    "InputTranscribeParams": {"audio_base64": {"pattern": "^([A-Za-z0-9+/]{4})+$"}},
    "ItemFeedbackParams": {"item_ids": {"maxItems": feedback.MAX_ITEMS}},
    "ThreadUpdateParams": {"title": {"maxLength": protocol.MAX_TITLE}},
    "UserMessageInput": {
        "attachments": {"maxItems": attachments.MAX_PER_MESSAGE, "uniqueItems": True},
        "content": {"maxItems": protocol.MAX_PARTS},
    },
}

# The ChatKit SDK accepts any object with a type as a widget. ChatKit's documentation describes the
# components.
WIDGET = {
    "type": "object",
    "description": "A widget, or a component of a widget. ChatKit's documentation describes all of them.",
    "properties": {"type": {"type": "string"}},
    "required": ["type"],
    "additionalProperties": True,
}


def components() -> dict[str, Json]:
    """Return the schemas of ``REQUESTS`` and ``RESPONSES``, and all schemas that they refer to, by name."""
    kinds: list[Any] = [(name, "validation", TypeAdapter(kind)) for name, kind in REQUESTS.items()]
    kinds += [(name, "serialization", TypeAdapter(kind)) for name, kind in (RESPONSES | UNIONS).items()]
    tops, others = TypeAdapter.json_schemas(kinds, ref_template=REF + "{model}", schema_generator=_Schema)
    # pydantic names the schemas of classes, and gives long names to generic classes. It does not name unions.
    names = {top["$ref"]: REF + name for (name, _), top in tops.items() if "$ref" in top}
    unions = {name: top for (name, _), top in tops.items() if "$ref" not in top}

    def simplified(node: Any, name: str = "") -> Any:
        if isinstance(node, list):
            return [simplified(part) for part in node if part not in [{"$ref": ref} for ref in HIDDEN]]
        if isinstance(node, str) and node.startswith(REF):
            return names.get(node) or REF + _readable(node.removeprefix(REF))
        if not isinstance(node, dict):
            return node
        for union, schema in unions.items():
            if union != name and schema.items() <= node.items():
                return {"$ref": REF + union} | {key: node[key] for key in node if key not in schema}
        return {
            key: simplified(value)
            for key, value in node.items()
            if value not in HIDDEN and not (key == "title" and isinstance(value, str))  # repeats the name
        }

    schemas = {
        simplified(REF + name).removeprefix(REF): simplified(schema)
        for name, schema in others["$defs"].items()
    }
    schemas |= {name: simplified(union, name) for name, union in unions.items()}
    schemas |= {"Widget": WIDGET, "WidgetComponent": {"$ref": f"{REF}Widget"}}
    for name, limits in LIMITS.items():
        for field, limit in limits.items():
            schemas[name]["properties"][field] |= limit
    needed = _reachable(schemas, {*REQUESTS, *RESPONSES})
    return {name: schemas[name] for name in sorted(needed)}


class _Schema(GenerateJsonSchema):
    # The ChatKit SDK's default for Action.type is not JSON. pydantic would warn about it.
    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def nullable_schema(self, schema: Any) -> Json:
        if self.mode == "serialization":  # the ChatKit SDK leaves out fields that are None
            return self.generate_inner(schema["schema"])
        return super().nullable_schema(schema)

    def default_schema(self, schema: Any) -> Json:
        result = super().default_schema(schema)
        if result.get("default", "") is None or "const" in result:
            del result["default"]
        return result

    def field_is_required(self, field: Any, total: bool) -> bool:
        inner = field["schema"]
        if inner["type"] != "default":
            return True
        if self.mode == "serialization":
            return inner.get("default", "from a factory") is not None
        # A literal with one value is the tag of a union. A reader of the union needs the tag.
        return inner["schema"]["type"] == "literal" and len(inner["schema"]["expected"]) == 1

    def datetime_schema(self, schema: Any) -> Json:
        return {
            "type": "string",
            "description": "A time in UTC. The text has no time zone: in JavaScript, append `Z` before you "
            "parse it.",
            "examples": ["2026-03-01T12:30:15.123456"],
        }


def _readable(name: str) -> str:
    """Return a shorter name for pydantic's ``InferenceOptions-Input``, ``Action_str_Any_`` and the like."""
    return re.sub(r"_\w+_$", "", name.removesuffix("-Output").replace("-", ""))


def _reachable(schemas: dict[str, Json], wanted: set[str]) -> set[str]:
    """Return the names of the wanted schemas and of all schemas that they refer to."""
    found: set[str] = set()
    while wanted:
        found |= wanted
        wanted = {ref for name in wanted for ref in _refs(schemas[name])} - found
    return found


def _refs(node: Any) -> Iterator[str]:
    if isinstance(node, str) and node.startswith(REF):
        yield node.removeprefix(REF)
    elif isinstance(node, dict | list):
        for part in node.values() if isinstance(node, dict) else node:
            yield from _refs(part)
