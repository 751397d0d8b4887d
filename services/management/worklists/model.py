"""What a work list holds: whose work is meant, narrowed to what the caller may see. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import product
from typing import TYPE_CHECKING, TypeVar

from services.management.model_component import Component

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from libs.access import Visibility
    from services.management.model_loop import Loop

    T = TypeVar("T")

# What the first step of anything needs beside the permission of the action itself.
ADVANCE = "management.events.advance"

State = tuple[str, int, str]  # a loop, a version of it, and a state of that


class Inbox(StrEnum):
    """Whose work: all that may be seen, what may be acted upon, one's own, one's organisations', and what is free."""

    ALL = "all"
    ROLE = "role"
    MINE = "mine"
    ORGANISATION = "organisation"
    UNASSIGNED = "unassigned"


class Order(StrEnum):
    """What comes first; equals in the order in which they were opened, for NEWEST in the opposite."""

    DUE = "due"
    NEWEST = "newest"
    OLDEST = "oldest"
    STEP_DUE = "step_due"


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that all hold; an empty one is none. `assignees` must each have the event, "" for nobody.

    `overdue` and `due_before` are about the time when it is due, `title` is in any case of its letters. Without
    `mirrored` only the node's own events count. A `component` without a code stands for all of its type.
    """

    states: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    assignees: tuple[str, ...] = ()
    overdue: bool = False
    due_before: datetime | None = None
    title: str = ""
    mirrored: bool = False
    component: Component | None = None


@dataclass(frozen=True, slots=True)
class Area:
    """Events in `zones`, of `organisations`, in `states`, each None for any, with a handler in every set of `handlers`.

    A handler is the organisation of the event or one with a share of it.
    """

    zones: frozenset[str] | None = None
    organisations: frozenset[str] | None = None
    states: frozenset[State] | None = None
    handlers: frozenset[frozenset[str]] = frozenset()

    def __and__(self, other: Area) -> Area:
        return Area(
            _both(self.zones, other.zones),
            _both(self.organisations, other.organisations),
            _both(self.states, other.states),
            self.handlers | other.handlers,
        )

    @property
    def is_empty(self) -> bool:
        sets = (self.zones, self.organisations, self.states, *self.handlers)
        return any(each is not None and not each for each in sets)


@dataclass(frozen=True, slots=True)
class Branch:
    """A part of a list that can be walked along an index: like Area, the handlers divided.

    The organisation of the event is one of `organisations`, and of each set of `supporters` one has a share.
    """

    zones: frozenset[str] | None
    organisations: frozenset[str] | None
    states: frozenset[State] | None
    supporters: frozenset[frozenset[str]]


def seen(visible: Visibility, *, by_handlers: bool) -> list[Area]:
    """Return where a permission holds. `by_handlers`: for an organisation it holds for what it has a share of, too."""
    if visible.everything:
        return [Area()]
    found = [Area(zones=frozenset(visible.zones))] if visible.zones else []
    by_zones: dict[frozenset[str] | None, set[str]] = {}
    if visible.organisation_everywhere:
        by_zones[None] = set(visible.organisation_everywhere)
    zones_of: dict[str, set[str]] = {}
    for organisation, zone in visible.organisation_zones:
        zones_of.setdefault(organisation, set()).add(zone)
    for organisation, zones in zones_of.items():
        by_zones.setdefault(frozenset(zones), set()).add(organisation)
    for where, organisations in by_zones.items():
        whose = frozenset(organisations)
        if by_handlers:
            found.append(Area(where, handlers=frozenset([whose])))
        else:
            found.append(Area(where, whose))
    return found


def actionable(loops: Iterable[Loop], visibility: Callable[[str], Visibility]) -> list[Area]:
    """Return where the caller may take an ordinary next step: advance at all, and with the permission of the step."""
    states: dict[str, set[State]] = {}
    for loop in loops:
        for state in loop.open_states:
            for permission in loop.next_permissions(state):
                states.setdefault(permission, set()).add((loop.name, loop.version, state))
    any_step = seen(visibility(ADVANCE), by_handlers=False)
    found: dict[Area, set[State]] = {}
    for permission, which in states.items():
        for one, other in product(any_step, seen(visibility(permission), by_handlers=False)):
            found.setdefault(one & other, set()).update(which)
    return [replace(area, states=frozenset(which)) for area, which in found.items()]


def common(first: Iterable[Area], second: Collection[Area]) -> list[Area]:
    """Return what lies in an area of both."""
    met = dict.fromkeys(one & other for one in first for other in second)
    return [area for area in met if not area.is_empty]


def branches(areas: Iterable[Area]) -> list[Branch]:
    """Return areas as branches: each handler is the organisation of the event, or has a share of it."""
    found: dict[Branch, None] = {}
    for area in areas:
        # Who may only be one of some that are handlers all is a handler.
        open_sets = [whose for whose in area.handlers if area.organisations is None or not area.organisations <= whose]
        for ways in product((True, False), repeat=len(open_sets)):
            organisations, supporters = area.organisations, set[frozenset[str]]()
            for whose, leads in zip(open_sets, ways, strict=True):
                if leads:
                    organisations = _both(organisations, whose)
                else:
                    supporters.add(whose)
            if organisations is None or organisations:
                found[Branch(area.zones, organisations, area.states, frozenset(supporters))] = None
    return list(found)


def _both(first: frozenset[T] | None, second: frozenset[T] | None) -> frozenset[T] | None:
    if first is None or second is None:
        return second if first is None else first
    return first & second
