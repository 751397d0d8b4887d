"""The links are bad: cut, slow, lying. What is stated meanwhile arrives once, in order."""

import asyncio

import pytest

from e2e.faults.conftest import Bench
from e2e.faults.proxy import Bad

CUT_S = 3.0
# Longer than the link's own limit for silence: it gives the stream up, and dials again.
SILENT_S = 25.0
BAD_S = 4.0


async def test_nothing_is_wrong(bench: Bench) -> None:
    async with bench.scenario("no fault") as doing:
        await doing(bench.work())


@pytest.mark.parametrize("direction", ["up", "down", "both"])
async def test_the_link_is_cut_for_a_while(bench: Bench, direction: str) -> None:
    async with bench.scenario(f"link cut {direction} for {CUT_S:g} s") as doing:
        proxy = bench.federation.city.proxy
        for way in ("up", "down") if direction == "both" else (direction,):
            getattr(proxy, way).cut()
        await doing(bench.work())
        await asyncio.sleep(CUT_S)
        proxy.mend()
        await doing(bench.work())


async def test_the_link_is_cut_until_both_ends_give_it_up(bench: Bench) -> None:
    async with bench.scenario(f"link cut for {SILENT_S:g} s") as doing:
        bench.federation.city.proxy.cut()
        await doing(bench.work(seconds=SILENT_S))


async def test_connections_are_reset_and_refused(bench: Bench) -> None:
    async with bench.scenario("link reset, then refused") as doing:
        bench.federation.city.proxy.refuse()
        bench.federation.partner.proxy.refuse()
        await doing(bench.work(seconds=CUT_S))


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("delays", Bad(delay_s=0.05)),
        ("throttles", Bad(bytes_per_s=40_000)),
        ("duplicates", Bad(duplicate=0.1)),
        ("reorders", Bad(reorder=0.1)),
        ("flips bits", Bad(flip=0.1)),
        ("truncates", Bad(truncate=0.1)),
        ("does all of it", Bad(0.01, 200_000, 0.03, 0.03, 0.03, 0.03)),
    ],
)
async def test_the_link_spoils_what_passes(bench: Bench, name: str, bad: Bad) -> None:
    async with bench.scenario(f"link {name}") as doing:
        for node in bench.federation.nodes:
            node.proxy.up.spoilt = node.proxy.down.spoilt = 0
            node.proxy.up.bad = node.proxy.down.bad = bad
        await doing(bench.work(seconds=BAD_S))
        proxy = bench.federation.city.proxy
        slow_only = bool(bad.delay_s or bad.bytes_per_s)
        assert slow_only or proxy.up.spoilt + proxy.down.spoilt > 0
