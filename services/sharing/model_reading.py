"""What of a product somebody may read. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from libs.errors import Forbidden, Invalid, Reason, WrongState
from services.sharing.model import Classification, Clearance, Contract, Product

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Reading:
    """The fields to give and those of them to mask; `sensitive` reads are written to the audit log."""

    fields: tuple[str, ...]
    masked: frozenset[str]
    sensitive: bool
    contract: str = ""


def read_own(product: Product, wanted: Sequence[str], where: Iterable[str], clearance: Clearance) -> Reading:
    """Return what may be read of a product of this node; without `wanted` all that may.

    Raises Invalid for a field that the product does not have, Forbidden for one above the clearance, and Forbidden for
    a condition on a field that would be masked: the answer would tell its value all the same.
    """
    cleared = {one.name: one for one in product.fields if one.classification.level <= clearance.level}
    for path, name in (*_paths("fields", wanted), *((f"where[{name}]", name) for name in where)):
        if product.field(name) is None:
            raise Invalid(path, f"{product.name} has no field {name}", reason=Reason.FIELD_NOT_IN_PRODUCT)
        if name not in cleared:
            raise _above(name)
    fields = tuple(dict.fromkeys(wanted)) or tuple(cleared)
    masked = frozenset(name for name in fields if cleared[name].personal and not clearance.personal)
    for name in where:
        if cleared[name].personal and not clearance.personal:
            raise Forbidden(
                Reason.FIELD_ABOVE_CLEARANCE, f"{name} is personal: rows cannot be chosen by it", field=name
            )
    touched = {*fields, *where}
    sensitive = any(
        cleared[name].personal or cleared[name].classification.level >= Classification.IMPORTANT for name in touched
    )
    return Reading(fields, masked, sensitive)


def read_held(
    product: Product, contracts: Sequence[Contract], wanted: Sequence[str], where: Collection[str], now: datetime
) -> Reading:
    """Return what may be read of a partner's product, and under which of its contracts, the latest first.

    Raises WrongState when no contract is in force, and Forbidden naming the first field that none of those in force
    gives.
    """
    in_force = [one for one in contracts if one.in_force(now)]
    if not in_force:
        last = contracts[0].name if contracts else ""
        text = f"no contract under which {product.name} is held is in force"
        raise WrongState(Reason.CONTRACT_NOT_ACTIVE, text, product=product.name, contract=last)
    for contract in in_force:
        if contract.fields.issuperset((*wanted, *where)):
            order = [one.name for one in product.fields if one.name in contract.fields]
            return Reading(
                tuple(dict.fromkeys(wanted)) or tuple(order), frozenset(), sensitive=False, contract=contract.name
            )
    contract = in_force[0]
    name = next((one for one in (*wanted, *where) if one not in contract.fields), "")
    text = f"{contract.name} does not give the field {name}"
    raise Forbidden(Reason.FIELD_NOT_IN_CONTRACT, text, field=name, contract=contract.name)


def _paths(field: str, names: Sequence[str]) -> Iterable[tuple[str, str]]:
    return ((f"{field}[{index}]", name) for index, name in enumerate(names))


def _above(name: str) -> Forbidden:
    text = f"{name} is classified above what the caller may read"
    return Forbidden(Reason.FIELD_ABOVE_CLEARANCE, text, field=name)
