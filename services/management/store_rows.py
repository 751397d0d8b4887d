"""Rows of management's tables as the model's nouns, and back. JSON columns hold plain objects."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from services.management.deadlines.model_time import Span
from services.management.model import (
    Allowance,
    ClockKind,
    Clocks,
    Deadlines,
    Escalation,
    Event,
    EventType,
    Explanation,
    Flag,
    MajorClass,
    MergePolicy,
    Need,
    Place,
    Reminder,
    ReportKind,
    Route,
    Step,
    SubOrder,
    Tier,
)
from services.management.model_component import Component, component_key
from services.management.model_merge import address_key
from services.management.model_report import Report

if TYPE_CHECKING:
    from libs.db import Record

# All columns of an event but its id and what the database derives, in the order of `event_values`.
EVENT_COLUMNS = (
    "name", "zone", "node", "type", "type_version", "loop", "title", "description", "address", "address_key",
    "latitude", "longitude", "zone_hint", "neighbourhood", "status", "organisation", "suggestion", "supporters",
    "routing", "occurred_at", "opened_at", "step_at", "due_at", "closed_at", "revision", "reports", "warning",
    "shares", "shares_open", "flags", "returns", "answer", "partial", "first_due_at", "step_due_at", "clocks",
    "suspended_until", "reopens", "reopen_until", "next_clock_at", "loop_version", "merged_into", "split_from",
    "component_type", "component_code", "component_key",
)  # fmt: skip
# "e.id, e.name, ...": what `event_of` reads.
EVENT_SELECTED = ", ".join(
    f"e.{column}"
    for column in ("id", *EVENT_COLUMNS, "assignee", "assigned_as")
    if column not in {"address_key", "component_key"}
)
STEP_COLUMNS = (
    "revision", "action", "from_status", "to_status", "actor", "organisation", "reason", "explanation", "occurred_at",
    "recorded_at",
)  # fmt: skip
STEP_SELECTED = ", ".join((*STEP_COLUMNS, "assignee", "evidence"))


# The fields of Clocks that JSON holds as they are.
_PLAIN = (
    "calendar",
    "calendar_version",
    "step_calendar",
    "step_calendar_version",
    "promised_min",
    "extended_min",
    "step_extended_min",
    "suspension",
)


def parameters(first: int, count: int) -> str:
    """Return "$3, $4, $5" for `count` parameters from number `first`."""
    return ", ".join(f"${number}" for number in range(first, first + count))


def event_values(event: Event) -> tuple[object, ...]:
    """Return the values of EVENT_COLUMNS."""
    place, component = event.place, event.component
    return (
        event.name, event.zone, event.node, event.type, event.type_version, event.loop, event.title, event.description,
        place.address, address_key(place.address), place.latitude, place.longitude, place.zone_hint,
        place.neighbourhood, event.status, event.organisation, event.suggestion, list(event.supporters),
        explanation_json(event.routing), event.occurred_at, event.opened_at, event.step_at,
        event.deadlines.due_at, event.closed_at, event.revision, event.reports, event.warning, event.shares,
        event.shares_open, flags_json(event.flags), event.returns, event.answer, event.partial,
        event.deadlines.first_due_at, event.deadlines.step_due_at, clocks_json(event.clocks),
        event.deadlines.suspended_until, event.deadlines.reopens, event.deadlines.reopen_until,
        event.clocks.next_at, event.loop_version, event.merged_into, event.split_from,
        component.type if component else "", component.code if component else "", component_key(component),
    )  # fmt: skip


def event_of(row: Record) -> Event:
    """Read a row with the columns EVENT_SELECTED."""
    return Event(
        id=row["id"],
        name=row["name"],
        zone=row["zone"],
        node=row["node"],
        type=row["type"],
        type_version=row["type_version"],
        loop=row["loop"],
        loop_version=row["loop_version"],
        title=row["title"],
        description=row["description"],
        place=Place(row["address"], row["latitude"], row["longitude"], row["zone_hint"], row["neighbourhood"]),
        status=row["status"],
        organisation=row["organisation"],
        suggestion=row["suggestion"],
        supporters=tuple(row["supporters"]),
        routing=explanation_of(row["routing"]),
        occurred_at=row["occurred_at"],
        opened_at=row["opened_at"],
        step_at=row["step_at"],
        deadlines=Deadlines(
            due_at=row["due_at"],
            first_due_at=row["first_due_at"],
            step_due_at=row["step_due_at"],
            suspended_until=row["suspended_until"],
            reopens=row["reopens"],
            reopen_until=row["reopen_until"],
        ),
        clocks=_clocks(row["clocks"], row["next_clock_at"]),
        closed_at=row["closed_at"],
        revision=row["revision"],
        reports=row["reports"],
        warning=row["warning"],
        shares=row["shares"],
        shares_open=row["shares_open"],
        flags=_flags(row["flags"]),
        returns=row["returns"],
        answer=row["answer"],
        partial=row["partial"],
        assignee=row["assignee"],
        assigned_as=row["assigned_as"],
        merged_into=row["merged_into"],
        split_from=row["split_from"],
        component=Component(row["component_type"], row["component_code"]) if row["component_type"] else None,
    )


def step_values(step: Step) -> tuple[object, ...]:
    """Return the values of STEP_COLUMNS."""
    return (
        step.revision, step.action, step.from_status, step.to_status, step.actor, step.organisation, step.reason,
        explanation_json(step.explanation), step.occurred_at, step.recorded_at,
    )  # fmt: skip


def step_of(row: Record) -> Step:
    return Step(
        revision=row["revision"],
        action=row["action"],
        from_status=row["from_status"],
        to_status=row["to_status"],
        actor=row["actor"],
        organisation=row["organisation"],
        reason=row["reason"],
        explanation=explanation_of(row["explanation"]),
        occurred_at=row["occurred_at"],
        recorded_at=row["recorded_at"],
        assignee=row["assignee"],
        evidence=tuple(row["evidence"]),
    )


def sub_order_of(row: Record) -> SubOrder:
    return SubOrder(
        id=str(row["number"]),
        organisation=row["organisation"],
        instruction=row["instruction"],
        lead=row["lead"],
        done_at=row["done_at"],
        withdrawn_at=row["withdrawn_at"],
        note=row["note"],
    )


def explanation_json(explanation: Explanation | None) -> str | None:
    if explanation is None:
        return None
    found = {"rule": explanation.rule, "zh": explanation.zh, "en": explanation.en, "inputs": dict(explanation.inputs)}
    return json.dumps(found, ensure_ascii=False)


def explanation_of(text: str | None) -> Explanation | None:
    return Explanation(**json.loads(text)) if text else None


def flags_json(flags: tuple[Flag, ...]) -> str:
    if not flags:
        return "[]"
    found = [{"code": flag.code, "field": flag.field, "reason": flag.reason} for flag in flags]
    return json.dumps(found, ensure_ascii=False)


def _flags(text: str) -> tuple[Flag, ...]:
    return tuple(Flag(**flag) for flag in json.loads(text)) if text != "[]" else ()


def of_component(component: Component) -> tuple[str, str]:
    """Return the condition on events `e` of one component, or of all of a type without a code, and its parameter "{}".

    The indexes hold only events that have one, and see by the words for it that no other is meant.
    """
    if key := component_key(component):
        return "e.component_key <> '' AND e.component_key = {}", key
    return "e.component_type <> '' AND e.component_type = {}", component.type


def clocks_json(clocks: Clocks) -> str:
    """Return what differs from a new event's clocks, so that rows stay short."""
    found: dict[str, Any] = {}
    if clocks.step_since is not None:
        found["step_since"] = clocks.step_since.isoformat()
    for name in _PLAIN:
        if value := getattr(clocks, name):
            found[name] = value
    if clocks.signalled:
        found["signalled"] = clocks.signalled
    if clocks.pauses:
        found["pauses"] = [[span.start.isoformat(), span.end.isoformat()] for span in clocks.pauses]
    return json.dumps(found, ensure_ascii=False)


def _clocks(text: str, next_at: datetime | None) -> Clocks:
    found = json.loads(text)
    since = found.pop("step_since", None)
    pauses = tuple(Span(*map(datetime.fromisoformat, span)) for span in found.pop("pauses", ()))
    return Clocks(
        step_since=datetime.fromisoformat(since) if since else None,
        pauses=pauses,
        signalled=tuple(found.pop("signalled", ())),
        next_at=next_at,
        **found,
    )


def said_json(report: Report) -> str:
    """Return what a report said, for the case that it gets an event of its own one day."""
    place = {key: value for key, value in asdict(report.place).items() if value}
    found: dict[str, Any] = {
        "zone": report.zone,
        "type": report.type,
        "description": report.description,
        "place": place,
        "occurred_at": report.occurred_at.isoformat(),
    }
    if report.component:
        found["component"] = asdict(report.component)
    if report.flags:
        found["flags"] = [asdict(flag) for flag in report.flags]
    return json.dumps(found, ensure_ascii=False)


def said_of(text: str, kind: str, source: str) -> Report:
    """Read what a report said."""
    found = json.loads(text)
    return Report(
        kind=ReportKind(kind),
        source=source,
        zone=found["zone"],
        type=found["type"],
        description=found["description"],
        place=Place(**found["place"]),
        occurred_at=datetime.fromisoformat(found["occurred_at"]),
        flags=tuple(Flag(**flag) for flag in found.get("flags", ())),
        component=Component(**found["component"]) if "component" in found else None,
    )


def carried_version(definition: str) -> int:
    """Return the version, below 0, of what came with another node's event: the same for the same text, always."""
    return -1 - int.from_bytes(sha256(definition.encode()).digest()[:4]) % 0x7FFF_FFFE


def type_json(event_type: EventType) -> str:
    """Return a type without its name and version, which are columns."""
    found: dict[str, Any] = {
        "title_zh": event_type.title_zh,
        "title_en": event_type.title_en,
        "code": event_type.code,
        "loop": event_type.loop,
        "deadline": _allowance_json(event_type.deadline),
        "merge": asdict(event_type.merge),
        "routes": [asdict(route) for route in event_type.routes],
        "retired": event_type.retired,
        "calendar": event_type.calendar,
        "reopen_days": event_type.reopen_days,
        "reminders": [[each.clock, each.offset_min, each.role] for each in event_type.reminders],
        "escalations": [[each.clock, each.after_min, each.role, each.tier] for each in event_type.escalations],
        "major": asdict(event_type.major),
        "evidence": {action: [need.evidence, need.photos] for action, need in event_type.evidence.items()},
        "step_deadlines": {state: _allowance_json(allowance) for state, allowance in event_type.step_deadlines.items()},
    }
    return json.dumps(found, ensure_ascii=False)


def type_of(row: Record) -> EventType:
    """Read a row with name, version and definition."""
    found = json.loads(row["definition"])
    merge = MergePolicy(**found.pop("merge"))
    routes = tuple(Route(**route) for route in found.pop("routes"))
    return EventType(
        name=row["name"],
        version=row["version"],
        merge=merge,
        routes=routes,
        deadline=_allowance(found.pop("deadline")),
        reminders=tuple(Reminder(ClockKind(clock), *rest) for clock, *rest in found.pop("reminders")),
        escalations=tuple(
            Escalation(ClockKind(clock), after_min, role, Tier(tier))
            for clock, after_min, role, tier in found.pop("escalations")
        ),
        major=MajorClass(**found.pop("major")),
        evidence={action: Need(*need) for action, need in found.pop("evidence").items()},
        step_deadlines={state: Allowance(*each) for state, each in found.pop("step_deadlines").items()},
        **found,
    )


def _allowance_json(allowance: Allowance | None) -> list[int | bool] | None:
    return [allowance.minutes, allowance.around_the_clock] if allowance else None


def _allowance(found: list[Any] | None) -> Allowance | None:
    return Allowance(*found) if found else None
