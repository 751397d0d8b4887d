"""From facts to rows: paths into messages, checked against the message type before they are used.

A path names fields by their proto names, with dots: "title.en". It ends at a number, text, truth value, enum or
timestamp, and does not lead through lists or maps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from libs import canonical
from libs.canonical import JsonValue
from libs.errors import Invalid
from services.sharing.model import FieldType, Product

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

_NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
    FieldDescriptor.CPPTYPE_DOUBLE,
    FieldDescriptor.CPPTYPE_FLOAT,
}
_TEXTS = {FieldType.STRING, FieldType.DATE, FieldType.TIME}
_TIMESTAMP = Timestamp.DESCRIPTOR.full_name


class PathError(ValueError):
    """A path that does not lead to a value of the message; the message says why."""


@dataclass(frozen=True, slots=True)
class Path:
    """A checked path. `types` are the types of field that its values fit."""

    names: tuple[str, ...]
    types: frozenset[FieldType]
    convert: Callable[[Any], JsonValue]

    def read(self, message: Message) -> JsonValue:
        """Return the value; None when a field on the way is not set."""
        value: Any = message
        for name in self.names:
            descriptor = value.DESCRIPTOR.fields_by_name[name]
            if descriptor.has_presence and not value.HasField(name):
                return None
            value = getattr(value, name)
        return self.convert(value)


def parse_path(descriptor: Descriptor, text: str) -> Path:
    """Return the path in messages of this type. Raises PathError."""
    names = tuple(text.split("."))
    current: Descriptor | None = descriptor
    field: FieldDescriptor | None = None
    for name in names:
        field = current.fields_by_name.get(name) if current is not None else None
        if field is None:
            raise PathError(f"{text} is not a path in {descriptor.full_name}: there is no {name}")
        if field.is_repeated:
            raise PathError(f"{text} leads through the list {name}")
        current = field.message_type
    if field is None:
        raise PathError("a path must not be empty")
    types, convert = _reader(field, text)
    return Path(names, frozenset(types), convert)


def _reader(field: FieldDescriptor, text: str) -> tuple[set[FieldType], Callable[[Any], JsonValue]]:
    if field.message_type is not None:
        if field.message_type.full_name == _TIMESTAMP:
            return {FieldType.TIME, FieldType.STRING}, _time
        raise PathError(f"{text} is a {field.message_type.name}, not a value")
    if field.enum_type is not None:
        names = {value.number: value.name for value in field.enum_type.values}
        return {FieldType.STRING}, lambda number: names.get(number, str(number))
    if field.type == FieldDescriptor.TYPE_STRING:
        return set(_TEXTS), str
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return {FieldType.BOOL}, bool
    if field.cpp_type in _NUMBERS:
        return {FieldType.NUMBER}, _number
    raise PathError(f"{text} is not a value that a row can hold")


def _time(stamp: Timestamp) -> str:
    return stamp.ToJsonString()


def _number(value: float) -> JsonValue:
    """Return the number, as text when it is an integer that a double cannot hold; None for infinity and the like."""
    return canonical.storable(value) if isfinite(value) else None


@dataclass(frozen=True, slots=True)
class Extraction:
    """How rows of one product come from one type of fact."""

    columns: Mapping[str, Path]
    where: tuple[tuple[Path, str], ...]

    def row(self, message: Message) -> dict[str, JsonValue] | None:
        """Return the row of a fact, fields without a value left out; None when the product does not want the fact."""
        for path, wanted in self.where:
            if _text(path.read(message)) != wanted:
                return None
        values = ((name, path.read(message)) for name, path in self.columns.items())
        return {name: value for name, value in values if value is not None}


def extraction(product: Product, types: Mapping[str, Descriptor]) -> Extraction:
    """Return how the product's rows come from its source; `types` are the facts that may be a source, by full name.

    Raises Invalid naming every path that leads nowhere or to a value of another type than the field's.
    """
    source = product.source
    if source is None:
        raise ValueError(f"{product.name} has no source")
    descriptor = types.get(source.fact)
    if descriptor is None:
        raise Invalid("product.source.fact", f"must be one of {', '.join(sorted(types))}")
    faults: list[tuple[str, str]] = []

    def path(text: str, name: str) -> Path | None:
        try:
            return parse_path(descriptor, text)
        except PathError as error:
            faults.append((name, str(error)))
            return None

    columns = {name: path(text, f"product.source.columns[{name}]") for name, text in sorted(source.columns.items())}
    where = [(path(text, f"product.source.where[{text}]"), wanted) for text, wanted in sorted(source.where.items())]
    for name, found in columns.items():
        field = product.field(name)
        if found is not None and field is not None and field.type not in found.types:
            kinds = " or ".join(sorted(kind.name for kind in found.types))
            rule = f"{source.columns[name]} gives {kinds}, and the field is {field.type.name}"
            faults.append((f"product.source.columns[{name}]", rule))
    if faults:
        raise Invalid.many(faults)
    return Extraction(
        {name: found for name, found in columns.items() if found is not None},
        tuple((found, wanted) for found, wanted in where if found is not None),
    )


def _text(value: JsonValue) -> str:
    """Return a value as `where` writes it: numbers in canonical JSON, true and false, "" for none."""
    if value is None:
        return ""
    return value if isinstance(value, str) else canonical.dumps(value).decode()
