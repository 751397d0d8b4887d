"""Kinds of components. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.management.model import MajorClass

if TYPE_CHECKING:
    from libs.zones import ZoneTree


@dataclass(frozen=True, slots=True)
class Owner:
    """Who looks after components of a type in a zone and those below it."""

    zone: str
    organisation: str


@dataclass(frozen=True, slots=True)
class ComponentType:
    """One version of a kind of thing that stands in the city. `owners` look after it, the deepest zone counts."""

    name: str
    major: MajorClass
    title_zh: str = ""
    title_en: str = ""
    code: str = ""
    owners: tuple[Owner, ...] = ()
    event_types: tuple[str, ...] = ()
    version: int = 0
    retired: bool = False


def owner_of(component: ComponentType, zone: str, tree: ZoneTree) -> Owner | None:
    """Return who looks after components of a type in a zone: the deepest owner that covers it; None for nobody."""
    found = [owner for owner in component.owners if tree.covers(owner.zone, zone)]
    return max(found, key=lambda owner: len(tree.path(owner.zone)), default=None)


def misnamed(found: ComponentType | None, name: str, event_type: str) -> str:
    """Return the rule that naming a component of the type `name` in a report breaks; "" for none.

    `found` is that type if the catalogue has it.
    """
    if found is None:
        return f"{name} is not a component type of this node"
    if event_type not in found.event_types:
        return f"{event_type} is not one of the event types that can be reported of {name}"
    return ""
