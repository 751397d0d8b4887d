"""50,000 facts wait at the district while the city is away: from the link being up to the first and to the last."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING

from bench.pair import CITY, Pair, pair, warnings
from bench.record import RUNS, Measured, middle, rounded
from libs.testing import eventually

if TYPE_CHECKING:
    from pathlib import Path


FACTS = 50_000
FACTS_PER_WRITE = 1_000
QUEUED_TIMEOUT_S = 300.0
APPLIED_TIMEOUT_S = 300.0
LINK_POLL_S = 0.002
FIRST_POLL_S = 0.005
LAST_POLL_S = 0.1
FIRST_LIMIT_S = 1.0
LAST_LIMIT_S = 30.0
UP = "link.up"


async def run(folder: Path) -> Measured:
    async with pair(folder) as both:
        runs = [await _catch_up(both) for _ in range(RUNS)]
    first, last = (middle([each[place] for each in runs]) for place in (0, 1))
    details = {
        "first": rounded(first),
        "first_limit": FIRST_LIMIT_S,
        "first_met": first <= FIRST_LIMIT_S,
        "runs_first": [rounded(each[0]) for each in runs],
        "runs_last": [rounded(each[1]) for each in runs],
        "facts": FACTS,
        "facts_per_s": rounded(FACTS / last),
    }
    return Measured("federation_catchup", last, "s", LAST_LIMIT_S, "lower", last / LAST_LIMIT_S, details)


async def _catch_up(both: Pair) -> tuple[float, float]:
    """Return seconds from the link being up to the first and to the last fact applied."""
    await both.city.stop()
    facts = warnings(FACTS)
    for start in range(0, FACTS, FACTS_PER_WRITE):
        await both.write(facts[start : start + FACTS_PER_WRITE])
    await eventually(lambda: _all_queued(both), within_s=QUEUED_TIMEOUT_S)
    before = both.district.process.log.count(UP)
    starting = asyncio.create_task(both.city.start())
    while both.district.process.log.count(UP) == before:  # noqa: ASYNC110 - the event is in another process
        await asyncio.sleep(LINK_POLL_S)
    up = perf_counter()
    await starting
    first = await both.until_applied(facts[:1], poll_s=FIRST_POLL_S, within_s=APPLIED_TIMEOUT_S)
    last = await both.until_all_applied(facts, poll_s=LAST_POLL_S, within_s=APPLIED_TIMEOUT_S)
    return first - up, last - up


async def _all_queued(both: Pair) -> bool:
    query = "SELECT sum(last_assigned - acknowledged) FROM federation.peer_lanes WHERE peer = $1"
    async with both.district.database.acquire() as conn:
        return int(await conn.fetchval(query, CITY) or 0) >= FACTS
