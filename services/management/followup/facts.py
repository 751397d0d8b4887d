"""What follow-up takes in: requests that were closed, answers by the form, events reopened, what others were told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from libs import names
from libs.errors import Invalid, WrongState
from libs.ids import new_id
from libs.personal_text import mask_text
from quintet.management.v1 import facts_pb2
from quintet.management.v1 import follow_ups_pb2 as pb
from services.management import store_events
from services.management.convert import time_of
from services.management.deadlines.model_exceptions import Kind
from services.management.followup import store
from services.management.followup.convert import finished_pb, state_of, way_of
from services.management.followup.model import (
    FOLLOW_UP_NAME,
    Answer,
    Closed,
    Draw,
    FollowUp,
    State,
    Way,
    drawn,
    fitting,
    recorded,
)
from services.management.model import EVENT_NAME

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from libs.tx import Tx
    from libs.zones import ZoneTree
    from quintet.delivery.v1.facts_pb2 import FollowUpAnswered, RequestsClosed
    from quintet.fact.v1.fact_pb2 import Fact
    from services.management.deadlines.ledger import Ledger

# Who asked for the reopening when a reporter is not satisfied is the follow-up; who wrote it here is the service.
ACTOR = "services/management"

log = structlog.get_logger()


def month_of(now: datetime, timezone: ZoneInfo) -> str:
    """Return the month of a draw, by the clock of the node."""
    return f"{now.astimezone(timezone):%Y-%m}"


class FollowUps:
    """Draws whom to ask, and passes on what they answered."""

    def __init__(
        self,
        node: str,
        zones: Callable[[], ZoneTree],
        timezone: ZoneInfo,
        new_seed: Callable[[], str],
        ledger: Ledger,
    ) -> None:
        """`new_seed` makes a secret that nobody can guess; `timezone` says when a month ends."""
        self._node = node
        self._zones = zones
        self._timezone = timezone
        self._new_seed = new_seed
        self._ledger = ledger

    async def requests_closed(self, tx: Tx, fact: Fact, message: RequestsClosed) -> None:
        """Draw whom to ask of the reporters of an event that was closed with an answer."""
        if fact.received_from:
            return
        tree = self._zones()
        zone = tree.canonical(message.zone)
        policies = await store.policies(tx.conn)
        policy = fitting(policies, message.type, zone, tree.covers, lambda code: len(tree.path(code)))
        if policy is None:
            return
        period = month_of(tx.now, self._timezone)
        seed = await store.seed_of(tx.conn, period, self._new_seed(), tx.now)
        made = drawn(
            Draw(policy, self._node, period, seed),
            Closed(message.event, message.event_revision, message.organisation, message.type, zone),
            [(names.build(FOLLOW_UP_NAME, zone=zone, follow_up=new_id()), request) for request in message.requests],
            again=await store.not_solved(tx.conn, message.requests),
            now=tx.now,
        )
        stored = set(await store.insert(tx.conn, made))
        asked = [each for each in made if each.name in stored and each.state is State.OPEN]
        if asked and policy.form:
            asks = [facts_pb2.FollowUpAsk(follow_up=each.name, request=each.request) for each in asked]
            told = facts_pb2.FollowUpsAsked(event=message.event, asks=asks)
            told.asked_at.FromDatetime(tx.now)
            tx.publish(told, zone=zone, key=message.event)

    async def answered(self, tx: Tx, fact: Fact, message: FollowUpAnswered) -> None:
        """Take what a reporter answered by the form; whoever was called meanwhile has answered already."""
        if fact.received_from:
            return
        found = await store.lock(tx.conn, message.follow_up)
        if found is None or found.request != message.request or found.state is not State.OPEN:
            log.info("follow_up.answer_not_needed", follow_up=message.follow_up)
            return
        state = State.SOLVED if message.solved else State.NOT_SOLVED
        answer = Answer(state, message.satisfaction, mask_text(message.comment).text, Way.FORM)
        at = min(time_of(message, "answered_at") or tx.now, tx.now)
        policy = await store.policy(tx.conn, found.policy)
        if policy is not None:
            await keep(tx, recorded(found, answer, policy, organisations=(), now=at))

    async def event_advanced(self, tx: Tx, message: facts_pb2.EventAdvanced) -> None:
        """Withdraw the calls of an event that was reopened, and note of those who had it reopened that it was."""
        if message.HasField("closed_at") or not message.deadlines.reopens:
            return
        for found in await store.lock_reopened(tx.conn, message.event, message.revision):
            if found.state is State.NOT_SOLVED:
                await store.update(tx.conn, replace(found, reopened=True))
            elif found.node == self._node:
                await keep(tx, replace(found, state=State.WITHDRAWN, caller="", claim_ends_at=None, finished_at=tx.now))

    async def finished(self, tx: Tx, fact: Fact, message: facts_pb2.FollowUpFinished) -> None:
        """Keep what came of another node's call, and reopen an event of this node that is not solved."""
        if fact.received_from:
            await self._keep_received(tx, fact, message)
        if message.state == pb.FOLLOW_UP_STATE_NOT_SOLVED:
            await self._reopen(tx, message)

    async def _keep_received(self, tx: Tx, fact: Fact, message: facts_pb2.FollowUpFinished) -> None:
        if message.node != fact.node or message.node == self._node:
            raise Invalid(
                "node", f"{message.follow_up} is of {message.node or 'no node'}, and {fact.node} speaks of it"
            )
        named = names.parse(message.event, EVENT_NAME)["zone"], names.parse(message.follow_up, FOLLOW_UP_NAME)["zone"]
        if {*named, message.zone} != {fact.zone}:
            raise Invalid("zone", f"{message.follow_up} is not in {fact.zone}")
        state = state_of(message.state)
        if state is None:
            log.warning("follow_up.not_understood", follow_up=message.follow_up, node=message.node)
            return
        asked_at = time_of(message, "asked_at") or tx.now
        told = FollowUp(
            name=message.follow_up,
            zone=message.zone,
            node=message.node,
            request=message.request,
            event=message.event,
            event_revision=message.event_revision,
            organisation=message.organisation,
            type=message.type,
            policy=message.policy,
            period=message.period,
            draw=0.0,
            explanation=None,
            state=state,
            asked_at=asked_at,
            call_at=asked_at,
            tries=message.tries,
            satisfaction=message.satisfaction,
            note=message.reason,
            way=way_of(message.way),
            finished_at=time_of(message, "finished_at") or tx.now,
        )
        await store.insert(tx.conn, [told])

    async def _reopen(self, tx: Tx, message: facts_pb2.FollowUpFinished) -> None:
        """Reopen the event, if this node handles it. In the ledger the follow-up stands for the reporter.

        What cannot be reopened, because another reporter was faster or the window is over, is left as it is.
        """
        event = await store_events.lock(tx.conn, message.event)
        if event is None or event.node != self._node:
            return
        if await store_events.event_for(tx.conn, message.request) != event.name:
            log.warning("follow_up.of_another_event", request=message.request, about=message.event)
            return
        if event.revision < message.event_revision or event.is_open:
            log.info("follow_up.not_reopened", follow_up=message.follow_up, about=message.event, status=event.status)
            return
        asked_at = min(time_of(message, "finished_at") or tx.now, tx.now)
        try:
            await self._ledger.record(
                tx, event, Kind.REOPEN, message.reason, actor=message.follow_up, asked_at=asked_at
            )  # fmt: skip
        except WrongState as error:
            log.info("follow_up.not_reopened", follow_up=message.follow_up, about=message.event, error=str(error))


async def keep(tx: Tx, found: FollowUp) -> None:
    """Store a locked follow-up after a change, and state it once it is over."""
    await store.update(tx.conn, found)
    if found.state is not State.OPEN:
        tx.publish(finished_pb(found), zone=found.zone, key=found.event)
    tx.audit("management.follow_ups.record", found.name, state=found.state, tries=found.tries)
