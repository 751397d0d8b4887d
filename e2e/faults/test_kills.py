"""Every process of a node is killed (SIGKILL) at a random moment of the work, and started again by its keeper."""

import asyncio
from time import monotonic

import pytest

from e2e.faults.conftest import Bench
from e2e.faults.federation import CITY, DISTRICT, PARTNER

WORK_S = 2.0


@pytest.mark.parametrize("name", [CITY, DISTRICT, PARTNER])
async def test_each_process_of_a_node_is_killed(bench: Bench, name: str) -> None:
    node = bench.federation.node(name)
    for victim in node.victims:
        started = monotonic()

        async def strike(victim: str = victim) -> None:
            await asyncio.sleep(bench.chance.uniform(0, WORK_S))
            node.kill(victim)

        ledger, _ = await asyncio.gather(bench.work(seconds=WORK_S), strike())
        verdict = await bench.reconciler.settle(ledger)
        await node.ready()
        bench.report.add(f"kill {victim} of {name}", verdict, monotonic() - started)
        assert verdict.ok, (victim, verdict)
    verdict = await bench.reconciler.compare_all(bench.everything)
    assert verdict.ok, verdict
