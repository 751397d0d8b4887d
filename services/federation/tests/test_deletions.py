"""A consumer proves to the provider what it has deleted."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from libs.errors import Forbidden, Invalid, NotFound
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import control, trust_store
from services.federation.signing import open_deletion
from services.federation.tests.asking import CONTRACT, Exchange, exchange
from services.federation.tests.deleting import deleted, deletions, given, listed, prove, sent, take
from services.federation.tests.world import Node, World


@pytest_asyncio.fixture
async def joined(made: World) -> AsyncIterator[Exchange]:
    async with AsyncExitStack() as stack:
        yield await exchange(made, stack, rows=0)


async def proofs(node: Node) -> list[tuple[str, int, str]]:
    return [(one.node, one.rows, one.reason) for one in await listed(node)]


async def test_a_deletion_is_proved_once_and_kept_at_both_ends(joined: Exchange) -> None:
    day = await given(joined, "2026-01-05", 3)
    fact = deleted(rows=3, days=[day])
    await prove(joined.consumer, fact)
    await prove(joined.consumer, fact)
    (envelope,) = await sent(joined.consumer)
    assert envelope.lane == link_pb2.LANE_CONTROL
    await take(joined.provider, envelope)
    await take(joined.provider, envelope)
    assert await proofs(joined.consumer) == await proofs(joined.provider) == [("sf", 3, "TERMINATED")]
    (kept,) = await listed(joined.provider)
    signed = link_pb2.SignedDeletionProof(proof=kept.proof, key_id=kept.key_id, signature=kept.signature)
    ring = await joined.provider.transactions.read(lambda conn: trust_store.ring(conn, "sf"))
    assert open_deletion(signed, ring.ever(kept.key_id)).days == [day]  # who reads the list can verify it
    assert [actor for actor, _ in await joined.audited(joined.provider, "federation.deletions.take")]


async def test_the_newest_comes_first_page_by_page(joined: Exchange) -> None:
    for rows in (1, 2):
        await prove(joined.consumer, deleted(rows=rows))
    request = pb.ListDeletionProofsRequest(contract=CONTRACT, page_size=1)
    first = await deletions(joined.consumer).page(request)
    request.page_token = first.next_page_token
    second = await deletions(joined.consumer).page(request)
    assert [page.proofs[0].rows for page in (first, second)] == [2, 1]
    assert second.next_page_token == ""


async def test_what_is_not_the_consumers_word_is_refused(joined: Exchange) -> None:
    await prove(joined.consumer, deleted())
    (envelope,) = await sent(joined.consumer)
    forged = link_pb2.Envelope()
    forged.CopyFrom(envelope)
    proof = link_pb2.DeletionProof.FromString(envelope.deletion_proof.proof)
    proof.rows = 1_000
    forged.deletion_proof.proof = proof.SerializeToString()
    with pytest.raises(Forbidden):
        await take(joined.provider, forged)
    signer = joined.consumer.signer
    day = {"contract": CONTRACT, "day": "2026-01-05", "facts": 1, "rows": 1, "digest": bytes(32)}
    wrong: list[dict[str, Any]] = [{"node": "beijing"}, {"contract": "contracts/none"}, {"id": "1"}, {"rows": -1}]
    wrong += [{"days": [day | more]} for more in ({"day": "never"}, {"digest": b""}, {"facts": 0}, {"contract": "c"})]
    for changes in [*wrong, {"days": [day, day]}, {"days": [day] * 1_001}]:
        other = link_pb2.DeletionProof.FromString(envelope.deletion_proof.proof)
        for name in changes:
            other.ClearField(name)  # type: ignore[arg-type]  # the stubs know the names of fields only
        other.MergeFrom(link_pb2.DeletionProof(**changes))
        signed = link_pb2.Envelope.FromString(control.control_envelope(deletion_proof=signer.deletion(other)))
        with pytest.raises((Forbidden, Invalid, NotFound)):
            await take(joined.provider, signed)
    assert await proofs(joined.provider) == []


async def test_only_the_consumer_proves_and_only_what_its_own_sharing_states(joined: Exchange) -> None:
    elsewhere = deleted()
    elsewhere.received_from = "beijing"
    await prove(joined.consumer, elsewhere)
    await prove(joined.consumer, deleted(contract="contracts/unknown"))
    own = deleted()
    own.node = "beijing"
    await prove(joined.provider, own)
    assert await sent(joined.consumer) == await sent(joined.provider) == []
