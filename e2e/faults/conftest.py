"""One federation for all scenarios of a run, and the report at its end.

FAULTS_SEED replays a run: everything random comes from it.
"""

import os
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import pytest
import pytest_asyncio

from e2e.faults.federation import Federation, run_federation
from e2e.faults.ledger import Ledger
from e2e.faults.reconcile import Reconciler, open_reconciler
from e2e.faults.report import Report
from e2e.faults.workload import Workload, run_workload

TEST_TIMEOUT_S = 1_800
HERE = Path(__file__).parent
# What a stretch of work is when nothing else is said; see Workload.stretch.
WORK: dict[str, float] = {"events": 10, "numbers": 10, "rows": 20, "requests": 5, "directives": 2, "transfers": 1}
_REPORT = pytest.StashKey[Report]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_REPORT] = Report(int(os.environ.get("FAULTS_SEED") or secrets.randbelow(10**9)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The nodes and the proxies between them live in the loop of the session."""
    for item in items:
        if Path(item.path).is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_S, func_only=False), append=False)
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    report = config.stash[_REPORT]
    if report.lines:
        report.write()
        terminalreporter.section(f"faults (FAULTS_SEED={report.seed})")
        for line in report.table():
            terminalreporter.line(line)


@dataclass
class Bench:
    """What a scenario works with: the nodes, work to do on them, and the reconciliation afterwards."""

    federation: Federation
    workload: Workload
    reconciler: Reconciler
    report: Report
    chance: random.Random
    everything: Ledger = field(default_factory=Ledger)

    async def work(self, **amounts: float) -> Ledger:
        """A stretch of work; see Workload.stretch. What it committed is expected of every later reconciliation."""
        amounts = WORK | amounts
        ledger = await self.workload.stretch(**amounts)  # type: ignore[arg-type]  # counts are whole, seconds need not be
        self.everything.add(ledger)
        return ledger

    @asynccontextmanager
    async def scenario(self, name: str) -> AsyncIterator[Callable[[Awaitable[Ledger]], Awaitable[None]]]:
        """One scenario: work is given to what the block gets; at its end the network is mended, and all reconciled."""
        started = monotonic()
        ledger = Ledger()

        async def took(work: Awaitable[Ledger]) -> None:
            ledger.add(await work)

        try:
            yield took
        finally:
            self.federation.mend()
        verdict = await self.reconciler.compare_all(self.everything)
        # Once more by settling: what the nodes do by themselves, such as a renewal, may be on its way just now.
        own = await self.reconciler.settle(ledger)
        self.report.add(name, own, monotonic() - started)
        assert verdict.ok, verdict
        assert own.ok, own


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Report:
    return pytestconfig.stash[_REPORT]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def bench(tmp_path_factory: pytest.TempPathFactory, report: Report) -> AsyncIterator[Bench]:
    """The federation, up and joined, idle, with good networks."""
    chance = random.Random(report.seed)
    async with (
        run_federation(tmp_path_factory.mktemp("faults"), chance) as federation,
        run_workload(federation, chance) as workload,
        open_reconciler(federation) as reconciler,
    ):
        yield Bench(federation, workload, reconciler, report, chance)
