"""Turns messages and enums into JSON schemas as protobuf's JSON mapping writes them."""

import re
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from tools.openapi.paths import SEGMENT_PATTERN
from tools.openapi.source import Rules, Source

Schema = dict[str, Any]

_INT32: Schema = {"type": "integer", "format": "int32"}
_UINT32: Schema = {"type": "integer", "format": "int64", "minimum": 0, "maximum": 4294967295}
# JSON numbers lose digits beyond 2^53, so the mapping writes 64-bit integers as strings.
_INT64: Schema = {"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"}
_UINT64: Schema = {"type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$"}
_SCALARS: dict[int, Schema] = {
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.TYPE_INT32: _INT32,
    FieldDescriptor.TYPE_SINT32: _INT32,
    FieldDescriptor.TYPE_SFIXED32: _INT32,
    FieldDescriptor.TYPE_UINT32: _UINT32,
    FieldDescriptor.TYPE_FIXED32: _UINT32,
    FieldDescriptor.TYPE_INT64: _INT64,
    FieldDescriptor.TYPE_SINT64: _INT64,
    FieldDescriptor.TYPE_SFIXED64: _INT64,
    FieldDescriptor.TYPE_UINT64: _UINT64,
    FieldDescriptor.TYPE_FIXED64: _UINT64,
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
}
_WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": "^-?[0-9]+([.][0-9]{1,9})?s$"},
    "google.protobuf.FieldMask": {"type": "string", "description": "Field paths in camelCase, with commas between."},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.Any": {"type": "object", "properties": {"@type": {"type": "string"}}, "required": ["@type"]},
}
_WRAPPER = re.compile(r"google\.protobuf\.(Double|Float|U?Int(32|64)|Bool|String|Bytes)Value")
_CHOICE_FIELDS_MIN = 2


class Schemas:
    """Collects the schemas that are referred to, by full proto name."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._found: dict[str, Schema] = {}

    def all(self) -> dict[str, Schema]:
        """Every schema that was referred to so far, by name."""
        return dict(sorted(self._found.items()))

    def message(self, message: Descriptor) -> Schema:
        """A reference to a message's schema, or the schema itself for Google's well-known types."""
        if message.full_name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[message.full_name])
        if _WRAPPER.fullmatch(message.full_name):
            scalar = _SCALARS[message.fields_by_name["value"].type]
            return {**scalar, "type": [scalar["type"], "null"]}
        if message.full_name not in self._found:
            self._found[message.full_name] = {}  # a message may hold itself
            self._found[message.full_name] = self.object(message)
        return {"$ref": f"#/components/schemas/{message.full_name}"}

    def object(self, message: Descriptor, without: frozenset[str] = frozenset()) -> Schema:
        """The schema of a message, spelled out; `without` leaves out fields by their dotted proto paths."""
        properties: dict[str, Schema] = {}
        required: list[str] = []
        for field in message.fields:
            if field.name in without:
                continue
            inner = frozenset(path.partition(".")[2] for path in without if path.startswith(f"{field.name}."))
            properties[field.json_name] = self._property(field, inner)
            if self._source.rules(field).required:
                required.append(field.json_name)
        schema: Schema = {"type": "object"}
        description = self._with_choices(message, without)
        if description:
            schema["description"] = description
        if properties:
            schema["properties"] = properties
        if required:
            schema["required"] = required
        return schema

    def field(self, field: FieldDescriptor) -> Schema:
        """The schema of one field, with its rules and comment."""
        return self._property(field, frozenset())

    def _with_choices(self, message: Descriptor, without: frozenset[str]) -> str:
        sentences = [self._source.comment(message.full_name)]
        for choice in message.oneofs:
            names = [field.json_name for field in choice.fields if field.name not in without]
            if len(names) >= _CHOICE_FIELDS_MIN:
                sentences.append(f"At most one of {', '.join(names)} is set.")
        return " ".join(sentence for sentence in sentences if sentence)

    def _property(self, field: FieldDescriptor, without: frozenset[str]) -> Schema:
        rules = self._source.rules(field)
        schema = self._shape(field, rules, without)
        comment = self._source.field_comment(field)
        bounds = _bounds_in_words(field, rules)
        description = " ".join(text for text in (comment, bounds) if text)
        if description:
            schema["description"] = description
        if rules.personal:
            schema["x-personal"] = True
        return schema

    def _shape(self, field: FieldDescriptor, rules: Rules, without: frozenset[str]) -> Schema:
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            schema: Schema = {
                "type": "object",
                "additionalProperties": self._single(entry.fields_by_name["value"], rules, frozenset()),
            }
            _limit_items(schema, rules, "Properties")
            return schema
        if field.is_repeated:
            schema = {"type": "array", "items": self._single(field, rules, without)}
            _limit_items(schema, rules, "Items")
            return schema
        return self._single(field, rules, without)

    def _single(self, field: FieldDescriptor, rules: Rules, without: frozenset[str]) -> Schema:
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        if field.message_type is not None:
            return self.object(field.message_type, without) if without else self.message(field.message_type)
        schema = dict(_SCALARS[field.type])
        if schema["type"] in {"integer", "number"}:
            _limit_number(schema, rules)
        if field.type == FieldDescriptor.TYPE_STRING:
            _limit_string(schema, rules, required=rules.required)
        return schema

    def _enum(self, enum: EnumDescriptor) -> Schema:
        if enum.full_name not in self._found:
            lines = [self._source.comment(enum.full_name)]
            lines += [f"- {self._source.comment(f'{enum.full_name}.{value.name}')}" for value in enum.values]
            self._found[enum.full_name] = {
                "type": "string",
                "description": "\n".join(line for line in lines if line not in {"", "- "}),
                "enum": [value.name for value in enum.values],
            }
        return {"$ref": f"#/components/schemas/{enum.full_name}"}


def resource_pattern(resource: str) -> str:
    """The regular expression of a resource name pattern such as `zones/{zone}`."""
    return re.sub(r"\{\w+\}", lambda _: SEGMENT_PATTERN, resource)


def _limit_items(schema: Schema, rules: Rules, unit: str) -> None:
    if rules.required:
        schema[f"min{unit}"] = 1
    if rules.max_items:
        schema[f"max{unit}"] = rules.max_items


def _limit_number(schema: Schema, rules: Rules) -> None:
    if rules.gte is not None:
        schema["minimum"] = _plain(rules.gte)
    if rules.lte is not None:
        schema["maximum"] = _plain(rules.lte)


def _limit_string(schema: Schema, rules: Rules, *, required: bool) -> None:
    if required:
        schema["minLength"] = 1
    if rules.max_len:
        schema["maxLength"] = rules.max_len
    pattern = rules.pattern or resource_pattern(rules.resource)
    if pattern:
        # An empty string passes every pattern unless the field is required.
        schema["pattern"] = f"^(?:{pattern}){'' if required else '?'}$"
    if rules.secret:
        schema["format"] = "password"


def _bounds_in_words(field: FieldDescriptor, rules: Rules) -> str:
    """JSON schema cannot bound integers that are written as strings, nor bytes written as base64."""
    if field.type == FieldDescriptor.TYPE_BYTES and rules.max_len:
        return f"At most {rules.max_len} bytes."
    if field.type not in _SCALARS or _SCALARS[field.type]["type"] != "string":
        return ""
    bounds = [("At least", rules.gte), ("At most", rules.lte)]
    return " ".join(f"{word} {_plain(bound)}." for word, bound in bounds if bound is not None)


def _plain(number: float) -> int | float:
    return int(number) if number.is_integer() else number
