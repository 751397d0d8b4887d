"""What a report becomes: which organisation it goes to, when it is due, which doubts stand with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from services.management import texts
from services.management.catalogue.model_components import owner_of
from services.management.model import (
    Doubt,
    Event,
    EventType,
    Explanation,
    Flag,
    Place,
    ReportKind,
    Route,
    Step,
    StepAction,
    flagged,
    step_between,
)
from services.management.model_component import Component
from services.management.model_loop import CLOCK_AHEAD_MAX_S

if TYPE_CHECKING:
    from libs.zones import ZoneTree
    from services.management.catalogue.model_components import ComponentType, Owner
    from services.management.model_loop import Loop
    from services.management.texts import Text

TITLE_CHARS_MAX = 120

_CHINESE = re.compile(r"[\u4e00-\u9fff]")


@dataclass(frozen=True, slots=True)
class Report:
    """One report as it came in. `source` is the request or the warning, "" for an officer's own."""

    kind: ReportKind
    source: str
    zone: str
    type: str
    description: str
    place: Place
    occurred_at: datetime
    flags: tuple[Flag, ...] = ()
    component: Component | None = None


@dataclass(frozen=True, slots=True)
class Routing:
    """Where routing sends events of a type and zone; `organisation` is "" when nothing covers the zone."""

    organisation: str
    explanation: Explanation


@dataclass(frozen=True, slots=True)
class Standing:
    """How organisations stand now, as far as the conditions of routes ask: who is off duty, who has how many events."""

    off_duty: frozenset[str] = frozenset()
    open_events: Mapping[str, int] = field(default_factory=dict)


ANY_STANDING = Standing()


def covering(event_type: EventType, zone: str, tree: ZoneTree) -> list[Route]:
    """Return the routes of a type that cover a zone, the deepest first, of equal ones in the order of the type."""
    found = [candidate for candidate in event_type.routes if tree.covers(candidate.zone, zone)]
    return sorted(found, key=lambda candidate: -len(tree.path(candidate.zone)))


def route(
    event_type: EventType,
    zone: str,
    tree: ZoneTree,
    standing: Standing = ANY_STANDING,
    component: ComponentType | None = None,
) -> Routing:
    """Choose who looks after the component there, the deepest owner that covers the zone; else a route of the type."""
    if component is None:
        return _by_routes(event_type, zone, tree, standing)
    owner = owner_of(component, zone, tree)
    if owner is not None:
        return _owned(event_type, zone, component, owner)
    found = _by_routes(event_type, zone, tree, standing)
    why = found.explanation
    zh, en = _both(texts.NOT_OWNED, component, zone=zone)
    inputs = {**why.inputs, "component_type": component.name, "component_type_version": str(component.version)}
    return Routing(found.organisation, replace(why, zh=why.zh + zh, en=why.en + en, inputs=inputs))


def _owned(event_type: EventType, zone: str, component: ComponentType, owner: Owner) -> Routing:
    inputs = {
        "type": event_type.name,
        "zone": zone,
        "component_type": component.name,
        "component_type_version": str(component.version),
        "owner_zone": owner.zone,
        "organisation": owner.organisation,
    }
    return Routing(owner.organisation, Explanation(component.name, *_both(texts.OWNED, component, **inputs), inputs))


def _both(text: Text, component: ComponentType, **values: str) -> tuple[str, str]:
    titles = component.title_zh or component.title_en, component.title_en or component.title_zh
    zh, en = (title or component.name for title in titles)
    return text.zh.format(component=zh, **values), text.en.format(component=en, **values)


def _by_routes(event_type: EventType, zone: str, tree: ZoneTree, standing: Standing) -> Routing:
    """Choose the deepest route of the type that covers the zone and whose conditions hold; the deepest when none do."""
    found = covering(event_type, zone, tree)
    inputs = {"type": event_type.name, "type_version": str(event_type.version), "zone": zone}
    if not found:
        return Routing("", Explanation(event_type.name, *texts.NOT_ROUTED.fill(**inputs), inputs))
    obstacles = [_obstacle(candidate, standing) for candidate in found]
    best = next((each for each, obstacle in zip(found, obstacles, strict=True) if obstacle is None), found[0])
    inputs |= {"route_zone": best.zone, "organisation": best.organisation, "routes_covering": str(len(found))}
    said = [texts.ROUTED.fill(**inputs)]
    for candidate, obstacle in zip(found, obstacles, strict=True):
        if candidate is best and obstacle is None:
            break
        if obstacle is not None:
            zh, en = obstacle
            passed = {"zone": candidate.zone, "organisation": candidate.organisation}
            text = texts.PASSED_OVER
            said.append((text.zh.format(**passed, why=zh), text.en.format(**passed, why=en)))
            inputs[f"passed_over:{candidate.organisation}"] = en
    if len(said) > len(found):
        said.append(texts.ALL_PASSED_OVER.fill())
    zh, en = ("".join(side) for side in zip(*said, strict=True))
    return Routing(best.organisation, Explanation(event_type.name, zh, en, inputs))


def _obstacle(candidate: Route, standing: Standing) -> tuple[str, str] | None:
    """Return why a route cannot be taken now, in both languages; None when it can."""
    if candidate.on_duty_only and candidate.organisation in standing.off_duty:
        return texts.OFF_DUTY.fill()
    most = candidate.open_events_max
    if most and standing.open_events.get(candidate.organisation, 0) >= most:
        return texts.FULL.fill(most=str(most))
    return None


def unknown_type(name: str, loop: str) -> EventType:
    """Return what stands in for a type that the catalogue does not have: no deadline, no merging, no routes."""
    return EventType(name=name, loop=loop)


def open_event(
    report: Report, event_type: EventType, loop: Loop, routing: Routing, *, node: str, name: str, now: datetime
) -> Event:
    """Return the event that a report opens, its deadlines not reckoned yet. `loop` is the type's."""
    return Event(
        name=name,
        zone=report.zone,
        node=node,
        type=report.type,
        type_version=event_type.version,
        loop=loop.name,
        loop_version=loop.version,
        title=title(event_type, report),
        description=report.description,
        place=report.place,
        status=loop.initial,
        organisation=routing.organisation if loop.routes_at_once else "",
        suggestion=routing.organisation,
        routing=routing.explanation,
        component=report.component,
        occurred_at=report.occurred_at,
        opened_at=now,
        step_at=report.occurred_at,
        warning=report.source if report.kind is ReportKind.WARNING else "",
        flags=flagged(report.flags, *_doubts(report, event_type, routing, now)),
    )


def merge_report(
    event: Event, report: Report, explanation: Explanation, *, actor: str, now: datetime
) -> tuple[Event, Step]:
    """Return the event with one more report, and the step for its history. The event's own time and place stay."""
    after = replace(
        event,
        revision=event.revision + 1,
        reports=event.reports + 1,
        warning=event.warning or (report.source if report.kind is ReportKind.WARNING else ""),
    )
    at = report.occurred_at
    return after, step_between(
        event, after, StepAction.MERGE, actor=actor, now=now, occurred_at=at, explanation=explanation
    )


def opening_step(event: Event, *, actor: str) -> Step:
    """Return the first step of an event's history."""
    return Step(
        revision=event.revision,
        action=StepAction.OPEN,
        from_status="",
        to_status=event.status,
        actor=actor,
        organisation=event.organisation,
        occurred_at=event.occurred_at,
        recorded_at=event.opened_at,
        explanation=event.routing,
    )


def title(event_type: EventType, report: Report) -> str:
    """Return a line for lists: the type in the report's language and the part of town.

    Nothing of the reporter's own words: lists are read by more people than events are.
    """
    chinese = bool(_CHINESE.search(report.description))
    first, second = event_type.title_en, event_type.title_zh
    kind = (second or first if chinese else first or second) or report.type.removeprefix("eventTypes/")
    return f"{kind} · {report.place.neighbourhood or report.zone}"[:TITLE_CHARS_MAX]


def _doubts(report: Report, event_type: EventType, routing: Routing, now: datetime) -> list[Flag]:
    found: list[Flag] = []
    if not event_type.version:
        found.append(Flag(Doubt.TYPE_UNKNOWN, "type", f"{report.type} is not in the catalogue of this node"))
    elif event_type.retired:
        found.append(Flag(Doubt.TYPE_RETIRED, "type", f"{report.type} takes no new reports"))
    if not routing.organisation:
        found.append(Flag(Doubt.NO_ROUTE, "organisation", routing.explanation.en))
    if report.occurred_at > now + timedelta(seconds=CLOCK_AHEAD_MAX_S):
        found.append(Flag(Doubt.TIME_IN_FUTURE, "occurredAt", "the report says that it was later than it was taken in"))
    return found
