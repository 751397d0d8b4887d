"""Randomised rounds: each draws faults by its seed, lets some work run into them, and reconciles that work.

A round's seed decides which faults, when and how; what the machine makes of them is its own. The nodes run on.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from time import monotonic

from e2e.faults.conftest import Bench
from e2e.faults.federation import Federation
from e2e.faults.nodes import FEDERATION, SUPERVISOR
from e2e.faults.proxy import Bad, Proxy
from e2e.faults.verdict import Verdict

FAULT_S_MIN, FAULT_S_MAX = 0.2, 1.2
WORK_S = 0.8
# One round in so many has a second fault at the same time.
SECOND_FAULT_SHARE = 0.25
EVENTS, NUMBERS, ROWS, REQUESTS, DIRECTIVES = 12, 12, 20, 3, 1
# One round in so many holds the transfer, or asks for all rows anew.
TRANSFER_SHARE = 0.3
# What is killed of a node at the same time as something of its peer; in one process all services die together.
BOTH_ENDS = (FEDERATION, "postgres", "nats-server")
BOTH_ENDS_WHOLE = (SUPERVISOR, "postgres", "nats-server")

Strike = Callable[[Federation, random.Random], Coroutine[None, None, str]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault. weight is how often it is drawn, beside the others'; strike does it and says to whom."""

    name: str
    weight: int
    strike: Strike


async def _while(chance: random.Random, begin: Callable[[], None], end: Callable[[], None]) -> None:
    begin()
    try:
        await asyncio.sleep(chance.uniform(FAULT_S_MIN, FAULT_S_MAX))
    finally:
        end()


def _proxy(federation: Federation, chance: random.Random) -> tuple[str, Proxy]:
    """A link port: the city's, which the district calls, more often than the partner's, which the city calls."""
    node = chance.choice([federation.city, federation.city, federation.partner])
    return node.id, node.proxy


async def _cut(federation: Federation, chance: random.Random) -> str:
    name, proxy = _proxy(federation, chance)
    which = chance.choice(["up", "down", "both"])
    ways = [proxy.up, proxy.down] if which == "both" else [getattr(proxy, which)]

    def cut() -> None:
        for way in ways:
            way.cut()

    await _while(chance, cut, proxy.mend)
    return f"{which} at {name}"


async def _refuse(federation: Federation, chance: random.Random) -> str:
    name, proxy = _proxy(federation, chance)
    await _while(chance, proxy.refuse, proxy.mend)
    return f"at {name}"


async def _reset(federation: Federation, chance: random.Random) -> str:
    name, proxy = _proxy(federation, chance)
    await asyncio.sleep(chance.uniform(0, WORK_S))
    proxy.reset()
    return f"at {name}"


def _spoil(**most: float) -> Strike:
    async def strike(federation: Federation, chance: random.Random) -> str:
        name, proxy = _proxy(federation, chance)
        bad = Bad(**{what: share * chance.uniform(0.2, 1) for what, share in most.items()})

        def begin() -> None:
            proxy.up.bad = proxy.down.bad = bad

        await _while(chance, begin, proxy.mend)
        return f"at {name}"

    return strike


def _kill(*victims: str) -> Strike:
    async def strike(federation: Federation, chance: random.Random) -> str:
        node = chance.choice([node for node in federation.nodes if set(victims) & set(node.victims)])
        victim = chance.choice([victim for victim in victims if victim in node.victims])
        await asyncio.sleep(chance.uniform(0, WORK_S))
        node.kill(victim)
        return f"{victim} of {node.id}"

    return strike


async def _kill_both_ends(federation: Federation, chance: random.Random) -> str:
    """One process of each end of a link, at the same moment: neither finds the other where it left it."""
    one, other = chance.choice([
        (federation.city, federation.district),
        (federation.city, federation.partner),
    ])  # fmt: skip
    victims = [(node, chance.choice(BOTH_ENDS_WHOLE if node.whole else BOTH_ENDS)) for node in (one, other)]
    await asyncio.sleep(chance.uniform(0, WORK_S))
    for node, victim in victims:
        node.kill(victim)
    return " and ".join(f"{victim} of {node.id}" for node, victim in victims)


async def _restart(federation: Federation, chance: random.Random) -> str:
    """Stopped in order and started again, as for a new release."""
    await asyncio.sleep(chance.uniform(0, WORK_S))
    await federation.partner.restart()
    return f"of {federation.partner.id}"


FAULTS = (
    Fault("cut", 20, _cut),
    Fault("refuse", 8, _refuse),
    Fault("reset", 12, _reset),
    Fault("delay", 6, _spoil(delay_s=0.03)),
    Fault("throttle", 6, _spoil(bytes_per_s=100_000)),
    Fault("duplicate", 8, _spoil(duplicate=0.3)),
    Fault("reorder", 8, _spoil(reorder=0.3)),
    Fault("flip", 8, _spoil(flip=0.3)),
    Fault("truncate", 8, _spoil(truncate=0.3)),
    Fault("kill a server", 10, _kill("postgres", "nats-server")),
    Fault("kill a service on the way", 10, _kill("federation", "management", "sharing", "delivery")),
    Fault("kill another service", 2, _kill("identity", "perception", "collaboration")),
    Fault("kill both ends", 6, _kill_both_ends),
    Fault("kill the node", 1, _kill("node")),
    Fault("restart", 2, _restart),
)


@dataclass(frozen=True, slots=True)
class Round:
    """What one round did and what came of it. struck names the faults with where they struck.

    settled_s is what of `seconds` it took, after work and faults had ended, until all was applied.
    """

    seed: int
    struck: tuple[str, ...]
    verdict: Verdict
    seconds: float
    settled_s: float


async def run_round(bench: Bench, seed: int) -> Round:
    """Draw, work, strike, mend, reconcile."""
    started = monotonic()
    chance = random.Random(seed)
    bench.chance.seed(chance.random())  # what the proxies draw from
    count = 2 if chance.random() < SECOND_FAULT_SHARE else 1
    drawn = chance.choices(FAULTS, [fault.weight for fault in FAULTS], k=count)
    # Each fault has its own chances: one must not change what the other draws.
    chances = [random.Random(chance.random()) for _ in drawn]
    work = bench.work(
        events=EVENTS,
        numbers=NUMBERS,
        rows=ROWS,
        requests=REQUESTS,
        directives=DIRECTIVES,
        transfers=int(chance.random() < TRANSFER_SHARE),
        seconds=WORK_S,
    )
    try:
        async with asyncio.TaskGroup() as group:
            working = group.create_task(work)
            strikes = [
                group.create_task(fault.strike(bench.federation, own))
                for fault, own in zip(drawn, chances, strict=True)
            ]
    finally:
        bench.federation.mend()
    struck_s = monotonic() - started
    verdict = await bench.reconciler.settle(working.result())
    struck = tuple(f"{fault.name} {strike.result()}" for fault, strike in zip(drawn, strikes, strict=True))
    seconds = monotonic() - started
    return Round(seed, struck, verdict, seconds, seconds - struck_s)
