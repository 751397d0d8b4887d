"""What the methods for work lists share: the list that a request means for the caller, and a row of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from libs.access import current_caller
from libs.tx import Transactions
from libs.zones import ZoneTree
from quintet.management.v1 import worklists_pb2 as pb
from services.management import convert
from services.management.catalogue.book import LoopBook
from services.management.deadlines.book import Book
from services.management.intake import Intake
from services.management.service_base import READ, Methods
from services.management.service_events import EventMethods
from services.management.worklists.convert_work import INBOXES, filter_of
from services.management.worklists.feed import Feed
from services.management.worklists.model import ADVANCE, Area, Inbox, actionable, branches, common, seen
from services.management.worklists.people import People
from services.management.worklists.store_work import Work

if TYPE_CHECKING:
    from collections.abc import Iterable

    from libs.access import Caller
    from services.management.model import Event


@dataclass(frozen=True, slots=True)
class Means:
    """What the methods for single events are given, and these too."""

    transactions: Transactions
    loops: LoopBook
    zones: Callable[[], ZoneTree]
    intake: Intake
    book: Book


@dataclass(frozen=True, slots=True)
class Beside:
    """What only work lists need: the methods for single events, other people's rights, the changes as they happen.

    `timezone` says when a day ends.
    """

    events: EventMethods
    people: People
    feed: Feed
    timezone: ZoneInfo


def day_end(now: datetime, timezone: ZoneInfo) -> datetime:
    """Return when the present day ends where the node is."""
    tomorrow = now.astimezone(timezone).date() + timedelta(days=1)
    return datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=timezone)


class WorkMethods(Methods):
    """Methods about work lists."""

    def __init__(self, means: Means, beside: Beside) -> None:
        super().__init__(means.transactions, means.loops, means.zones, means.intake, means.book)
        self._beside = beside

    def _work(self, parent: str, inbox: pb.WorkInbox.ValueType, given: pb.WorkFilter, now: datetime) -> Work:
        """Return the list that is meant, as the caller may see it now."""
        caller = current_caller()
        meant = INBOXES[inbox]
        areas = common(self._areas(caller, meant), [self._asked(parent, given)])
        free = Inbox.UNASSIGNED
        filter_ = filter_of(given, *({Inbox.MINE: [caller.subject], free: [""]}.get(meant, [])))
        return Work(tuple(branches(areas)), filter_, self._transactions.node, now)

    def _areas(self, caller: Caller, inbox: Inbox) -> list[Area]:
        visible = seen(caller.visibility(READ), by_handlers=True)
        if inbox in {Inbox.ROLE, Inbox.UNASSIGNED}:
            return common(visible, actionable(self._loops.versions, caller.visibility))
        if inbox is Inbox.ORGANISATION:
            return common(visible, [Area(handlers=frozenset([caller.grants.organisations]))])
        return visible

    def _asked(self, parent: str, given: pb.WorkFilter) -> Area:
        """Return the area that the request itself names."""
        tree = self._zones()
        zone = tree.canonical(convert.zone_of(parent))
        # All of the node's own events lie in its zone: saying so would only be looked at for each of them.
        zones = None if zone == tree.root and not given.mirrored else frozenset(tree.codes(zone))
        if given.zones:
            below = frozenset(code for each in given.zones for code in tree.codes(each))
            zones = below if zones is None else zones & below
        organisations = frozenset(given.organisations)
        return Area(zones, handlers=frozenset([organisations] if organisations else []))

    def _items(self, caller: Caller, events: Iterable[Event], now: datetime) -> list[pb.WorkItem]:
        """Return rows, each with what the caller may do."""
        known: dict[tuple[str, ...], tuple[str, ...]] = {}
        items = []
        for event in events:
            kind = (event.node, f"{event.loop} {event.loop_version}", event.status, event.zone, event.organisation)
            if kind not in known:
                known[kind] = self._actions(caller, event)
            due_at = event.deadlines.due_at
            overdue = due_at is not None and due_at < now
            items.append(pb.WorkItem(event=convert.event_pb(event), overdue=overdue, actions=known[kind]))
        return items

    def _actions(self, caller: Caller, event: Event) -> tuple[str, ...]:
        """Return the actions of the loop that the caller may take in the present state."""
        loop = self._loops.held(event)
        if loop is None or event.node != self._transactions.node:
            return ()
        if not caller.allows(ADVANCE, event.zone, event.organisation):
            return ()
        return tuple(
            action
            for action in loop.allowed(event.status)
            if caller.allows(loop.by_name[action].permission, event.zone, event.organisation)
        )
