"""The disk of the receiver is full: the node says so, refuses what it cannot keep, goes on when there is room again."""

import asyncio
from contextlib import ExitStack

import httpx
import pytest

from e2e.faults.conftest import Bench
from e2e.faults.disk import can_mount, small_disk
from e2e.faults.nodes import FaultNode
from libs.testing import eventually

FULL_S = 5.0
SAID_WITHIN_S = 180.0


@pytest.mark.skipif(not can_mount(), reason="a small disk has to be mounted: run as root")
@pytest.mark.parametrize("server", ["PostgreSQL", "NATS"])
async def test_the_receivers_disk_is_full(bench: Bench, server: str) -> None:
    city = bench.federation.city
    async with bench.scenario(f"disk of {server} full at the city") as doing:
        await city.stop()
        with ExitStack() as stack:
            disk = stack.enter_context(small_disk(city.nats_data if server == "NATS" else city.postgres_data))
            try:
                await city.start_again()
                disk.fill()
                working = asyncio.create_task(bench.work(events=40, numbers=20, seconds=FULL_S))
                detail = await _said(city)
                assert detail.startswith(f"the disk of {server} is full")
                await asyncio.sleep(FULL_S)
                disk.clear()
                await doing(working)
                await city.ready()
                verdict = await bench.reconciler.settle(bench.everything)
                assert verdict.ok, verdict
            finally:
                disk.clear()
                await city.stop()
        await city.start_again()


async def _said(node: FaultNode) -> str:
    """What the node answers to who asks whether it is ready, once it says that its disk is not."""
    detail = ""

    async def said() -> bool:
        nonlocal detail
        try:
            async with node.process.client() as client:
                answer = await client.get("/readyz")
        except httpx.TransportError:
            return False
        disk = answer.json()["parts"]["disk"]
        detail = disk["detail"]
        return answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and not disk["ready"]

    await eventually(said, within_s=SAID_WITHIN_S)
    return detail
