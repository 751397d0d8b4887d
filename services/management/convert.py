"""The model's nouns as protos, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from libs import names
from libs.errors import Invalid
from quintet.common.v1 import common_pb2
from quintet.management.v1 import management_pb2 as pb
from services.management.model import (
    Allowance,
    ClockKind,
    Deadlines,
    Escalation,
    EventType,
    Explanation,
    Flag,
    MajorClass,
    MergePolicy,
    Need,
    Place,
    Reminder,
    Route,
    Step,
    SubOrder,
    Tier,
)
from services.management.model_component import Component, component_key
from services.management.model_loop import LOOP_DEFAULT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.protobuf.message import Message

    from services.management.model import Event
    from services.management.store_counters import Count


_CLOCKS = {pb.CLOCK_KIND_BUSINESS: ClockKind.BUSINESS, pb.CLOCK_KIND_STEP: ClockKind.STEP}
_TIERS = {pb.EscalationTier.Value(f"ESCALATION_TIER_{tier.name}"): tier for tier in Tier}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_S = 24 * 3600


def zone_of(name: str, pattern: str = "zones/{zone}", *, field: str = "parent") -> str:
    """Return the zone's code in a resource name. Raises Invalid naming `field`."""
    return names.parse(name, pattern, field=field)["zone"]


def time_pb(time: datetime | None) -> Timestamp | None:
    """Return None, which leaves a field unset, for a time that is not known."""
    if time is None:
        return None
    since = time - _EPOCH  # FromDatetime takes ten times as long, and an event has five times
    return Timestamp(seconds=since.days * _DAY_S + since.seconds, nanos=since.microseconds * 1000)


def time_of(message: Message, field: str) -> datetime | None:
    """Return a field's time, aware, in UTC; None when it is not set."""
    if not message.HasField(field):
        return None
    value: Timestamp = getattr(message, field)
    return value.ToDatetime(tzinfo=UTC)


# -------------------------------------------------------------------------------------------------------- small values


def place_of(place: common_pb2.Place) -> Place:
    """Read a place; the point (0, 0) is not known."""
    known = place.HasField("point") and (place.point.latitude, place.point.longitude) != (0.0, 0.0)
    return Place(
        address=place.address,
        latitude=place.point.latitude if known else None,
        longitude=place.point.longitude if known else None,
        zone_hint=place.zone_hint,
        neighbourhood=place.neighbourhood,
    )


def place_pb(place: Place) -> common_pb2.Place:
    found = common_pb2.Place(
        address=place.address, zone_hint=place.zone_hint, neighbourhood=place.neighbourhood
    )  # fmt: skip
    if place.latitude is not None and place.longitude is not None:
        found.point.latitude = place.latitude
        found.point.longitude = place.longitude
    return found


def component_of(component: common_pb2.Component) -> Component | None:
    """Read a component; None for one that names no type."""
    return Component(component.type, component.code.strip()) if component.type else None


def component_sought(given: common_pb2.Component, field: str) -> Component | None:
    """Read the component that a list is narrowed to; None for any.

    Raises Invalid, which names it as `field`, for a code that no component can have.
    """
    sought = component_of(given)
    if given.code and not component_key(sought):
        raise Invalid(f"{field}.code", "must have a letter or a digit")
    return sought


def component_pb(component: Component | None) -> common_pb2.Component | None:
    return common_pb2.Component(type=component.type, code=component.code) if component else None


def flags_of(flags: Iterable[common_pb2.Flag]) -> tuple[Flag, ...]:
    return tuple(Flag(flag.code, flag.field, flag.reason) for flag in flags)


def flags_pb(flags: Iterable[Flag]) -> list[common_pb2.Flag]:
    return [common_pb2.Flag(code=flag.code, field=flag.field, reason=flag.reason) for flag in flags]


def explanation_of(explanation: common_pb2.Explanation) -> Explanation:
    return Explanation(
        explanation.rule, explanation.text.zh, explanation.text.en, dict(explanation.inputs)
    )  # fmt: skip


def explanation_pb(explanation: Explanation | None) -> common_pb2.Explanation | None:
    if explanation is None:
        return None
    text = common_pb2.LocalText(zh=explanation.zh, en=explanation.en)
    return common_pb2.Explanation(rule=explanation.rule, text=text, inputs=explanation.inputs)


# -------------------------------------------------------------------------------------------------------------- events


def event_pb(event: Event, requests: Sequence[str] = (), shares: Sequence[SubOrder] = ()) -> pb.Event:
    return pb.Event(
        name=event.name,
        zone=event.zone,
        node=event.node,
        type=event.type,
        type_version=event.type_version,
        title=event.title,
        description=event.description,
        place=place_pb(event.place),
        status=event.status,
        organisation=event.organisation,
        routing=explanation_pb(event.routing),
        occurred_at=time_pb(event.occurred_at),
        opened_at=time_pb(event.opened_at),
        due_at=time_pb(event.deadlines.due_at),
        first_due_at=time_pb(event.deadlines.first_due_at),
        step_due_at=time_pb(event.deadlines.step_due_at),
        suspended_until=time_pb(event.deadlines.suspended_until),
        reopens=event.deadlines.reopens,
        reopen_until=time_pb(event.deadlines.reopen_until),
        closed_at=time_pb(event.closed_at),
        revision=event.revision,
        requests=requests,
        reports=event.reports,
        warning=event.warning,
        sub_orders=[sub_order_pb(share) for share in shares],
        flags=flags_pb(event.flags),
        returns=event.returns,
        answer=event.answer,
        assignee=event.assignee,
        loop=event.loop,
        loop_version=event.loop_version,
        merged_into=event.merged_into,
        split_from=event.split_from,
        component=component_pb(event.component),
    )


def deadlines_pb(deadlines: Deadlines) -> pb.Deadlines:
    return pb.Deadlines(
        due_at=time_pb(deadlines.due_at),
        first_due_at=time_pb(deadlines.first_due_at),
        step_due_at=time_pb(deadlines.step_due_at),
        suspended_until=time_pb(deadlines.suspended_until),
        reopens=deadlines.reopens,
        reopen_until=time_pb(deadlines.reopen_until),
    )


def deadlines_of(message: pb.Deadlines | pb.Event) -> Deadlines:
    """Read the deadlines that another node reckoned."""
    return Deadlines(
        due_at=time_of(message, "due_at"),
        first_due_at=time_of(message, "first_due_at"),
        step_due_at=time_of(message, "step_due_at"),
        suspended_until=time_of(message, "suspended_until"),
        reopens=message.reopens,
        reopen_until=time_of(message, "reopen_until"),
    )


def step_pb(step: Step) -> pb.EventStep:
    found = pb.EventStep(
        revision=step.revision,
        action=step.action,
        to=step.to_status,
        actor=step.actor,
        organisation=step.organisation,
        reason=step.reason,
        explanation=explanation_pb(step.explanation),
        occurred_at=time_pb(step.occurred_at),
        recorded_at=time_pb(step.recorded_at),
        assignee=step.assignee,
        evidence=step.evidence,
    )
    setattr(found, "from", step.from_status)  # a keyword in Python
    return found


def step_of(step: pb.EventStep, *, revision: int, fallback: datetime) -> Step:
    """Read a step that another node took; `fallback` stands in for times that it does not give."""
    occurred_at = time_of(step, "occurred_at") or fallback
    return Step(
        revision=revision,
        action=step.action,
        from_status=getattr(step, "from"),
        to_status=step.to,
        actor=step.actor,
        organisation=step.organisation,
        reason=step.reason,
        explanation=explanation_of(step.explanation) if step.HasField("explanation") else None,
        occurred_at=occurred_at,
        recorded_at=time_of(step, "recorded_at") or fallback,
        assignee=step.assignee,
        evidence=tuple(step.evidence),
    )


def sub_order_pb(share: SubOrder) -> pb.SubOrder:
    return pb.SubOrder(
        id=share.id,
        organisation=share.organisation,
        instruction=share.instruction,
        lead=share.lead,
        done=share.done_at is not None,
        done_at=time_pb(share.done_at),
        note=share.note,
    )


def sub_order_of(share: pb.SubOrder, *, fallback: datetime) -> SubOrder:
    """Read a share that another node gave; `fallback` stands in for the time of one that is done at no known time."""
    done_at = time_of(share, "done_at") or fallback
    return SubOrder(
        id=share.id,
        organisation=share.organisation,
        instruction=share.instruction,
        lead=share.lead,
        done_at=done_at if share.done else None,
        note=share.note,
    )


# --------------------------------------------------------------------------------------------------------------- types


def type_of(event_type: pb.EventType) -> EventType:
    """Read a type as somebody wants it; its version is the store's affair."""
    return EventType(
        name=event_type.name,
        title_zh=event_type.title.zh,
        title_en=event_type.title.en,
        code=event_type.code,
        loop=event_type.loop or LOOP_DEFAULT,
        deadline=allowance_of(event_type.deadline),
        merge=_merge_of(event_type.merge),
        routes=tuple(
            Route(route.zone, route.organisation, route.on_duty_only, route.open_events_max)
            for route in event_type.routes
        ),
        retired=event_type.retired,
        calendar=event_type.calendar,
        reopen_days=event_type.reopen_days,
        reminders=tuple(Reminder(_CLOCKS[each.clock], each.offset_min, each.role) for each in event_type.reminders),
        escalations=tuple(
            Escalation(_CLOCKS[each.clock], each.after_min, each.role, _TIERS[each.tier])
            for each in event_type.escalations
        ),
        step_deadlines={step.state: allowance_of(step.allowance) for step in event_type.step_deadlines},
        major=major_of(event_type.major_class),
        evidence={need.action: Need(need.evidence, need.photos) for need in event_type.evidence},
    )


def _merge_of(merge: pb.MergePolicy) -> MergePolicy:
    return MergePolicy(merge.radius_m, merge.window_h, merge.automatic, merge.suggested, merge.family)


def clock_pb(clock: ClockKind) -> pb.ClockKind.ValueType:
    return pb.ClockKind.Value(f"CLOCK_KIND_{clock.name}")


def tier_pb(tier: Tier) -> pb.EscalationTier.ValueType:
    return pb.EscalationTier.Value(f"ESCALATION_TIER_{tier.name}")


def allowance_of(allowance: pb.Allowance) -> Allowance:
    return Allowance(allowance.minutes, allowance.around_the_clock)


def allowance_pb(allowance: Allowance | None) -> pb.Allowance | None:
    return pb.Allowance(minutes=allowance.minutes, around_the_clock=allowance.around_the_clock) if allowance else None


def major_of(major: pb.MajorClass) -> MajorClass:
    return MajorClass(major.code, major.title.zh, major.title.en)


def major_pb(major: MajorClass) -> pb.MajorClass | None:
    title = common_pb2.LocalText(zh=major.title_zh, en=major.title_en)
    return pb.MajorClass(code=major.code, title=title) if major.code else None


def type_pb(event_type: EventType) -> pb.EventType:
    merge = event_type.merge
    return pb.EventType(
        name=event_type.name,
        title=common_pb2.LocalText(zh=event_type.title_zh, en=event_type.title_en),
        code=event_type.code,
        loop=event_type.loop,
        deadline=allowance_pb(event_type.deadline),
        merge=pb.MergePolicy(
            radius_m=merge.radius_m,
            window_h=merge.window_h,
            automatic=merge.automatic,
            suggested=merge.suggested,
            family=merge.family,
        ),
        routes=[
            pb.Route(
                zone=route.zone,
                organisation=route.organisation,
                on_duty_only=route.on_duty_only,
                open_events_max=route.open_events_max,
            )
            for route in event_type.routes
        ],
        version=event_type.version,
        retired=event_type.retired,
        calendar=event_type.calendar,
        reopen_days=event_type.reopen_days,
        reminders=[
            pb.Reminder(clock=clock_pb(each.clock), offset_min=each.offset_min, role=each.role)
            for each in event_type.reminders
        ],
        escalations=[
            pb.Escalation(clock=clock_pb(each.clock), after_min=each.after_min, role=each.role, tier=tier_pb(each.tier))
            for each in event_type.escalations
        ],
        step_deadlines=[
            pb.StepDeadline(state=state, allowance=allowance_pb(allowance))
            for state, allowance in event_type.step_deadlines.items()
        ],
        major_class=major_pb(event_type.major),
        evidence=[
            pb.EvidenceNeed(action=action, evidence=need.evidence, photos=need.photos)
            for action, need in event_type.evidence.items()
        ],
    )


# ------------------------------------------------------------------------------------------------------------ counters


def counters_pb(zone: str, node: str, counts: Sequence[Count]) -> pb.GetCountersResponse:
    """Return one entry per zone and node that has events there, and the sum of all as that of `zone` and `node`."""
    response = pb.GetCountersResponse(total=pb.ZoneCounters(zone=zone, node=node))
    entries: dict[tuple[str, str], pb.ZoneCounters] = {}
    for count in counts:
        entry = entries.setdefault((count.zone, count.node), pb.ZoneCounters(zone=count.zone, node=count.node))
        for sums in (entry, response.total):
            sums.events += count.events
            sums.requests += count.requests
            sums.merged += count.merged
            if count.events:
                sums.by_status[count.status] += count.events
    response.zones.extend(entry for entry in entries.values() if entry.events)
    return response
