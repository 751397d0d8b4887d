"""The reconciliation itself: it would notice. The ledger is made to claim what did not happen, or less than did."""

from copy import deepcopy

from e2e.faults.conftest import Bench


async def test_what_differs_from_the_ledger_is_noticed(bench: Bench) -> None:
    honest = await bench.work()
    verdict = await bench.reconciler.settle(honest)
    assert verdict.ok, verdict
    assert verdict.applied == verdict.sent == honest.facts > 0

    more, fewer, other, filed, doubled = (deepcopy(honest) for _ in range(5))
    event = next(iter(honest.events))
    more.events[event] += 1
    fewer.events[event] -= 1
    row = next(iter(honest.rows))
    mean, station = honest.rows[row]
    other.rows[row] = (mean + 1, station)
    filed.requests.append(f"{honest.requests[0]}-another")
    assert (await bench.reconciler.compare(more)).lost == 1
    assert not (await bench.reconciler.compare(fewer)).ok
    assert (await bench.reconciler.compare(other)).lost == 2  # a row is stated twice
    assert (await bench.reconciler.compare(filed)).lost == 1
    doubled.requests.append(honest.requests[0])
    assert (await bench.reconciler.compare(doubled)).doubled > 0
