"""Data products: their fields, who may see which, and what a change of a product must keep to. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from math import isfinite
from typing import TYPE_CHECKING

from libs import canonical
from libs.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.canonical import JsonValue

# A row travels in facts, and a fact is limited; a row is meant to be a record, not a document.
ROW_BYTES_MAX = 64 * 1024
# PostgreSQL does not index more than 2,704 bytes, and the names of product and contract stand in the same index.
KEY_BYTES_MAX = 2_000


class FieldType(IntEnum):
    """Numbered as in the proto."""

    UNKNOWN = 0  # of a partner's field of which no value has come yet
    STRING = 1
    NUMBER = 2
    DATE = 3
    TIME = 4
    BOOL = 5


class Classification(IntEnum):
    """Levels of protection (数据分级), numbered as in the proto."""

    NONE = 0  # treated as CORE
    PUBLIC = 1
    INTERNAL = 2
    IMPORTANT = 3
    CORE = 4

    @property
    def level(self) -> Classification:
        """The level that counts."""
        return self or Classification.CORE


@dataclass(frozen=True, slots=True)
class Text:
    """A text for people."""

    zh: str = ""
    en: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a product."""

    name: str
    type: FieldType
    title: Text = Text()
    unit: str = ""
    classification: Classification = Classification.NONE
    personal: bool = False
    key: bool = False
    subject: bool = False  # the value says which person a row is about


@dataclass(frozen=True, slots=True)
class Source:
    """From which facts rows are made: columns by field, and values that a fact must have, by path."""

    fact: str
    columns: Mapping[str, str]
    where: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Product:
    """A data product. node is who provides it; rows and updated_at are as of now."""

    name: str
    node: str
    title: Text
    description: Text
    owner: str
    zone: str
    version: int
    fields: tuple[Field, ...]
    update_frequency: str = ""
    offered: bool = False
    source: Source | None = None
    rows: int = 0
    updated_at: datetime | None = None

    def field(self, name: str) -> Field | None:
        return next((one for one in self.fields if one.name == name), None)

    @property
    def key_fields(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.fields if one.key)

    @property
    def subject_fields(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.fields if one.subject)


@dataclass(frozen=True, slots=True)
class Clearance:
    """Up to which level somebody may read, and whether they see personal data as it is."""

    level: Classification
    personal: bool


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract under which this node holds a partner's product; fields are those that it gives."""

    name: str
    product: str
    fields: frozenset[str]
    active: bool
    valid_from: datetime | None
    valid_until: datetime | None

    def in_force(self, now: datetime) -> bool:
        """Say whether rows may be read under it now."""
        begun = self.valid_from is None or self.valid_from <= now
        return self.active and begun and (self.valid_until is None or now < self.valid_until)


def held_name(node: str, product: str) -> str:
    """Return what a partner's product is called here."""
    return f"products/{node}.{product.removeprefix('products/')}"


def check_product(wanted: Product, before: Product | None) -> None:
    """Raise Invalid when the product contradicts itself, or a change of its fields keeps the version."""
    violations: list[tuple[str, str]] = []
    if "." in wanted.name:
        violations.append(("product.name", "must not contain a dot: partners' products have one"))
    names = [one.name for one in wanted.fields]
    violations += [
        (f"product.fields[{index}].name", f"{name} is there twice")
        for index, name in enumerate(names)
        if name in names[:index]
    ]
    if not wanted.key_fields:
        violations.append(("product.fields", "must have a key field, or rows could not be told apart"))
    violations += [
        (f"product.fields[{index}].personal", "must be set for a field that says who a row is about")
        for index, one in enumerate(wanted.fields)
        if one.subject and not one.personal
    ]
    violations += [
        (f"product.fields[{index}].subject", "must not be core data, which does not even leave this service")
        for index, one in enumerate(wanted.fields)
        if one.subject and one.classification.level is Classification.CORE
    ]
    violations += _source_faults(wanted)
    if before is not None and wanted.version < before.version:
        violations.append(("product.version", f"must be at least {before.version}, the version now"))
    elif before is not None and wanted.version == before.version and wanted.fields != before.fields:
        violations.append(("product.version", f"must be higher than {before.version}, as the fields change"))
    if violations:
        raise Invalid.many(violations)


def _source_faults(wanted: Product) -> list[tuple[str, str]]:
    if wanted.source is None:
        return []
    columns = wanted.source.columns
    unknown = [name for name in sorted(columns) if wanted.field(name) is None]
    missing = [name for name in wanted.key_fields if name not in columns]
    return [
        *((f"product.source.columns[{name}]", "is not a field of the product") for name in unknown),
        *(("product.source.columns", f"lacks the key field {name}") for name in missing),
    ]


def key_of(row: Mapping[str, JsonValue], key_fields: Sequence[str]) -> str:
    """Return what identifies the row: canonical JSON of the key fields' values.

    Raises ValueError when one is missing or all are longer than KEY_BYTES_MAX.
    """
    values = [row.get(name) for name in key_fields]
    if not values or any(value is None for value in values):
        raise ValueError(f"a row needs a value in each key field: {', '.join(key_fields)}")
    key = canonical.dumps(canonical.storable(values))
    if len(key) > KEY_BYTES_MAX:
        raise ValueError(f"the key of a row has {len(key)} bytes; {KEY_BYTES_MAX} are allowed")
    return key.decode()


def check_row(row: Mapping[str, JsonValue]) -> str:
    """Return the row as it is stored, canonical JSON. Raises ValueError when it is larger than ROW_BYTES_MAX."""
    text = canonical.dumps(canonical.storable(row))
    if len(text) > ROW_BYTES_MAX:
        raise ValueError(f"a row has {len(text)} bytes; {ROW_BYTES_MAX} are allowed")
    return text.decode()


def condition(where: Mapping[str, str], fields: Mapping[str, FieldType]) -> dict[str, JsonValue]:
    """Return what rows must hold, as JSON values of the fields' types.

    Raises Invalid for a text that no value of the field's type is equal to.
    """
    return {name: _value(name, text, fields[name]) for name, text in where.items()}


def _value(name: str, text: str, kind: FieldType) -> JsonValue:
    if kind is FieldType.NUMBER:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not isfinite(number):
            raise Invalid(f"where[{name}]", "must be a number")
        return number
    if kind is FieldType.BOOL:
        if text not in {"true", "false"}:
            raise Invalid(f"where[{name}]", "must be true or false")
        return text == "true"
    return text


def type_of(value: JsonValue) -> FieldType:
    """Return the type of a partner's field by one of its values."""
    if isinstance(value, bool):
        return FieldType.BOOL
    if isinstance(value, int | float):
        return FieldType.NUMBER
    return FieldType.STRING if isinstance(value, str) else FieldType.UNKNOWN
