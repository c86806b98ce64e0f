"""ChatKit's protocol as JSON schema, from the SDK's own classes, so that it cannot drift from them."""

import re
from collections.abc import Iterator
from typing import Any

from chatkit import icons, types, widgets
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from support.chat import protocol
from support.files import media_types
from support.storage import attachments, feedback

Json = dict[str, Any]

REF = "#/components/schemas/"

SENT: dict[str, Any] = {"ChatKitRequest": types.ChatKitReq}
ANSWERED: dict[str, Any] = {
    "Thread": types.Thread,
    "ThreadPage": types.Page[types.Thread],
    "ThreadItemPage": types.Page[types.ThreadItem],
    "Attachment": types.Attachment,
    "TranscriptionResult": types.TranscriptionResult,
    "SyncCustomActionResponse": types.SyncCustomActionResponse,
    "ThreadStreamEvent": types.ThreadStreamEvent,
}
# Unions whose names are Python's alone: pydantic would repeat them wherever they are used.
UNIONS: dict[str, Any] = {
    "ThreadItem": types.ThreadItem,
    "ThreadItemUpdate": types.ThreadItemUpdate,
    "Task": types.Task,
    "IconName": icons.IconName,
    "Widget": widgets.WidgetRoot,
    "WidgetComponent": widgets.WidgetComponent,
}

# The server's own notes, which never leave it.
UNSENT = [f"{REF}HiddenContextItem", f"{REF}SDKHiddenContextItem"]

# What we do not take, although the SDK would.
BOUNDS: dict[str, Json] = {
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

# To the SDK any object with a type is one. What they are made of is for ChatKit's own documentation to say.
WIDGET = {
    "type": "object",
    "description": "A widget, or a component of one, as ChatKit's client draws it.",
    "properties": {"type": {"type": "string"}},
    "required": ["type"],
    "additionalProperties": True,
}


def components() -> dict[str, Json]:
    """By name, what ``#/components/schemas/`` has to have for ``SENT`` and ``ANSWERED``."""
    kinds: list[Any] = [(name, "validation", TypeAdapter(kind)) for name, kind in SENT.items()]
    kinds += [(name, "serialization", TypeAdapter(kind)) for name, kind in (ANSWERED | UNIONS).items()]
    tops, others = TypeAdapter.json_schemas(kinds, ref_template=REF + "{model}", schema_generator=_Schema)
    # pydantic names classes by itself, and generic ones at length. The rest are unions, and have none.
    names = {top["$ref"]: REF + name for (name, _), top in tops.items() if "$ref" in top}
    unions = {name: top for (name, _), top in tops.items() if "$ref" not in top}

    def tidy(node: Any, name: str = "") -> Any:
        if isinstance(node, list):
            return [tidy(part) for part in node if part not in [{"$ref": ref} for ref in UNSENT]]
        if isinstance(node, str) and node.startswith(REF):
            return names.get(node) or REF + _readable(node.removeprefix(REF))
        if not isinstance(node, dict):
            return node
        for union, schema in unions.items():
            if union != name and schema.items() <= node.items():
                return {"$ref": REF + union} | {key: node[key] for key in node if key not in schema}
        return {
            key: tidy(value)
            for key, value in node.items()
            if value not in UNSENT and not (key == "title" and isinstance(value, str))  # the name once more
        }

    schemas = {tidy(REF + name).removeprefix(REF): tidy(schema) for name, schema in others["$defs"].items()}
    schemas |= {name: tidy(union, name) for name, union in unions.items()}
    schemas |= {"Widget": WIDGET, "WidgetComponent": {"$ref": f"{REF}Widget"}}
    for name, bounds in BOUNDS.items():
        for part, bound in bounds.items():
            schemas[name]["properties"][part] |= bound
    needed = _reachable(schemas, {*SENT, *ANSWERED})
    return {name: schemas[name] for name in sorted(needed)}


class _Schema(GenerateJsonSchema):
    # The SDK gives Action.type a default that is no JSON, which pydantic would warn of.
    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def nullable_schema(self, schema: Any) -> Json:
        if self.mode == "serialization":  # what is None, the SDK leaves out
            return self.generate_inner(schema["schema"])
        return super().nullable_schema(schema)

    def default_schema(self, schema: Any) -> Json:
        said = super().default_schema(schema)
        if said.get("default", "") is None or "const" in said:
            del said["default"]
        return said

    def field_is_required(self, field: Any, total: bool) -> bool:
        inner = field["schema"]
        if inner["type"] != "default":
            return True
        if self.mode == "serialization":
            return inner.get("default", "made by a factory") is not None
        # The tag of a union: without it, nobody could tell what it is.
        return inner["schema"]["type"] == "literal" and len(inner["schema"]["expected"]) == 1

    def datetime_schema(self, schema: Any) -> Json:
        return {
            "type": "string",
            "description": "In UTC, without saying so.",
            "examples": ["2026-03-01T12:30:15.123456"],
        }


def _readable(name: str) -> str:
    """``InferenceOptions-Input`` (pydantic's, of a class that goes both ways), ``Action_str_Any_``."""
    return re.sub(r"_\w+_$", "", name.removesuffix("-Output").replace("-", ""))


def _reachable(schemas: dict[str, Json], wanted: set[str]) -> set[str]:
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
