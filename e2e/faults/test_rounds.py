"""Random faults, round after round: FAULTS_ROUNDS of them, or as many as FAULTS_MINUTES allow.

Each round prints its seed; FAULTS_ROUND=<seed> runs that one alone, as often as FAULTS_ROUNDS says.
"""

import os
import random
from time import monotonic

from e2e.faults.conftest import Bench
from e2e.faults.rounds import run_round

ROUNDS = int(os.environ.get("FAULTS_ROUNDS") or 200)
MINUTES = float(os.environ.get("FAULTS_MINUTES") or 10)
# So often everything that was ever done is reconciled, with the totals and the audit chains.
WHOLE_EVERY_ROUNDS = 50
SEED_MAX = 10**9


async def test_random_faults(bench: Bench) -> None:
    seeds = random.Random(bench.report.seed)
    only = os.environ.get("FAULTS_ROUND")
    until = monotonic() + MINUTES * 60
    done = 0
    while done < ROUNDS and monotonic() < until:
        seed = int(only) if only else seeds.randrange(SEED_MAX)
        found = await run_round(bench, seed)
        done += 1
        print(
            f"round {done} FAULTS_ROUND={seed}: {', '.join(found.struck)}: {found.verdict.total.applied} of"
            f" {found.verdict.total.sent} applied in {found.seconds:.1f} s, settled in {found.settled_s:.1f} s",
            flush=True,
        )
        bench.report.add(
            f"random: {found.struck[0].partition(' at ')[0].partition(' of ')[0]}", found.verdict, found.seconds
        )
        assert found.verdict.ok, f"FAULTS_ROUND={seed} ({', '.join(found.struck)}): {found.verdict}"
        if done % WHOLE_EVERY_ROUNDS == 0:
            verdict = await bench.reconciler.compare_all(bench.everything)
            assert verdict.ok, f"after {done} rounds of FAULTS_SEED={bench.report.seed}: {verdict}"
    verdict = await bench.reconciler.compare_all(bench.everything)
    assert verdict.ok, f"after {done} rounds of FAULTS_SEED={bench.report.seed}: {verdict}"
