"""Lists and counts against a computation of their own, over random events and random callers."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import pytest

from libs.access import Grant, Grants, Scope
from services.management.model import Deadlines, Event
from services.management.model_component import Component
from services.management.model_loop import Action, Loop
from services.management.store_rows import EVENT_COLUMNS, event_values, parameters
from services.management.tests.samples import CHILD, MIGRATIONS, NODE, NOW, PARKS, SEVEN, SEWERS, WORKS, ZONES, tree
from services.management.worklists import store_work
from services.management.worklists.model import (
    ADVANCE,
    Area,
    Filter,
    Inbox,
    Order,
    actionable,
    branches,
    common,
    seen,
)
from services.management.worklists.store_work import Work

if TYPE_CHECKING:
    from libs.db import Connection
    from libs.testing import MakeTransactions
    from libs.tx import Transactions, Tx

T = TypeVar("T")
READ = "management.events.read"
ME, OTHER = "people/me", "people/other"
ORGANISATIONS = (WORKS, SEWERS, PARKS)
LAMP, TREE = "componentTypes/street-lamp", "componentTypes/tree"
# Codes as people write them down, and which of them are one.
SAME_CODES = {"L-1042": "one", "l 1042": "one", "Ｌ－１０４２": "one", "L-104": "other"}
EVENTS = 300
CALLERS = 60
# The same states as the seven steps, and other rights to go on: a state alone does not say whose work it is.
SHORT = Loop(
    name="loops/short",
    title_zh="短",
    title_en="Short",
    initial="collected",
    states=("collected", "dispatched", "closed"),
    open_states=("collected", "dispatched"),
    joint_states=(),
    actions=(
        Action("send", "派", "Send", ("collected",), "dispatched", "management.events.verify"),
        Action("finish", "结", "Finish", ("dispatched",), "closed", "management.events.verify"),
    ),
    version=1,
)
# A second version in which other people send: events of both are about.
SHORT_2 = replace(
    SHORT,
    actions=(replace(SHORT.actions[0], permission="management.events.file"), SHORT.actions[1]),
    version=2,
)
LOOPS = {(loop.name, loop.version): loop for loop in (SEVEN, SHORT, SHORT_2)}
VERBS = ("file", "dispatch", "dispose", "verify", "void")


@dataclass(frozen=True)
class Asked:
    """A list as somebody asks for it."""

    grants: Grants
    inbox: Inbox
    zones: frozenset[str]
    organisations: frozenset[str]
    filter: Filter

    @property
    def work(self) -> Work:
        visible = seen(self.grants.visibility(READ), by_handlers=True)
        mine: tuple[str, ...] = ()
        if self.inbox in {Inbox.ROLE, Inbox.UNASSIGNED}:
            visible = common(visible, actionable(LOOPS.values(), self.grants.visibility))
        if self.inbox is Inbox.ORGANISATION:
            visible = common(visible, [Area(handlers=frozenset([self.grants.organisations]))])
        if self.inbox is Inbox.MINE:
            mine = (ME,)
        if self.inbox is Inbox.UNASSIGNED:
            mine = ("",)
        asked = Area(self.zones, handlers=frozenset([self.organisations] if self.organisations else []))
        found = tuple(branches(common(visible, [asked])))
        return Work(found, replace(self.filter, assignees=(*self.filter.assignees, *mine)), NODE, NOW)

    def holds(self, event: Event) -> bool:
        """Whether an event is in the list, said once more and without areas, branches and SQL."""
        wanted = self.filter
        loop = LOOPS.get((event.loop, event.loop_version))
        can_act = loop is not None and any(
            self.grants.allows(ADVANCE, event.zone, event.organisation)
            and self.grants.allows(action.permission, event.zone, event.organisation)
            for action in loop.actions
            if event.status in action.sources and not action.exception and event.status in loop.open_states
        )
        whose = {
            Inbox.ALL: True,
            Inbox.ROLE: can_act,
            Inbox.MINE: event.assignee == ME,
            Inbox.ORGANISATION: bool(self.grants.organisations & set(event.handlers)),
            Inbox.UNASSIGNED: can_act and not event.assignee,
        }[self.inbox]
        return all(
            [
                event.closed_at is None,
                whose,
                self.grants.allows(READ, event.zone, event.handlers),
                event.node == NODE or wanted.mirrored,
                event.zone in self.zones,
                not self.organisations or bool(self.organisations & set(event.handlers)),
                not wanted.states or event.status in wanted.states,
                not wanted.types or event.type in wanted.types,
                all(event.assignee == assignee for assignee in wanted.assignees),
                not wanted.overdue or (event.deadlines.due_at is not None and event.deadlines.due_at < NOW),
                wanted.due_before is None
                or (event.deadlines.due_at is not None and event.deadlines.due_at < wanted.due_before),
                wanted.title.lower() in event.title.lower(),
                wanted.component is None or is_sought(event.component, wanted.component),
            ]
        )


def is_sought(component: Component | None, sought: Component) -> bool:
    if component is None or component.type != sought.type:
        return False
    return not sought.code or SAME_CODES.get(component.code) == SAME_CODES[sought.code]


def some_event(chance: random.Random, number: int) -> Event:
    loop = chance.choice([*LOOPS.values(), None]) if chance.random() < 0.3 else SEVEN
    status = chance.choice(loop.states if loop else SEVEN.states)
    is_open = status in (loop or SEVEN).open_states
    zone = chance.choice([code for code, _ in ZONES])
    opened_at = NOW - timedelta(minutes=chance.randrange(120))  # many at the same moment
    shares = chance.sample(ORGANISATIONS, chance.choice([0, 0, 2, 3]))
    return Event(
        name=f"zones/{zone}/events/{number}",
        zone=zone,
        node=chance.choice([NODE, NODE, CHILD]),
        type=chance.choice(["eventTypes/graffiti", "eventTypes/noise"]),
        loop=loop.name if loop else "loops/lost",
        loop_version=loop.version if loop else 1,
        title=chance.choice(["Graffiti · d6", "50%_off \\ wall", "噪声 · 波特雷罗山", "NOISE"]),
        status=status,
        occurred_at=opened_at,
        opened_at=opened_at,
        step_at=opened_at,
        organisation=chance.choice(["", *ORGANISATIONS]),
        supporters=tuple(shares),
        shares=len(shares),
        deadlines=Deadlines(
            due_at=chance.choice([None, NOW + timedelta(hours=chance.randrange(-12, 36))]),
            step_due_at=chance.choice([None, NOW + timedelta(hours=chance.randrange(-6, 6))]),
        ),
        closed_at=None if is_open else NOW,
        assignee=chance.choice(["", "", ME, OTHER]),
        component=chance.choice(
            [None, *(Component(kind, code) for kind in (LAMP, TREE) for code in ["", *SAME_CODES])]
        ),
    )


def somebody(chance: random.Random) -> Grants:
    held = []
    for permission in (READ, ADVANCE, *(f"management.events.{verb}" for verb in VERBS)):
        for _ in range(chance.choice([0, 1, 1, 2] if permission not in {READ, ADVANCE} else [1, 1, 2])):
            zone = chance.choice(["", *(code for code, _ in ZONES)])
            if chance.random() < 0.5:
                held.append(Grant(permission, Scope.ZONE, zone))
            else:
                held.append(Grant(permission, Scope.ORGANISATION, zone, chance.choice(ORGANISATIONS)))
    return Grants(ME, held, tree, organisations=chance.sample(ORGANISATIONS, chance.randrange(3)))


def some_list(chance: random.Random) -> Asked:
    grants = Grants(ME, [Grant(READ, Scope.ZONE)], tree) if chance.random() < 0.1 else somebody(chance)

    def rarely(value: T, otherwise: T) -> T:
        return value if chance.random() < 0.2 else otherwise

    zones = frozenset(tree().codes(chance.choice(["us-ca-sf", "us-ca-sf", "us-ca-sf-d10", "us-ca-sf-d6"])))
    return Asked(
        grants=grants,
        inbox=chance.choice(list(Inbox)),
        zones=zones,
        organisations=rarely(frozenset(chance.sample(ORGANISATIONS, 2)), frozenset()),
        filter=Filter(
            states=rarely(("filed", "dispatched"), ()),
            types=rarely(("eventTypes/noise",), ()),
            assignees=rarely((chance.choice(["", ME, OTHER]),), ()),
            overdue=rarely(True, False),
            due_before=rarely(NOW + timedelta(hours=12), None),
            title=rarely(chance.choice(["noise", "%_", "\\", "噪声"]), ""),
            mirrored=chance.random() < 0.3,
            component=rarely(Component(chance.choice([LAMP, TREE]), chance.choice(["", *SAME_CODES])), None),
        ),
    )


def in_order(events: list[Event], order: Order) -> list[Event]:
    last = datetime.max.replace(tzinfo=NOW.tzinfo)
    if order is Order.DUE:
        return sorted(events, key=lambda event: (event.deadlines.due_at or last, event.id))
    if order is Order.STEP_DUE:
        return sorted(events, key=lambda event: (event.deadlines.step_due_at or last, event.id))
    return sorted(events, key=lambda event: (event.opened_at, event.id), reverse=order is Order.NEWEST)


async def store(transactions: Transactions, events: list[Event]) -> list[Event]:
    async def work(tx: Tx) -> list[Event]:
        found = []
        for event in events:
            row = await tx.conn.fetchval(
                f"""INSERT INTO events ({", ".join(EVENT_COLUMNS)}, assignee)
                VALUES ({parameters(1, len(EVENT_COLUMNS))}, ${len(EVENT_COLUMNS) + 1}) RETURNING id""",
                *event_values(event),
                event.assignee,
            )
            found.append(replace(event, id=row))
        return found

    return await transactions.run(work)


async def pages(conn: Connection, work: Work, order: Order, size: int) -> list[str]:
    found: list[str] = []
    after = None
    while True:
        rows = await store_work.list_work(conn, work, order, after=after, limit=size)
        found += [event.name for _, event in rows]
        if len(rows) < size:
            return found
        after = (rows[-1][0], rows[-1][1].id)


@pytest.mark.parametrize("seed", range(4))
async def test_lists_and_counts_equal_a_computation_of_their_own(transactions: MakeTransactions, seed: int) -> None:
    chance = random.Random(seed)
    made = await transactions("management", MIGRATIONS)
    events = await store(made, [some_event(chance, number) for number in range(EVENTS)])
    day_end = NOW + timedelta(hours=16)
    lengths = []
    for _ in range(CALLERS):
        asked, size = some_list(chance), chance.choice([4, 20, 50])
        expected = [event for event in events if asked.holds(event)]
        lengths.append(len(expected))
        for order in Order:
            found = await made.read(lambda conn: pages(conn, asked.work, order, size))  # noqa: B023 - awaited at once
            assert found == [event.name for event in in_order(expected, order)], (asked, order)
        counts = await made.read(lambda conn: store_work.count_work(conn, asked.work, day_end))  # noqa: B023
        states = [event.status for event in expected]
        assert counts.by_state == {state: states.count(state) for state in set(states)}
        assert (counts.total, counts.overdue, counts.due_today, counts.unassigned) == (
            len(expected),
            sum(event.deadlines.due_at is not None and event.deadlines.due_at < NOW for event in expected),
            sum(event.deadlines.due_at is not None and NOW <= event.deadlines.due_at < day_end for event in expected),
            sum(not event.assignee for event in expected),
        )
        members = await made.read(lambda conn: store_work.members(conn, asked.work, limit=EVENTS))  # noqa: B023
        assert sorted(members) == [event.id for event in expected]
        sample = [event.id for event in chance.sample(events, 50)]
        among = await made.read(lambda conn: store_work.among(conn, asked.work, sample))  # noqa: B023
        assert sorted(event.id for event in among) == sorted(each.id for each in expected if each.id in sample)
    assert sum(map(bool, lengths)) > CALLERS / 4, "most lists were empty: nothing was tested"
