"""Whether a product may be given away under some terms. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from libs.errors import Invalid
from services.sharing.model import Classification, Field, FieldType, Product, condition

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

# A person is often known by more of a name or number than this.
PERSONAL_CHARS_KEPT_MAX = 2


class Masking(IntEnum):
    """What happens to the values of a field; numbered as in the proto."""

    NONE = 0
    DROP = 1
    HASH = 2
    TRUNCATE = 3
    GENERALISE = 4


_KEY_REFUSALS = {
    Masking.DROP: ("KEY_FIELD_MISSING", "must not be dropped"),
    Masking.TRUNCATE: ("KEY_FIELD_NOT_UNIQUE", "must not be cut: hash it instead"),
    Masking.GENERALISE: ("KEY_FIELD_NOT_UNIQUE", "must not be made coarser: hash it instead"),
}
_TIMES = {FieldType.DATE, FieldType.TIME}
# Of a person's date of birth, say, this is the most that is given.
_PERSONAL_UNITS = {"year"}


@dataclass(frozen=True, slots=True)
class Terms:
    """What a contract does with one field: keep is for TRUNCATE, in characters or digits, step and unit for GENERALISE.

    masking is None for one that this node does not know.
    """

    field: str
    masking: Masking | None
    keep: int = 0
    step: float = 0
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which rows a contract gives, and whether it gives counts of them.

    where are texts by field, time_field is set when a time limits them, zones are codes; count_field is empty for rows.
    """

    where: Mapping[str, str] = dataclasses.field(default_factory=dict)
    time_field: str = ""
    zones: tuple[str, ...] = ()
    count_field: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a field cannot be given; field is empty when it is the product."""

    field: str
    reason: str
    description: str


def refusals_of(product: Product, own_node: str, version: int, terms: Sequence[Terms], choice: Choice) -> list[Refusal]:
    """Return everything that speaks against giving these fields of the product; nothing when they may be given."""
    found: list[Refusal] = []
    if product.node != own_node:
        found.append(Refusal("", "PRODUCT_NOT_OWN", f"{product.name} is {product.node}'s to give"))
    elif not product.offered:
        found.append(Refusal("", "PRODUCT_NOT_OFFERED", f"{product.name} is not offered to partners"))
    if version != product.version:
        text = f"{product.name} is at version {product.version}, not {version}"
        found.append(Refusal("", "PRODUCT_VERSION_DIFFERS", text))
    return [*found, *_field_refusals(product, terms, choice), *_choice_refusals(product, terms, choice)]


def zone_refusals(zones: Sequence[str], known: Collection[str]) -> list[Refusal]:
    """Return the zones that are not this node's: rows about them it does not have."""
    return [Refusal("", "ZONE_UNKNOWN", f"{zone} is not a zone of this node") for zone in zones if zone not in known]


def needs_approver(product: Product, terms: Sequence[Terms], choice: Choice) -> bool:
    """Say whether a person has to agree: a field that is given, or tells by which rows are given, is IMPORTANT."""
    touched = {one.field for one in terms if one.masking is not Masking.DROP} | _chosen_by(choice)
    return any(one.classification.level is Classification.IMPORTANT and one.name in touched for one in product.fields)


def _field_refusals(product: Product, terms: Sequence[Terms], choice: Choice) -> Iterator[Refusal]:
    seen: set[str] = set()
    for one in terms:
        if one.field in seen:
            yield Refusal(one.field, "FIELD_REPEATED", f"{one.field} is named twice")
        seen.add(one.field)
        refusal = _field_refusal(product.field(one.field), one, counted=bool(choice.count_field))
        if refusal is not None:
            yield Refusal(one.field, *refusal)
    for name in product.key_fields:
        if name not in seen and not choice.count_field:
            text = f"{name} identifies a row, so it must be among the fields"
            yield Refusal(name, "KEY_FIELD_MISSING", text)


def _choice_refusals(product: Product, terms: Sequence[Terms], choice: Choice) -> Iterator[Refusal]:
    """Rows that are chosen by a value tell the value: so what may not be given may not choose either."""
    plain = {one.field for one in terms if one.masking is Masking.NONE}
    for name in sorted(_chosen_by(choice)):
        field = product.field(name)
        if field is None:
            yield Refusal(name, "FIELD_UNKNOWN", f"the product has no field {name}")
        elif field.classification.level is Classification.CORE:
            yield Refusal(name, "FIELD_CORE", f"{name} is core data: rows cannot be chosen by it")
        elif field.personal and name not in plain:
            yield Refusal(name, "PERSONAL_NOT_MASKED", f"{name} is personal: rows cannot be chosen by it")
        elif name == choice.time_field and field.type not in _TIMES:
            yield Refusal(name, "FILTER_NOT_POSSIBLE", f"{name} is neither a date nor a time")
    for name, text in choice.where.items():
        field = product.field(name)
        if field is not None and not _can_equal(name, text, field.type):
            yield Refusal(name, "FILTER_NOT_POSSIBLE", f"no value of {name} is equal to {text}")
    if choice.count_field in {one.field for one in terms}:
        yield Refusal(choice.count_field, "FIELD_REPEATED", f"{choice.count_field} is the name of the count")


def _chosen_by(choice: Choice) -> set[str]:
    return {*choice.where, *([choice.time_field] if choice.time_field else [])}


def _can_equal(name: str, text: str, kind: FieldType) -> bool:
    try:
        condition({name: text}, {name: kind})
    except Invalid:
        return False
    return True


def _field_refusal(field: Field | None, terms: Terms, *, counted: bool) -> tuple[str, str] | None:
    name = terms.field
    if field is None:
        return "FIELD_UNKNOWN", f"the product has no field {name}"
    if field.classification.level is Classification.CORE:
        return "FIELD_CORE", f"{name} is core data, which never leaves the node"
    if terms.masking in _KEY_REFUSALS and field.key and not counted:
        reason, rule = _KEY_REFUSALS[terms.masking]
        return reason, f"{name} identifies a row, so it {rule}"
    if not _is_possible(field, terms, counted=counted):
        return "MASKING_NOT_POSSIBLE", f"{name} cannot be masked so"
    if field.personal and not _hides_the_person(field, terms):
        text = f"{name} is personal: drop it, hash it, or keep at most {PERSONAL_CHARS_KEPT_MAX} characters or the year"
        return "PERSONAL_NOT_MASKED", text
    return None


def _is_possible(field: Field, terms: Terms, *, counted: bool) -> bool:
    """Say whether a masking leaves anything but null of values of the field's type."""
    match terms.masking:
        case None:
            return False
        case Masking.TRUNCATE:
            return field.type in {FieldType.STRING, *_TIMES} or (field.type is FieldType.NUMBER and not counted)
        case Masking.GENERALISE if field.type is FieldType.NUMBER:
            return terms.step > 0
        case Masking.GENERALISE:
            return field.type in _TIMES and bool(terms.unit)
        case Masking.HASH:
            return not counted  # counts have no need of pseudonyms, which lead back to single rows
    return True


def _hides_the_person(field: Field, terms: Terms) -> bool:
    if terms.masking is Masking.TRUNCATE:
        return field.type is FieldType.STRING and terms.keep <= PERSONAL_CHARS_KEPT_MAX
    if terms.masking is Masking.GENERALISE:
        return field.type in _TIMES and terms.unit in _PERSONAL_UNITS
    return terms.masking is not Masking.NONE
