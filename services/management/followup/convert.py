"""Follow-ups and their policies as protos, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quintet.management.v1 import facts_pb2
from quintet.management.v1 import follow_ups_pb2 as pb
from services.management.convert import explanation_pb, time_pb
from services.management.followup.model import FollowUp, Policy, State, Way, commitment
from services.management.warnings.convert_indicators import said_of, said_pb

if TYPE_CHECKING:
    from libs.zones import ZoneTree
    from services.management.followup.store import Period

_STATES = {state: pb.FollowUpState.Value(f"FOLLOW_UP_STATE_{state.name}") for state in State}
_STATES_OF = {number: state for state, number in _STATES.items()}
_WAYS = {
    Way.NONE: pb.FOLLOW_UP_WAY_UNSPECIFIED,
    Way.PERSON: pb.FOLLOW_UP_WAY_PERSON,
    Way.FORM: pb.FOLLOW_UP_WAY_FORM,
}
_WAYS_OF = {number: way for way, number in _WAYS.items()}
OUTCOMES = {
    pb.FOLLOW_UP_OUTCOME_SOLVED: State.SOLVED,
    pb.FOLLOW_UP_OUTCOME_NOT_SOLVED: State.NOT_SOLVED,
    pb.FOLLOW_UP_OUTCOME_NOT_REACHED: State.NOT_REACHED,
}


def state_of(state: int) -> State | None:
    """Return a state; None for none, and for one of a later release."""
    return _STATES_OF.get(state)  # type: ignore[call-overload, no-any-return]  # a number of the wire


def way_of(way: int) -> Way:
    return _WAYS_OF.get(way, Way.NONE)  # type: ignore[call-overload, no-any-return]  # a number of the wire


def policy_of(policy: pb.FollowUpPolicy, tree: ZoneTree) -> Policy:
    return Policy(
        name=policy.name,
        title=said_of(policy.title),
        types=tuple(dict.fromkeys(policy.types)),
        zones=tuple(dict.fromkeys(tree.canonical(zone) for zone in policy.zones)),
        share=policy.share,
        tries=policy.tries,
        retry_hours=policy.retry_hours,
        form=policy.form,
        form_hours=policy.form_hours,
        retired=policy.retired,
    )


def policy_pb(policy: Policy) -> pb.FollowUpPolicy:
    return pb.FollowUpPolicy(
        name=policy.name,
        title=said_pb(policy.title),
        types=policy.types,
        zones=policy.zones,
        share=policy.share,
        tries=policy.tries,
        retry_hours=policy.retry_hours,
        form=policy.form,
        form_hours=policy.form_hours,
        retired=policy.retired,
    )


def period_pb(period: Period, present: str) -> pb.FollowUpPeriod:
    """Return a month; the seed only of one before the present."""
    return pb.FollowUpPeriod(
        period=period.period,
        commitment=commitment(period.seed),
        seed=period.seed if period.period < present else "",
        begun_at=time_pb(period.begun_at),
    )


def follow_up_pb(found: FollowUp) -> pb.FollowUp:
    return pb.FollowUp(
        name=found.name,
        zone=found.zone,
        node=found.node,
        request=found.request,
        event=found.event,
        organisation=found.organisation,
        type=found.type,
        policy=found.policy,
        period=found.period,
        draw=found.draw,
        explanation=explanation_pb(found.explanation),
        state=_STATES[found.state],
        asked_at=time_pb(found.asked_at),
        call_at=time_pb(found.call_at),
        tries=found.tries,
        caller=found.caller,
        claim_ends_at=time_pb(found.claim_ends_at),
        satisfaction=found.satisfaction,
        note=found.note,
        way=_WAYS[found.way],
        finished_at=time_pb(found.finished_at),
        finished_by=found.finished_by,
        reopened=found.reopened,
    )


def finished_pb(found: FollowUp) -> facts_pb2.FollowUpFinished:
    """Return what is stated of a follow-up that is over. What was said leaves the node only where it is not solved."""
    return facts_pb2.FollowUpFinished(
        follow_up=found.name,
        request=found.request,
        event=found.event,
        event_revision=found.event_revision,
        organisation=found.organisation,
        type=found.type,
        zone=found.zone,
        node=found.node,
        period=found.period,
        policy=found.policy,
        state=_STATES[found.state],
        satisfaction=found.satisfaction,
        way=_WAYS[found.way],
        tries=found.tries,
        reason=found.note if found.state is State.NOT_SOLVED else "",
        asked_at=time_pb(found.asked_at),
        finished_at=time_pb(found.finished_at),
    )
