"""Lives of events by chance, taken in with their times; and what is known of each, reckoned from the script alone.

Nothing here reads management's tables or uses its formulas: it is what somebody would count by hand.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from quintet.delivery.v1.facts_pb2 import RequestRated
from quintet.management.v1 import imports_pb2
from services.management.tests import samples

if TYPE_CHECKING:
    from services.management.tests.conftest import Node

START = datetime(2025, 3, 3, 8, 0, tzinfo=UTC)
END = START + timedelta(days=60)
ZONES = ("us-ca-sf", "us-ca-sf-d6", "us-ca-sf-d10", "us-ca-sf-d10-potrero-hill")
ORGANISATIONS = (samples.WORKS, samples.SEWERS, samples.PARKS)
TYPES = {samples.GRAFFITI.name: timedelta(hours=48), samples.NOISE.name: timedelta(hours=24)}
# Where each action leads, and from where it may be taken.
LOOP = {
    "collected": ("file", "void"),
    "filed": ("dispatch", "void"),
    "dispatched": ("dispose", "dispose", "dispose", "return", "void"),
    "disposed": ("feed_back", "feed_back", "rework"),
    "fed_back": ("verify", "verify", "verify", "rework"),
    "closed": ("evaluate",),
}
AFTER = {
    "file": "filed",
    "dispatch": "dispatched",
    "dispose": "disposed",
    "return": "filed",
    "rework": "dispatched",
    "feed_back": "fed_back",
    "verify": "closed",
    "evaluate": "evaluated",
    "void": "voided",
}
REASONED = frozenset(("return", "rework", "void"))


@dataclass
class Life:
    """What happened to one event: (action, when, the organisation given with it)."""

    number: int
    zone: str
    type: str
    occurred_at: datetime
    steps: list[tuple[str, datetime, str]] = field(default_factory=list)
    event: str = ""
    ratings: list[int] = field(default_factory=list)

    @property
    def state(self) -> str:
        return AFTER[self.steps[-1][0]] if self.steps else "collected"

    @property
    def is_reversed(self) -> bool:
        times = [self.occurred_at, *(at for _, at, _ in self.steps)]
        return any(later < before for before, later in pairwise(times))

    @property
    def closed_at(self) -> datetime | None:
        return next((at for action, at, _ in self.steps if action in {"verify", "void"}), None)

    @property
    def due_at(self) -> datetime:
        return self.occurred_at + TYPES[self.type]

    @property
    def sent(self) -> list[tuple[datetime, str]]:
        return [(at, organisation) for action, at, organisation in self.steps if action == "dispatch"]

    @property
    def handler(self) -> str:
        """The organisation that has it: the last one, unless it went back."""
        found = ""
        for action, _, organisation in self.steps:
            found = organisation if action == "dispatch" else "" if action == "return" else found
        return found

    @property
    def response_at(self) -> datetime | None:
        actions = [action for action, _, _ in self.steps]
        if "dispatch" not in actions:
            return None
        behind = self.steps[actions.index("dispatch") + 1 :]
        return behind[0][1] if behind else None


def chance_lives(seed: int, number: int) -> list[Life]:
    """Return lives of all kinds; a few whose times contradict each other."""
    chance = random.Random(seed)
    return [_life(chance, each) for each in range(number)]


def _life(chance: random.Random, number: int) -> Life:
    occurred_at = START + timedelta(minutes=chance.randrange(60 * 24 * 60))
    life = Life(number, chance.choice(ZONES), chance.choice(list(TYPES)), occurred_at)
    at = occurred_at
    for _ in range(chance.randrange(10)):
        if life.state not in LOOP:
            break
        action = chance.choice(LOOP[life.state])
        backwards = chance.random() < 0.01
        at += timedelta(minutes=-300 if backwards else chance.choice((5, 60, 240, 241, 700, 1500)))
        life.steps.append((action, at, chance.choice(ORGANISATIONS) if action == "dispatch" else ""))
    return life


async def take_in(node: Node, lives: list[Life], subject: str = "people/admin", zone: str = "us-ca-sf") -> None:
    """Import lives, and learn the names of their events."""
    for first in range(0, len(lives), 100):
        part = lives[first : first + 100]
        request = imports_pb2.ImportEventsRequest(
            parent=f"zones/{zone}", source="chance", events=[_past(life) for life in part]
        )
        answer = await node.call("ImportEvents", request, subject)
        for life, imported in zip(part, answer.events, strict=True):
            assert imported.outcome == imports_pb2.IMPORT_OUTCOME_OPENED, imported
            life.event = imported.event


def _past(life: Life) -> imports_pb2.PastEvent:
    past = imports_pb2.PastEvent(external_id=str(life.number), type=life.type, zone=life.zone, description="Something")
    past.place.address = f"{life.number} Chance Street"
    past.occurred_at.FromDatetime(life.occurred_at)
    for action, at, organisation in life.steps:
        step = past.steps.add(action=action, organisation=organisation, reason="so" if action in REASONED else "")
        step.occurred_at.FromDatetime(at)
    return past


async def rate(node: Node, life: Life, rating: int, **about: Any) -> None:
    """Let a reporter rate an event whose request it stands for."""
    request = f"zones/{life.zone}/requests/r{life.number}-{len(life.ratings)}"
    await attach(node, life.event, request)
    life.ratings.append(rating)
    await node.hear(RequestRated(request=request, event=life.event, rating=rating), zone=life.zone, **about)


async def attach(node: Node, event: str, request: str) -> None:
    """Let an event stand for a request besides, as merging does."""

    async def work(tx: Any) -> None:
        await tx.conn.execute(
            """INSERT INTO event_reports (event_id, revision, kind, source, merged)
            SELECT id, revision + 1000 + (SELECT count(*) FROM event_reports WHERE event_id = id), 'request', $2, true
            FROM events WHERE name = $1""",
            event,
            request,
        )

    await node.transactions.run(work)
