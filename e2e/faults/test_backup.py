"""A node is restored from an older backup: what its peers know better is noticed, and healed or stopped with an alarm.

What a restored node itself did in the lost time is gone there, as with any backup; what its peers hold of it stays, and
what they sent it since then is sent again. Nothing is silently wrong.
"""

import pytest

from e2e.faults.conftest import Bench
from e2e.faults.federation import CITY, DISTRICT
from e2e.faults.nodes import FaultNode
from libs.testing import eventually
from quintet.federation.v1 import federation_pb2 as pb
from quintet_sdk import QuintetError, new_request_id

NOTICED_WITHIN_S = 180.0
REVERSED = "SEQUENCE_REVERSED"


@pytest.mark.parametrize("name", [CITY, DISTRICT])
async def test_a_node_is_restored_from_an_older_backup(bench: Bench, name: str) -> None:
    node = bench.federation.node(name)
    async with bench.scenario(f"{name} restored from an older backup") as doing:
        await node.stop()
        backup = node.back_up()
        await node.start_again()
        # Nothing that the restored node itself began: it would have forgotten that, and nobody could know better.
        await doing(bench.work(requests=0, directives=0, transfers=0))
        verdict = await bench.reconciler.settle(bench.everything)
        assert verdict.ok, verdict
        await node.stop()
        node.restore(backup)
        await node.start_again()
        for other in bench.federation.nodes:
            if node.id != other.id and CITY in {node.id, other.id}:
                await _healed_or_resynchronised(node, other)
        verdict = await bench.reconciler.settle(bench.everything)
        assert verdict.ok, verdict
        # In the lost time only one side counted.
        await bench.reconciler.accept_counts()
        await doing(bench.work())


async def _healed_or_resynchronised(node: FaultNode, other: FaultNode) -> None:
    """The peers speak again: by themselves, or, when one said why they cannot, once an operator has decided."""
    async with node.client() as restored, other.client() as whole:

        async def state() -> str:
            try:
                here = (await restored.federation.GetPeer(pb.GetPeerRequest(name=f"peers/{other.id}"))).peer
                there = (await whole.federation.GetPeer(pb.GetPeerRequest(name=f"peers/{node.id}"))).peer
            except QuintetError as error:
                if error.retryable:
                    return ""
                raise
            if any(alarm == REVERSED for alarm in (*here.alarms, *there.alarms)):
                return REVERSED
            return "linked" if here.connected and there.connected else ""

        if await eventually(state, within_s=NOTICED_WITHIN_S) == REVERSED:
            request = pb.ResynchronisePeerRequest(
                name=f"peers/{other.id}", reason="restored from a backup", request_id=new_request_id()
            )
            await restored.federation.ResynchronisePeer(request)

            async def linked() -> bool:
                return await state() == "linked"

            await eventually(linked, within_s=NOTICED_WITHIN_S)
