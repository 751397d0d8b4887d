"""Finding what a new report is of among a hundred thousand open events, through the public API of one node."""

from __future__ import annotations

import random
from time import perf_counter
from typing import TYPE_CHECKING

from bench.pair import CONFIG, BenchNode
from bench.record import RUNS, Measured, middle, percentile, rounded
from bench.stored_events import PHRASES, store_events
from deploy.testing import NodeProcess, write_node_toml
from quintet.common.v1.common_pb2 import LocalText, Place, Point
from quintet.identity.v1 import directory_pb2 as directory
from quintet.management.v1 import management_pb2, merging_pb2

if TYPE_CHECKING:
    from pathlib import Path

    from quintet_sdk import Client

EVENTS = 100_000
REPORTS_PER_RUN = 500
WARM_UP_REPORTS = 100
P99_LIMIT_MS = 30.0
CITY = "us-ca-sf"
TYPES = 30
SEED = 20261122


async def run(folder: Path) -> Measured:
    home = folder / "sf"
    home.mkdir()
    write_node_toml(home, extra=CONFIG, id="sf", name="sf", zone=CITY)
    node = BenchNode("sf", CITY, NodeProcess(home))
    try:
        await node.start()
        async with node.client() as client:
            await _declare(client)
            await store_events(node, [CITY], EVENTS, open_share=1.0)
            reports = _reports(await _places(node), WARM_UP_REPORTS + RUNS * REPORTS_PER_RUN)
            await _times_ms(client, reports[:WARM_UP_REPORTS])
            asked = reports[WARM_UP_REPORTS:]
            runs = [
                await _times_ms(client, asked[place : place + REPORTS_PER_RUN])
                for place in range(0, len(asked), REPORTS_PER_RUN)
            ]
    finally:
        await node.stop()
        node.process.remove()
    p99 = middle([percentile([ms for ms, _, _ in each], 99) for each in runs])
    every = [found for each in runs for found in each]
    details = {
        "p50_ms": rounded(middle([percentile([ms for ms, _, _ in each], 50) for each in runs])),
        "p99_runs_ms": [rounded(percentile([ms for ms, _, _ in each], 99)) for each in runs],
        "open_events": EVENTS,
        "with_matches": rounded(sum(bool(merged) for _, merged, _ in every) / len(every)),
        "with_suggestions": rounded(sum(bool(suggested) for _, _, suggested in every) / len(every)),
        "reports_per_run": REPORTS_PER_RUN,
    }
    return Measured("merge_candidates", p99, "ms", P99_LIMIT_MS, "lower", p99 / P99_LIMIT_MS, details)


async def _times_ms(client: Client, reports: list[merging_pb2.FindDuplicatesRequest]) -> list[tuple[float, int, int]]:
    """Ask about reports one after the other; return how long each took, and how many were found of both kinds."""
    found = []
    for report in reports:
        started = perf_counter()
        answer = await client.merging.FindDuplicates(report)
        found.append(((perf_counter() - started) * 1000, len(answer.merged), len(answer.suggested)))
    return found


async def _declare(client: Client) -> None:
    zone = directory.Zone(name=f"zones/{CITY}", kind=directory.ZONE_KIND_CITY, title=LocalText(en=CITY, zh=CITY))
    await client.directory.PutZone(directory.PutZoneRequest(zone=zone))
    for kind in range(TYPES):
        event_type = management_pb2.EventType(
            name=f"eventTypes/bench-{kind}",
            title=LocalText(en=f"Bench {kind}", zh=f"测试 {kind}"),
            deadline=management_pb2.Allowance(minutes=2880),
            merge=management_pb2.MergePolicy(radius_m=60, window_h=168),
        )
        await client.management.PutEventType(management_pb2.PutEventTypeRequest(event_type=event_type))


async def _places(node: BenchNode) -> list[tuple[float, float]]:
    """Return places where things happen: those of stored events."""
    async with node.database.acquire() as conn:
        rows = await conn.fetch("SELECT latitude, longitude FROM management.events ORDER BY id DESC LIMIT 5000")
    return [(row["latitude"], row["longitude"]) for row in rows]


def _reports(places: list[tuple[float, float]], count: int) -> list[merging_pb2.FindDuplicatesRequest]:
    """Return reports that differ in type, place and words, each of about the length of what people write."""
    chance = random.Random(SEED)  # noqa: S311 - the same reports each time
    found = []
    for number in range(count):
        latitude, longitude = chance.choice(places)
        words = ", ".join(chance.sample(PHRASES, 3))
        place = Place(
            address=f"{number} elsewhere",
            point=Point(latitude=latitude + chance.gauss(0, 0.0005), longitude=longitude + chance.gauss(0, 0.0005)),
        )
        kind = int(chance.random() ** 2 * TYPES)
        found.append(
            merging_pb2.FindDuplicatesRequest(
                parent=f"zones/{CITY}", type=f"eventTypes/bench-{kind}", description=f"{words} {number}", place=place
            )
        )
    return found
