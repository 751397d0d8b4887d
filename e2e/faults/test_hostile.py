"""A peer turns hostile: it has a certificate and keys that are trusted, and tries what it may not.

Each attempt is refused with its reason and counted, leaves nothing behind, and the honest traffic goes on beside it.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from e2e.faults.conftest import Bench
from e2e.faults.federation import (
    CITY,
    DISTRICT,
    DISTRICT_ZONE,
    FIELDS_GIVEN,
    HOSTILE_ZONE,
    PRODUCT,
    exchange,
    join_child,
    offer_product,
)
from e2e.faults.impostor import Answer, Loot, call, steal
from e2e.faults.nodes import FaultNode
from libs.db import Pool
from libs.testing import eventually
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from quintet.management.v1 import facts_pb2 as management
from quintet.management.v1 import management_pb2
from quintet.sharing.v1.facts_pb2 import ProductRowsWritten
from quintet_sdk import new_request_id
from services.federation.signing import BATCH_PREFIX, BATCH_UNPACKED_BYTES_MAX, NodeSigner

HOSTILE = "sf-d6"
SEQUENCE_MAX = 2**63 - 1
QUOTA_ROWS = 5
OVERSIZE_BYTES = 5 * 1024 * 1024
ARRIVED_WITHIN_S = 120.0


@dataclass(frozen=True)
class Hostile:
    """The turned peer, and what the city knows of its charter."""

    loot: Loot
    charter: str
    agreement_hash: bytes
    # Under which it gives rows, QUOTA_ROWS a day.
    exchange: str
    exchange_hash: bytes
    city: Pool

    def envelope(self, *, zone: str = HOSTILE_ZONE, node: str = HOSTILE, contract: str = "") -> link_pb2.Envelope:
        """An event in this zone, stated in this node's name; by default all that is right."""
        name = f"zones/{zone}/events/{uuid4().hex[:12]}"
        event = management_pb2.Event(name=name, zone=zone, node=node, status="collected", revision=1, reports=1)
        data = management.EventOpened(event=event)
        fact = Fact(id=str(uuid4()), type=data.DESCRIPTOR.full_name, zone=zone, node=node, key=name)
        fact.data = data.SerializeToString()
        fact.time.GetCurrentTime()
        return link_pb2.Envelope(
            lane=link_pb2.LANE_FACTS,
            contract=contract or self.charter,
            agreement_hash=self.agreement_hash,
            fact=fact,
        )

    def rows(self, count: int) -> link_pb2.Envelope:
        """So many rows under the exchange, all new, as the contract gives them."""
        device = f"zones/{HOSTILE_ZONE}/devices/{uuid4().hex[:12]}"
        days = [(date(2026, 1, 1) + timedelta(days=index)).isoformat() for index in range(count)]
        data = ProductRowsWritten(
            product=PRODUCT,
            version=1,
            fields=list(FIELDS_GIVEN),
            rows=json.dumps([[device, day, 1.5, "Sta"] for day in days]).encode(),
            count=count,
            key_fields=["device", "day"],
        )
        fact = Fact(id=str(uuid4()), type=data.DESCRIPTOR.full_name, zone=HOSTILE_ZONE, node=HOSTILE, key=PRODUCT)
        fact.data = data.SerializeToString()
        fact.time.GetCurrentTime()
        return link_pb2.Envelope(
            lane=link_pb2.LANE_BULK, contract=self.exchange, agreement_hash=self.exchange_hash, fact=fact
        )

    async def held(self) -> int:
        """How many rows the city holds of it."""
        async with self.city.acquire() as connection:
            found: int = await connection.fetchval(
                "SELECT count(*) FROM sharing.rows WHERE contract = $1", self.exchange
            )
        return found

    async def refusals(self) -> list[str]:
        """The reasons of all refusals at the city that this peer caused, in order."""
        async with self.city.acquire() as connection:
            rows = await connection.fetch(
                "SELECT reason FROM federation.refusals WHERE actor = $1 ORDER BY id", f"nodes/{HOSTILE}"
            )
        return [row["reason"] for row in rows]

    async def arrived(self, envelope: link_pb2.Envelope) -> int:
        """How often the city's federation passed the fact on to its own bus, as its consumers know it: 0 or 1."""
        async with self.city.acquire() as connection:
            found: int = await connection.fetchval(
                "SELECT count(*) FROM management.events WHERE name = $1", envelope.fact.key
            )
        return found

    async def until_arrived(self, envelope: link_pb2.Envelope) -> None:
        """The city knows the event, once."""

        async def there() -> bool:
            return await self.arrived(envelope) == 1

        await eventually(there, within_s=ARRIVED_WITHIN_S)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hostile(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hostile]:
    """A district that joined properly, whose keys were then stolen. The honest node itself is gone."""
    folder = Path(tmp_path_factory.mktemp("hostile")) / HOSTILE
    node = FaultNode(HOSTILE, HOSTILE_ZONE, folder, bench.chance, whole=True)
    city = bench.federation.city
    await node.proxy.start()
    try:
        await node.start()
        await offer_product(node, kind="district")
        await join_child(node, city)
        exchange_name = await exchange(city, node, quota_rows_per_day=QUOTA_ROWS)
        await _until_started(city, exchange_name)
        loot = await steal(node, CITY)
        await node.stop()
        async with city.database() as database:
            async with database.acquire() as connection:
                rows = await connection.fetch(
                    "SELECT id, agreement_hash FROM federation.contracts WHERE peer = $1", HOSTILE
                )
            hashes = {f"contracts/{row['id']}": row["agreement_hash"] for row in rows}
            exchange_hash = hashes.pop(exchange_name)
            ((charter, agreement_hash),) = hashes.items()
            yield Hostile(loot, charter, agreement_hash, exchange_name, exchange_hash, database)
    finally:
        node.remove()
        await node.proxy.stop()


async def _until_started(node: FaultNode, contract: str) -> None:
    """The rows of a contract flow: what is sent under it from now on is not the beginning of its transfer."""
    async with node.client() as client:

        async def started() -> bool:
            request = pb.ListTransfersRequest(contract=contract, state=pb.TRANSFER_STATE_STARTED)
            return bool((await client.federation.ListTransfers(request)).transfers)

        await eventually(started, within_s=ARRIVED_WITHIN_S)


async def test_what_a_peer_may_say_is_taken_once_however_often_it_says_it(bench: Bench, hostile: Hostile) -> None:
    async with bench.scenario("hostile: replays") as doing:
        envelope = hostile.envelope()
        async with call(hostile.loot) as impostor:
            batch = impostor.batch([envelope])
            first = await impostor.say(batch)
            assert first == Answer(acknowledged=impostor.next())
            assert await impostor.say(batch) == first
        async with call(hostile.loot) as impostor:
            assert await impostor.say(impostor.batch([envelope], first_sequence=first.acknowledged)) == first
        await doing(bench.work())
        assert await hostile.refusals() == []
        await hostile.until_arrived(envelope)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("another zone's facts", "FIELD_NOT_IN_CONTRACT"),
        ("the city's own name", "NOT_PERMITTED"),
        ("the district's name", "FIELD_NOT_IN_CONTRACT"),
        ("no contract", "CONTRACT_NOT_ACTIVE"),
        ("another agreement", "CONTRACT_NOT_ACTIVE"),
    ],
)
async def test_what_the_charter_does_not_allow_is_refused_and_listed(
    bench: Bench, hostile: Hostile, what: str, reason: str
) -> None:
    async with bench.scenario(f"hostile: {what}") as doing:
        bad = {
            "another zone's facts": hostile.envelope(zone=DISTRICT_ZONE),
            "the city's own name": hostile.envelope(node=CITY),
            "the district's name": hostile.envelope(zone=DISTRICT_ZONE, node=DISTRICT),
            "no contract": hostile.envelope(contract="contracts/none"),
            "another agreement": hostile.envelope(),
        }[what]
        if what == "another agreement":
            bad.agreement_hash = bytes(32)
        before = await hostile.refusals()
        good = hostile.envelope()
        async with call(hostile.loot) as impostor:
            # What is refused takes its sequence; what is right behind it is applied.
            assert (await impostor.say(impostor.batch([bad, good]))).acknowledged == impostor.next() + 1
        await doing(bench.work())
        assert (await hostile.refusals())[len(before) :] == [reason]
        assert await hostile.arrived(bad) == 0
        await hostile.until_arrived(good)


async def test_a_forged_or_foreign_batch_ends_the_stream(bench: Bench, hostile: Hostile) -> None:
    async with bench.scenario("hostile: forges") as doing:
        stolen = Ed25519PrivateKey.generate()
        thief = NodeSigner(HOSTILE, lambda: stolen)
        async with call(hostile.loot) as impostor:
            forged = thief.batch(impostor.batch([hostile.envelope()]))
            forged.key_id = impostor.signer.key_id
            assert await impostor.send(link_pb2.Frame(batch=forged)) == Answer(refused="SIGNATURE_INVALID")
        for lie in ({"sender": DISTRICT}, {"receiver": DISTRICT}, {"epoch": "another"}):
            async with call(hostile.loot) as impostor:
                answer = await impostor.say(impostor.batch([hostile.envelope()], **lie))
            assert answer == Answer(refused="SIGNATURE_INVALID"), lie
        await doing(bench.work())


@pytest.mark.parametrize("first", [-1, 0, -SEQUENCE_MAX, SEQUENCE_MAX, 10_000])
async def test_a_sequence_that_does_not_follow_ends_the_stream(bench: Bench, hostile: Hostile, first: int) -> None:
    async with bench.scenario("hostile: sequences") as doing:
        async with call(hostile.loot) as impostor:
            before = impostor.next()
            answer = await impostor.say(impostor.batch([hostile.envelope()], first_sequence=first))
            # Below the present one it is something that was received long ago: acknowledged again, and nothing more.
            assert answer in {Answer(refused="SEQUENCE_GAP"), Answer(refused="FIELD_INVALID")} or (
                first < before and answer == Answer(acknowledged=before - 1)
            ), answer
        async with call(hostile.loot) as impostor:
            assert impostor.next() == before
        await doing(bench.work(rows=0))


async def test_another_life_of_the_sequences_is_not_begun(bench: Bench, hostile: Hostile) -> None:
    async with bench.scenario("hostile: another epoch") as doing:
        async with call(hostile.loot, epoch="another") as impostor:
            assert (await impostor.say(impostor.batch([hostile.envelope()]))).acknowledged == 0
        await doing(bench.work())


async def test_garbage_ends_the_stream_and_nothing_else(bench: Bench, hostile: Hostile) -> None:
    async with bench.scenario("hostile: garbage") as doing:
        noise = bytes(bench.chance.getrandbits(8) for _ in range(1_000))
        bomb = zstandard.ZstdCompressor().compress(bytes(BATCH_UNPACKED_BYTES_MAX * 4))
        for data, compressed in (
            (noise, False),
            (noise, True),
            (bomb, True),
            (bytes(OVERSIZE_BYTES), False),
            (b"", False),
        ):
            async with call(hostile.loot) as impostor:
                signature = hostile.loot.signing_key.sign(BATCH_PREFIX + data)
                signed = link_pb2.SignedBatch(
                    batch=data, key_id=impostor.signer.key_id, signature=signature, compressed=compressed
                )
                answer = await impostor.send(link_pb2.Frame(batch=signed))
            assert answer.acknowledged == 0, (len(data), answer)
        async with call(hostile.loot) as impostor:
            for chunk in (link_pb2.BatchChunk(index=7, count=3), link_pb2.BatchChunk(index=-1, count=-1, data=noise)):
                assert (await impostor.send(link_pb2.Frame(chunk=chunk))).acknowledged == 0
        await doing(bench.work())


async def test_what_cannot_be_read_inside_a_batch_is_refused_alone(bench: Bench, hostile: Hostile) -> None:
    async with bench.scenario("hostile: an envelope of noise") as doing:
        good = hostile.envelope()
        noise = bytes([0xFF] * 64)
        async with call(hostile.loot) as impostor:
            batch = impostor.batch([noise, good])
            assert (await impostor.say(batch)).acknowledged == impostor.next() + 1
        await doing(bench.work())
        await hostile.until_arrived(good)


async def test_more_than_the_credit_ends_the_stream(bench: Bench, hostile: Hostile) -> None:
    async with bench.scenario("hostile: exceeds its credit") as doing:
        async with call(hostile.loot) as impostor:
            empty = [b""] * 2_500
            answer = await impostor.say(impostor.batch(empty))
        assert answer == Answer(refused="QUOTA")
        await doing(bench.work())


async def test_more_rows_than_the_contracts_quota_are_refused(bench: Bench, hostile: Hostile) -> None:
    async with bench.scenario("hostile: exceeds its quota of rows") as doing:
        before = await hostile.refusals()
        within, beyond, rest = hostile.rows(QUOTA_ROWS - 1), hostile.rows(2), hostile.rows(1)
        async with call(hostile.loot) as impostor:
            first = impostor.next(link_pb2.LANE_BULK)
            batch = impostor.batch([within, beyond, rest, beyond], lane=link_pb2.LANE_BULK, first_sequence=first)
            assert (await impostor.say(batch)).acknowledged == first + 3
        await doing(bench.work())
        assert (await hostile.refusals())[len(before) :] == ["QUOTA", "QUOTA"]

        async def there() -> bool:
            return await hostile.held() >= QUOTA_ROWS

        await eventually(there, within_s=ARRIVED_WITHIN_S)
        assert await hostile.held() == QUOTA_ROWS


async def test_a_terminated_contract_carries_nothing(bench: Bench, hostile: Hostile) -> None:
    async with bench.scenario("hostile: a terminated contract") as doing:
        async with bench.federation.city.client() as client:
            request = pb.TerminateContractRequest(
                name=hostile.charter, reason="its keys were stolen", request_id=new_request_id()
            )
            await client.federation.TerminateContract(request)
        before = await hostile.refusals()
        late = hostile.envelope()
        async with call(hostile.loot) as impostor:
            assert (await impostor.say(impostor.batch([late]))).acknowledged == impostor.next()
        await doing(bench.work())
        assert (await hostile.refusals())[len(before) :] == ["CONTRACT_NOT_ACTIVE"]
        assert await hostile.arrived(late) == 0
