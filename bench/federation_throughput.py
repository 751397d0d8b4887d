"""Facts per second from the district to the city, beside plain COPY of the same rows between the two databases."""

from __future__ import annotations

import asyncio
import io
from time import perf_counter
from typing import TYPE_CHECKING

from bench.pair import Pair, pair, warnings
from bench.record import RUNS, Measured, middle, rounded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from quintet.fact.v1.fact_pb2 import Fact

FACTS_PER_RUN = 20_000
# As many as a busy service writes in one transaction; the next is written while these are on their way.
FACTS_PER_WRITE = 200
# The writer keeps ahead of the relay by this much at most, as a service that watches its outbox does.
WRITE_PAUSE_S = 0.005
POLL_S = 0.05
LIMIT_PER_S = 2_000.0


async def run(folder: Path) -> Measured:
    async with pair(folder) as both:
        await _facts_per_s(both, FACTS_PER_RUN // 4)
        runs = [await _facts_per_s(both, FACTS_PER_RUN) for _ in range(RUNS)]
        copied = [await _copied_per_s(both, warnings(FACTS_PER_RUN)) for _ in range(RUNS)]
    value, copy = middle(runs), middle(copied)
    details = {
        "ratio_of": "value / rows per second by plain COPY",
        "copy_per_s": rounded(copy),
        "runs": [rounded(each) for each in runs],
        "facts_per_run": FACTS_PER_RUN,
    }
    return Measured("federation_throughput", value, "facts/s", LIMIT_PER_S, "higher", value / copy, details)


async def _facts_per_s(both: Pair, count: int) -> float:
    facts = warnings(count)
    started = perf_counter()
    writing = asyncio.create_task(_write(both, facts))
    ended = await both.until_all_applied(facts, poll_s=POLL_S)
    await writing
    return count / (ended - started)


async def _write(both: Pair, facts: Sequence[Fact]) -> None:
    for start in range(0, len(facts), FACTS_PER_WRITE):
        await both.write(facts[start : start + FACTS_PER_WRITE])
        await asyncio.sleep(WRITE_PAUSE_S)


async def _copied_per_s(both: Pair, facts: Sequence[Fact]) -> float:
    """The same bytes, unsigned and unchecked, from a table of the one database to a table of the other."""
    columns = "CREATE TABLE bench_copied (id uuid, key text, fact bytea)"
    rows = [(fact.id, fact.key, fact.SerializeToString()) for fact in facts]
    async with both.district.database.acquire() as source, both.city.database.acquire() as target:
        for conn in (source, target):
            await conn.execute(columns)
        await source.copy_records_to_table("bench_copied", records=rows)
        buffer = io.BytesIO()
        started = perf_counter()
        await source.copy_from_table("bench_copied", output=buffer, format="binary")
        buffer.seek(0)
        await target.copy_to_table("bench_copied", source=buffer, format="binary")
        took_s = perf_counter() - started
        for conn in (source, target):
            await conn.execute("DROP TABLE bench_copied")
    return len(facts) / took_s
