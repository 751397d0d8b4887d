"""The clock task: what happens to events because time passes, and because a calendar changed.

Every replica may run it: what it finds is claimed with SKIP LOCKED, and done again it changes nothing. What it does not
get to is done late, not lost: everything it looks for stands in the tables.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from libs.turns import every, in_batches
from quintet.management.v1 import facts_pb2
from services.management import store_events
from services.management.convert import clock_pb, tier_pb, time_pb
from services.management.deadlines import store_calendars, store_clock, store_exceptions, texts
from services.management.deadlines.model_clocks import reckoned, scheduled, to_tell
from services.management.deadlines.model_exceptions import Kind, State, lapse, unsuspended
from services.management.model import Escalation, Reminder

if TYPE_CHECKING:
    from libs.tx import Transactions, Tx
    from services.management.deadlines.book import Book
    from services.management.deadlines.ledger import Ledger
    from services.management.deadlines.model_clocks import Moment
    from services.management.model import Event

CHECK_INTERVAL_S = 5.0
# An event may state a fact for each of its moments, of which a type has 42 at most.
EVENTS_PER_TRANSACTION_MAX = 10
LAPSES_PER_TRANSACTION_MAX = 20
SWEPT_PER_TRANSACTION_MAX = 100
BATCHES_PER_TURN_MAX = 200
# Every process has learnt of a change of the calendars by then.
CALENDARS_KNOWN_AFTER = timedelta(seconds=3 * CHECK_INTERVAL_S)
ACTOR = "services/management"


class ClockTask:
    """Background work on the deadlines of this node's events."""

    def __init__(self, transactions: Transactions, book: Book, ledger: Ledger) -> None:
        self._transactions = transactions
        self._book = book
        self._ledger = ledger
        self._swept = 0

    async def run(self) -> None:
        """Take a turn every CHECK_INTERVAL_S until cancelled."""
        await every(CHECK_INTERVAL_S, self.turn, failed="deadlines.turn_failed")

    async def turn(self) -> None:
        """Do all that is due now: in batches, each a transaction, at most BATCHES_PER_TURN_MAX of a kind."""
        await self._transactions.read(self._book.refresh)
        await self._settle_calendars()
        for work, full in ((self._events, EVENTS_PER_TRANSACTION_MAX), (self._lapses, LAPSES_PER_TRANSACTION_MAX)):
            await in_batches(self._transactions, work, full=full, batches_max=BATCHES_PER_TURN_MAX)

    # ------------------------------------------------------------------------------------------------- moments

    async def _events(self, tx: Tx) -> int:
        found = await store_clock.claim(tx.conn, self._transactions.node, tx.now, EVENTS_PER_TRANSACTION_MAX)
        for event in found:
            await self._event(tx, event)
        return len(found)

    async def _event(self, tx: Tx, event: Event) -> None:
        event_type = await self._book.type_of(tx.conn, event)
        until = event.deadlines.suspended_until
        if until is not None and until <= tx.now:
            suspension = event.clocks.suspension
            event = unsuspended(event)
            await self._ledger.end(tx, event, suspension, until)
        tell, over = to_tell(event, event_type, tx.now)
        for moment in tell:
            event = await self._tell(tx, event, moment)
        await store_clock.put_clocks(tx.conn, scheduled(event, event_type, over))

    async def _tell(self, tx: Tx, event: Event, moment: Moment) -> Event:
        cause = moment.cause
        if isinstance(cause, Escalation):
            return await self._escalate(tx, event, moment, cause)
        if isinstance(cause, Reminder):
            reminder = facts_pb2.DeadlineReminder(
                event=event.name,
                title=event.title,
                clock=clock_pb(moment.clock),
                due_at=time_pb(moment.due_at),
                offset_min=cause.offset_min,
                role=cause.role,
                organisation=event.organisation,
                zone=event.zone,
                node=event.node,
            )
            tx.publish(reminder, zone=event.zone, key=event.name)
            return event
        missed = facts_pb2.DeadlineMissed(
            event=event.name,
            clock=clock_pb(moment.clock),
            due_at=time_pb(moment.due_at),
            status=event.status,
            organisation=event.organisation,
            zone=event.zone,
            node=event.node,
        )
        tx.publish(missed, zone=event.zone, key=event.name)
        return event

    async def _escalate(self, tx: Tx, event: Event, moment: Moment, rung: Escalation) -> Event:
        reason = "\n".join(texts.both(texts.LATE, minutes=texts.plain(rung.after_min)))
        effect = await self._ledger.record(tx, event, Kind.ESCALATION, reason, actor=ACTOR, role=rung.role)
        escalated = facts_pb2.EventEscalated(
            event=event.name,
            title=event.title,
            clock=clock_pb(moment.clock),
            due_at=time_pb(moment.due_at),
            role=rung.role,
            tier=tier_pb(rung.tier),
            organisation=event.organisation,
            exception=effect.entry.name,
            zone=event.zone,
            node=event.node,
        )
        tx.publish(escalated, zone=event.zone, key=event.name)
        return effect.event

    async def _lapses(self, tx: Tx) -> int:
        names = await store_clock.lapsing(tx.conn, self._transactions.node, tx.now, LAPSES_PER_TRANSACTION_MAX)
        for name in names:
            event = await store_events.lock(tx.conn, name.rpartition("/exceptions/")[0])
            entry = await store_exceptions.get(tx.conn, name)
            if event is not None and entry is not None and entry.state is State.ASKED:
                await self._ledger.settle(tx, event, lapse(entry, now=tx.now))
        return len(names)

    # ----------------------------------------------------------------------------------------------- calendars

    async def _settle_calendars(self) -> None:
        """Reckon open events by a changed calendar: once when it is seen, and again when every process has seen it."""
        found = await self._transactions.read(store_calendars.unsettled)
        if found is None:
            return
        revision, changed_at = found
        known = self._transactions.clock.now() >= changed_at + CALENDARS_KNOWN_AFTER
        if self._swept == revision and not known:
            return
        await self._sweep()
        self._swept = revision
        if known:
            await self._transactions.run(lambda tx: store_calendars.settle(tx.conn, revision))

    async def _sweep(self) -> None:
        after: int | None = 0
        while after is not None:
            after = await self._transactions.run(partial(self._reckon, after))

    async def _reckon(self, after: int, tx: Tx) -> int | None:
        """Reckon a batch of open events anew; return the last row, None when there are no more."""
        found = await store_clock.open_after(tx.conn, self._transactions.node, after, SWEPT_PER_TRANSACTION_MAX)
        calendars = await self._book.calendars(tx.conn)
        for event in found:
            anew = reckoned(event, await self._book.type_of(tx.conn, event), calendars)
            if anew.deadlines != event.deadlines:
                await self._ledger.record(tx, event, Kind.CALENDAR, "", actor=ACTOR)
        return found[-1].id if len(found) == SWEPT_PER_TRANSACTION_MAX else None
