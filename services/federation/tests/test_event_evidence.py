"""Photos and files of events between three tiers over real links: fetched through each other, refused, written down."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from libs.clock import ManualClock
from libs.errors import Away, Exhausted, Forbidden, NotFound, Reason, WrongState
from libs.testing import eventually
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from quintet.management.v1 import evidence_pb2
from services.federation import event_evidence, refusals_store
from services.federation.answering import ANSWERING_MAX
from services.federation.asking import STREAMS_MAX
from services.federation.event_evidence import (
    FETCHED,
    FETCHES_AT_ONCE,
    FILE_BYTES_MAX,
    GIVEN,
    PART_BYTES_MAX,
    checked,
)
from services.federation.terms import default_charter
from services.federation.tests.tiers import CITY, DISTRICT, STREET, Tiers, three_tiers
from services.federation.tests.world import Node, World

LEADER, OFFICER = "people/leader.sf", "people/officer.hill"
PHOTO = "zones/hill/events/e1/evidence/p1"
ELSEWHERE = "zones/d6/events/e1/evidence/p1"
NOWHERE = "zones/d9/events/e1/evidence/p1"  # a zone that nobody knows
BYTES = bytes(range(251)) * 3000  # three parts


def described(name: str, size: int) -> evidence_pb2.Evidence:
    return evidence_pb2.Evidence(name=name, size_bytes=size)


@dataclass
class Files:
    """What the management of one node keeps; `asked` are the names that it was asked for."""

    kept: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def ReadForPeer(
        self, request: evidence_pb2.ReadForPeerRequest, **_options: Any
    ) -> AsyncIterator[evidence_pb2.ReadForPeerResponse]:
        self.asked.append(request.name)
        if request.name not in self.kept:
            raise NotFound(Reason.EVIDENCE_NOT_FOUND, f"{request.name} does not exist")
        content = self.kept[request.name]
        yield evidence_pb2.ReadForPeerResponse(evidence=described(request.name, len(content)), content=content)


@dataclass
class Kept:
    """Three tiers, and what each keeps."""

    tiers: Tiers
    files: dict[str, Files]

    async def fetch(self, node: Node, name: str, person: str, keeper: str = "") -> bytes:
        request = pb.FetchEventEvidenceRequest(name=name, actor=person, keeper=keeper)
        parts = [part async for part in node.event_evidence.fetch(request)]
        assert [part.HasField("evidence") for part in parts] == [True] + [False] * (len(parts) - 1)
        assert parts[0].evidence.name == name
        assert max(len(part.content) for part in parts) <= PART_BYTES_MAX
        return b"".join(part.content for part in parts)

    def asked(self) -> list[int]:
        return [len(self.files[node].asked) for node in (CITY, DISTRICT, STREET)]


@pytest_asyncio.fixture
async def kept(timed: World, present: ManualClock) -> Kept:
    files = {node: Files() for node in (CITY, DISTRICT, STREET)}
    return Kept(await three_tiers(timed, present, files), files)


async def audited(node: Node, action: str) -> list[dict[str, Any]]:
    query = "SELECT resource, detail FROM audit_entries WHERE action = $1 ORDER BY id"
    rows = await node.transactions.read(lambda conn: conn.fetch(query, action))
    return [{"resource": row["resource"], **json.loads(row["detail"])} for row in rows]


async def test_the_city_opens_what_the_street_keeps_and_each_writes_it_down(kept: Kept) -> None:
    kept.files[STREET].kept[PHOTO] = BYTES
    tiers = kept.tiers
    assert await kept.fetch(tiers.city, PHOTO, LEADER, keeper=STREET) == BYTES
    assert await audited(tiers.city, FETCHED) == [{"resource": PHOTO, "actor": LEADER}]
    for node, peer in ((tiers.district, CITY), (tiers.street, DISTRICT)):
        (entry,) = await audited(node, GIVEN)
        assert (entry["resource"], entry["actor"], entry["peer"]) == (PHOTO, f"{LEADER}@{CITY}", peer)
        assert entry["size_bytes"] == len(BYTES)


async def test_the_street_opens_what_the_city_keeps(kept: Kept) -> None:
    kept.files[CITY].kept[PHOTO] = BYTES
    assert await kept.fetch(kept.tiers.street, PHOTO, OFFICER, keeper=CITY) == BYTES
    assert kept.asked() == [1, 1, 0]


async def test_those_below_are_asked_before_the_one_above_and_nobody_twice(kept: Kept) -> None:
    district = kept.tiers.district
    with pytest.raises(NotFound):
        await kept.fetch(district, PHOTO, OFFICER)
    assert kept.asked() == [1, 0, 1]
    kept.files[STREET].kept[PHOTO] = kept.files[CITY].kept[PHOTO] = BYTES
    assert await kept.fetch(district, PHOTO, OFFICER) == BYTES
    assert kept.asked() == [1, 0, 2]
    assert await kept.fetch(district, PHOTO, OFFICER, keeper=CITY) == BYTES
    assert kept.asked() == [2, 0, 2]


async def test_what_is_not_of_the_zone_is_neither_asked_for_nor_given(kept: Kept) -> None:
    kept.files[CITY].kept[ELSEWHERE] = kept.files[CITY].kept[NOWHERE] = BYTES
    city, district = kept.tiers.city, kept.tiers.district
    with pytest.raises(NotFound):
        await kept.fetch(district, ELSEWHERE, OFFICER)
    for name in (ELSEWHERE, NOWHERE):
        with pytest.raises(Forbidden) as refused:
            await _asked_all_the_same(district, CITY, name)
        assert refused.value.reason == Reason.NOT_PERMITTED
    assert kept.asked() == [0, 0, 0]
    (charter,) = [each.name for each in await city.contracts()]
    refusals = await city.transactions.read(lambda conn: refusals_store.refusals(conn, charter, None, 10))
    assert [ELSEWHERE in each.description for each in refusals] == [False, True]  # the newest first


async def test_a_charter_without_it_gives_nothing(
    timed: World, present: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(zone: str) -> pb.Terms:
        made = default_charter(zone)
        made.event_evidence = False
        return made

    monkeypatch.setattr("services.federation.terms.default_charter", without)
    files = {STREET: Files({PHOTO: BYTES}), DISTRICT: Files()}
    kept = Kept(await three_tiers(timed, present, files), files)
    with pytest.raises(NotFound):
        await kept.fetch(kept.tiers.city, PHOTO, LEADER)
    with pytest.raises(Forbidden):
        await _asked_all_the_same(kept.tiers.city, DISTRICT, PHOTO)
    assert not files[DISTRICT].asked


async def test_a_page_of_photos_comes_in_turns_and_no_more_wait_than_may(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{PHOTO}.{number}" for number in range(2 * ANSWERING_MAX + STREAMS_MAX)]
    kept.files[STREET].kept |= {name: name.encode() for name in names}
    found = await asyncio.gather(*(kept.fetch(kept.tiers.city, name, LEADER) for name in names))
    assert found == [name.encode() for name in names]
    monkeypatch.setattr(event_evidence, "FETCHES_WAITING_MAX", 1)
    outcomes = await asyncio.gather(
        *(kept.fetch(kept.tiers.city, name, LEADER) for name in names), return_exceptions=True
    )
    refused = [each for each in outcomes if isinstance(each, Exhausted) and each.reason == Reason.TOO_BUSY]
    assert len(refused) == len(names) - FETCHES_AT_ONCE - 1


async def test_while_the_keeper_is_away_that_is_said(kept: Kept) -> None:
    kept.files[STREET].kept[PHOTO] = BYTES
    await kept.tiers.cut(kept.tiers.street)

    async def gone() -> bool:
        return not kept.tiers.district.hub.connected(STREET)

    await eventually(gone)
    with pytest.raises(Away) as away:
        await kept.fetch(kept.tiers.city, PHOTO, LEADER)
    assert away.value.reason == Reason.PEER_AWAY
    await kept.tiers.join(kept.tiers.street)

    async def there() -> bool:
        try:
            return await kept.fetch(kept.tiers.city, PHOTO, LEADER) == BYTES
        except Away:
            return False

    await eventually(there)


async def _asked_all_the_same(node: Node, peer: str, name: str) -> list[link_pb2.Answer]:
    """Ask as a node would that does not keep to the charter."""
    query = link_pb2.Query(actor=OFFICER, event_evidence=link_pb2.EventEvidenceQuery(name=name))
    return [each async for each in node.questions.stream(await node.hub.reach(peer), query, 10.0)]


# ---------------------------------------------------------------------------------------------- what a peer may answer


def part(content: bytes, *, more: bool, name: str = "", size: int = 0) -> link_pb2.Answer:
    evidence = described(name, size) if name else None
    return link_pb2.Answer(event_evidence=link_pb2.EventEvidencePart(evidence=evidence, content=content), more=more)


async def _take(answers: Sequence[link_pb2.Answer]) -> bytes:
    async def given() -> AsyncIterator[link_pb2.Answer]:
        for answer in answers:
            yield answer

    return b"".join([each.content async for each in checked(DISTRICT, PHOTO, given())])


async def test_the_parts_of_a_file_are_taken() -> None:
    answers = [part(b"ab", more=True, name=PHOTO, size=5), part(b"cd", more=True), part(b"e", more=False)]
    assert await _take(answers) == b"abcde"


@pytest.mark.parametrize(
    "answers",
    [
        [part(b"ab", more=False, name=ELSEWHERE, size=2)],
        [part(b"ab", more=False)],
        [part(b"ab", more=False, name=PHOTO, size=3)],
        [part(b"ab", more=True, name=PHOTO, size=2)],
        [part(b"ab", more=False, name=PHOTO, size=1)],
        [part(b"", more=True, name=PHOTO, size=2)],
        [part(b"ab", more=True, name=PHOTO, size=4), part(b"cd", more=False, name=PHOTO, size=4)],
        [part(b"ab", more=True, name=PHOTO, size=FILE_BYTES_MAX + 1)],
        [part(b"a" * (PART_BYTES_MAX + 1), more=False, name=PHOTO, size=PART_BYTES_MAX + 1)],
        [link_pb2.Answer(more=False)],
    ],
    ids=["another", "unnamed", "short", "no end", "long", "empty", "twice", "too large", "part too large", "nothing"],
)
async def test_a_peer_that_sends_something_else_is_not_believed(answers: list[link_pb2.Answer]) -> None:
    with pytest.raises(WrongState) as refused:
        await _take(answers)
    assert refused.value.reason == Reason.EVIDENCE_DAMAGED
