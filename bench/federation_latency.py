"""From the commit of a fact at the district to the commit of its effect at the city, one fact at a time."""

from __future__ import annotations

import asyncio
import random
from time import perf_counter
from typing import TYPE_CHECKING

from bench.pair import Pair, pair, warnings
from bench.record import RUNS, Measured, middle, percentile, rounded

if TYPE_CHECKING:
    from pathlib import Path

FACTS_PER_RUN = 200
WARM_UP_FACTS = 50
# Between two facts, so that none finds the way warm from the one before; by chance, so that none falls in step.
PAUSE_S = (0.01, 0.05)
P50_LIMIT_MS = 10.0
P99_LIMIT_MS = 40.0


async def run(folder: Path) -> Measured:
    async with pair(folder) as both:
        await _latencies_ms(both, WARM_UP_FACTS)
        runs = [await _latencies_ms(both, FACTS_PER_RUN) for _ in range(RUNS)]
    p50 = middle([percentile(each, 50) for each in runs])
    p99 = middle([percentile(each, 99) for each in runs])
    details = {
        "p99": rounded(p99),
        "p99_limit": P99_LIMIT_MS,
        "p99_met": p99 <= P99_LIMIT_MS,
        "runs_p50": [rounded(percentile(each, 50)) for each in runs],
        "runs_p99": [rounded(percentile(each, 99)) for each in runs],
        "facts_per_run": FACTS_PER_RUN,
    }
    return Measured("federation_latency", p50, "ms", P50_LIMIT_MS, "lower", p50 / P50_LIMIT_MS, details)


async def _latencies_ms(both: Pair, count: int) -> list[float]:
    found = []
    async with both.watched() as until:
        for fact in warnings(count):
            await asyncio.sleep(random.uniform(*PAUSE_S))  # noqa: S311 - nothing to guess
            await both.write([fact])
            written = perf_counter()
            found.append((await until(fact) - written) * 1000)
    return found
