"""The reconciliation itself: it would notice. The ledger is made to claim what did not happen, or less than did."""

from copy import deepcopy
from dataclasses import replace

from e2e.faults.conftest import Bench
from e2e.faults.ledger import DIRECTIVE_FACTS, KINDS, ROW_REVISIONS


async def test_what_differs_from_the_ledger_is_noticed(bench: Bench) -> None:
    honest = await bench.work()
    verdict = await bench.reconciler.settle(honest)
    assert verdict.ok, verdict
    assert set(verdict.kinds) == set(KINDS)
    assert all(tally.applied == tally.sent == honest.sent[kind] > 0 for kind, tally in verdict.kinds.items())

    more, fewer, other, filed, doubled, directed, retitled, held = (deepcopy(honest) for _ in range(8))
    event = next(iter(honest.events))
    more.events[event] += 1
    fewer.events[event] -= 1
    row = next(iter(honest.rows))
    mean, station = honest.rows[row]
    other.rows[row] = (mean + 1, station)
    filed.requests.append(f"{honest.requests[0]}-another")
    directed.directives["directives/another"] = "Another"
    retitled.directives[next(iter(honest.directives))] = "Another"
    held.steps.append(replace(honest.steps[0], nth=honest.steps[0].nth + 1))
    lost = bench.reconciler.compare
    assert (await lost(more)).total.lost == 1
    assert not (await lost(fewer)).ok
    assert (await lost(other)).total.lost == ROW_REVISIONS
    assert (await lost(filed)).total.lost == 1
    assert (await lost(directed)).total.lost == (await lost(retitled)).total.lost == DIRECTIVE_FACTS
    doubled.requests.append(honest.requests[0])
    assert (await lost(doubled)).total.doubled > 0
    assert (await lost(held)).total.lost == 1
