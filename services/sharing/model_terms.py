"""Whether a product may be given away under some terms. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from services.sharing.model import Classification, Field, FieldType, Product

if TYPE_CHECKING:
    from collections.abc import Sequence

# A person is often known by more of a name or number than this.
PERSONAL_CHARS_KEPT_MAX = 2


class Masking(IntEnum):
    """What happens to the values of a field; numbered as in the proto."""

    NONE = 0
    DROP = 1
    HASH = 2
    TRUNCATE = 3


_KEY_REFUSALS = {
    Masking.DROP: ("KEY_FIELD_MISSING", "must not be dropped"),
    Masking.TRUNCATE: ("KEY_FIELD_NOT_UNIQUE", "must not be cut: hash it instead"),
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What a contract does with one field; keep is for TRUNCATE, in characters or digits."""

    field: str
    masking: Masking
    keep: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a field cannot be given; field is empty when it is the product."""

    field: str
    reason: str
    description: str


def refusals_of(product: Product, own_node: str, version: int, terms: Sequence[Terms]) -> list[Refusal]:
    """Return everything that speaks against giving these fields of the product; nothing when they may be given."""
    found: list[Refusal] = []
    if product.node != own_node:
        found.append(Refusal("", "PRODUCT_NOT_OWN", f"{product.name} is {product.node}'s to give"))
    elif not product.offered:
        found.append(Refusal("", "PRODUCT_NOT_OFFERED", f"{product.name} is not offered to partners"))
    if version != product.version:
        text = f"{product.name} is at version {product.version}, not {version}"
        found.append(Refusal("", "PRODUCT_VERSION_DIFFERS", text))
    seen: set[str] = set()
    for one in terms:
        if one.field in seen:
            found.append(Refusal(one.field, "FIELD_REPEATED", f"{one.field} is named twice"))
        seen.add(one.field)
        refusal = _field_refusal(product.field(one.field), one)
        if refusal is not None:
            found.append(Refusal(one.field, *refusal))
    for name in product.key_fields:
        if name not in seen:
            text = f"{name} identifies a row, so it must be among the fields"
            found.append(Refusal(name, "KEY_FIELD_MISSING", text))
    return found


def needs_approver(product: Product, terms: Sequence[Terms]) -> bool:
    """Say whether a person has to agree: a field that is given is classified IMPORTANT."""
    given = {one.field for one in terms if one.masking is not Masking.DROP}
    return any(one.classification.level is Classification.IMPORTANT and one.name in given for one in product.fields)


def _field_refusal(field: Field | None, terms: Terms) -> tuple[str, str] | None:
    name = terms.field
    if field is None:
        return "FIELD_UNKNOWN", f"the product has no field {name}"
    if field.classification.level is Classification.CORE:
        return "FIELD_CORE", f"{name} is core data, which never leaves the node"
    if field.key and terms.masking in {Masking.DROP, Masking.TRUNCATE}:
        return _KEY_REFUSALS[terms.masking][0], f"{name} identifies a row, so it {_KEY_REFUSALS[terms.masking][1]}"
    if terms.masking is Masking.TRUNCATE and field.type is FieldType.BOOL:
        return "MASKING_NOT_POSSIBLE", f"{name} is true or false, which cannot be cut"
    if field.personal and not _hides_the_person(field, terms):
        text = f"{name} is personal: drop it, hash it, or keep at most {PERSONAL_CHARS_KEPT_MAX} characters of it"
        return "PERSONAL_NOT_MASKED", text
    return None


def _hides_the_person(field: Field, terms: Terms) -> bool:
    if terms.masking is Masking.TRUNCATE:
        return field.type is FieldType.STRING and terms.keep <= PERSONAL_CHARS_KEPT_MAX
    return terms.masking is not Masking.NONE
