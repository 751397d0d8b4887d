"""Whatever two tiers do while they hear of each other late: no event has two writers, and in the end all agree."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING

import pytest

from libs.errors import DomainError
from quintet.management.v1 import handovers_pb2, management_pb2
from services.management.tests.conftest import received
from services.management.tests.samples import NOISE, WORKS
from services.management.tests.story import STEPS, counters, events, filed
from services.management.tiers.tests.story import CITY_CREW, DISTRICT, ask, family, shared, steps

if TYPE_CHECKING:
    from services.management.tests.conftest import MakeNode, Node
    from services.management.tiers.tests.story import Family

SEEDS = range(4)
TURNS = 90
AT_ONCE_MAX = 4
CHOICES = ("file", "advance", "advance", "advance", "ask", "offer", "answer", "answer", "up", "up", "down", "down")
CREWS = {CITY_CREW: "people/handler.ops", WORKS: "people/handler.works"}


class Play:
    """Random turns of two tiers. Nobody waits for the other: what was stated is heard some time later, in its order."""

    def __init__(self, both: Family, random: Random) -> None:
        self.both = both
        self.random = random
        self.filed = 0

    async def turn(self) -> None:
        district, city = self.both
        match self.random.choice(CHOICES):
            case "file":
                self.filed += 1
                await district.hear(filed(self.filed, zone=DISTRICT, event_type=NOISE.name, place=None))
            case "advance":
                await self._advance(self.random.choice(self.both))
            case "ask":
                await self._ask()
            case "offer":
                await self._offer(self.random.choice(self.both))
            case "answer":
                await self._answer(self.random.choice(self.both))
            case "up":
                await self._relay(district, city)
            case _:
                await self._relay(city, district)

    async def _advance(self, node: Node) -> None:
        event = await self._one_of(node)
        action = self.random.choice(("file", "dispatch", "dispose", "feed_back", "verify"))
        if event is None:
            return
        request = management_pb2.AdvanceEventRequest(name=event.name, action=action)
        if action == "dispatch":
            request.organisation = WORKS
        actor = CREWS.get(event.organisation, STEPS[action]) if action in {"dispose", "feed_back"} else STEPS[action]
        with suppress(DomainError):  # not its turn, or not its event any more
            await node.call("AdvanceEvent", request, actor)

    async def _ask(self) -> None:
        event = await self._one_of(self.both.city)
        if event is not None:
            with suppress(DomainError):
                await ask(self.both.city, event.name)

    async def _offer(self, node: Node) -> None:
        """Offer something to the crew of the other tier."""
        event = await self._one_of(node)
        other = next(each.id for each in self.both if each is not node)
        if event is None or event.organisation not in CREWS:
            return
        to = next(each for each in CREWS if each != event.organisation)
        request = handovers_pb2.OfferHandoverRequest(
            event=event.name, organisation=to, node=other, reason="theirs", boundary="the kerb"
        )
        with suppress(DomainError):
            await node.call("OfferHandover", request, CREWS[event.organisation])

    async def _answer(self, node: Node) -> None:
        """Accept or refuse what is offered to this tier, whatever has become of it meanwhile."""
        query = handovers_pb2.ListHandoversRequest(parent="zones/us-ca-sf")
        found = (await node.call("ListHandovers", query, "people/supervisor")).handovers
        if not found:
            return
        handover = self.random.choice(found)
        accept = handovers_pb2.AcceptHandoverRequest(name=handover.name)
        refuse = handovers_pb2.RefuseHandoverRequest(name=handover.name, reason="no")
        method, request = self.random.choice((("AcceptHandover", accept), ("RefuseHandover", refuse)))
        with suppress(DomainError):
            await node.call(method, request, CREWS[handover.to_organisation])

    async def _one_of(self, node: Node) -> management_pb2.Event | None:
        found = await events(node, DISTRICT)
        return self.random.choice(found) if found else None

    async def _relay(self, sender: Node, receiver: Node) -> None:
        facts = await sender.stated()
        until = min(len(facts), sender._relayed + self.random.randint(1, AT_ONCE_MAX))
        for fact, _ in facts[sender._relayed : until]:
            await receiver.take_in(received(fact))
        sender._relayed = until


@pytest.mark.parametrize("seed", SEEDS)
async def test_all_agree_in_the_end(make_node: MakeNode, seed: int) -> None:
    both = await family(make_node)
    play = Play(both, Random(seed))
    for _ in range(TURNS):
        await play.turn()
    await both.talk()
    district, city = both
    here, there = await events(city, DISTRICT), await events(district, DISTRICT)
    assert here, "nothing happened"
    assert [shared(each) for each in here] == [shared(each) for each in there]
    assert {each.node for each in here} == {"sf", "sf-d10"}, "nothing was taken over, or everything"
    assert list((await counters(city)).zones) == list((await counters(district)).zones)
    for event in here:
        assert await steps(city, event.name) == await steps(district, event.name)
    made = [
        (message.event, message.revision) if fact.type.endswith("EventAdvanced") else (fact.key, message.event.revision)
        for node in both
        for fact, message in await node.stated()
        if fact.type.endswith(("EventAdvanced", "EventMoved", "EventOpened"))
    ]
    assert len(set(made)) == len(made), "two nodes made one revision"
