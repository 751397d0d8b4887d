"""Whole lives of events through the public API, seven calls each, with few and with many events stored before."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from bench.pair import CONFIG, BenchNode
from bench.record import RUNS, Measured, middle, rounded
from bench.recorded import ORGANISATION, STEPS, opening, record, replay
from bench.stored_events import store_events
from deploy.runtime.postgres import ADMIN
from deploy.testing import NodeProcess, write_node_toml
from libs.db import open_pool
from quintet.common.v1.common_pb2 import LocalText
from quintet.identity.v1 import directory_pb2 as directory
from quintet.management.v1 import management_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from libs.db import Pool
    from quintet_sdk import Client

CLIENTS = 16
STORED = (100_000, 1_000_000)
RUN_S = 10.0
WARM_UP_S = 5.0
LIMIT_PER_S = 100.0
CITY = "us-ca-sf"
TYPES = 30


async def run(folder: Path) -> Measured:
    home = folder / "sf"
    home.mkdir()
    write_node_toml(home, extra=CONFIG, id="sf", name="sf", zone=CITY)
    node = BenchNode("sf", CITY, NodeProcess(home))
    found: dict[int, list[float]] = {}
    plain: dict[int, list[float]] = {}
    try:
        await node.start()
        logins = await _declare(node)
        before = 0
        for stored in STORED:
            await store_events(node, [CITY], stored, first=before + 1, history=True)
            before = stored
            found[stored] = await _through_the_api(node, logins)
            plain[stored] = await _by_plain_asyncpg(node)
    finally:
        await node.stop()
        node.process.remove()
    values = {stored: middle(runs) for stored, runs in found.items()}
    few, many = STORED
    details = {
        "ratio_of": f"the same SQL by plain asyncpg at {few:,} events",
        "plain_per_s": {str(stored): rounded(middle(runs)) for stored, runs in plain.items()},
        "per_s": {str(stored): rounded(value) for stored, value in values.items()},
        "ratio_at": {str(stored): rounded(values[stored] / middle(plain[stored])) for stored in STORED},
        "many_to_few": rounded(values[many] / values[few]),
        "runs": {str(stored): [rounded(each) for each in runs] for stored, runs in found.items()},
        "clients": CLIENTS,
        "calls": 1 + len(STEPS),
    }
    ratio = values[few] / middle(plain[few])
    return Measured("event_lifecycle", values[few], "lifecycles/s", LIMIT_PER_S, "higher", ratio, details)


async def _through_the_api(node: BenchNode, logins: dict[str, str]) -> list[float]:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(node.client(*login)) for login in logins.items()]
        return await _measured([partial(_live, client) for client in clients])


async def _by_plain_asyncpg(node: BenchNode) -> list[float]:
    """Send the statements that the service sends for a life on connections of our own, one for each client."""
    pool = await _pool(node)
    try:
        script = await record(pool, node.process.config, type_of(0))
        async with AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(pool.acquire()) for _ in range(CLIENTS)]
            scripts: list[Callable[[], Awaitable[None]]] = [partial(replay, conn, script) for conn in connections]
            return await _measured(scripts)
    finally:
        await pool.close()


async def _pool(node: BenchNode) -> Pool:
    config = node.process.config
    return await open_pool(
        config.runtime().postgres,
        name="bench",
        schema="management",
        user=ADMIN,
        password=config.secrets.read("postgres-admin"),
        max_size=CLIENTS + 1,
    )


async def _measured(lives: list[Callable[[], Awaitable[None]]]) -> list[float]:
    """Return how many lives per second there are when each client leads one after the other, for each run."""
    await _count(lives, WARM_UP_S)
    return [await _count(lives, RUN_S) for _ in range(RUNS)]


async def _count(lives: list[Callable[[], Awaitable[None]]], seconds: float) -> float:
    ended = 0
    started = perf_counter()

    async def lead(live: Callable[[], Awaitable[None]]) -> None:
        nonlocal ended
        while perf_counter() - started < seconds:
            await live()
            ended += 1

    async with asyncio.TaskGroup() as group:
        for live in lives:
            group.create_task(lead(live))
    return ended / (perf_counter() - started)


async def _live(client: Client) -> None:
    event = (await client.management.OpenEvent(opening(CITY, type_of(secrets.randbelow(TYPES))))).event
    for action, more in STEPS:
        request = pb.AdvanceEventRequest(name=event.name, action=action, etag=event.revision, **more)
        event = (await client.management.AdvanceEvent(request)).event


def type_of(kind: int) -> str:
    return f"eventTypes/bench-{kind}"


async def _declare(node: BenchNode) -> dict[str, str]:
    """Return logins and passwords of as many people as there are clients, each of whom may take all steps."""
    logins = {}
    async with node.client() as client:
        zone = directory.Zone(name=f"zones/{CITY}", kind=directory.ZONE_KIND_CITY, title=LocalText(en=CITY, zh=CITY))
        await client.directory.PutZone(directory.PutZoneRequest(zone=zone))
        organisation = directory.Organisation(name=ORGANISATION, zone=CITY)
        await client.directory.PutOrganisation(directory.PutOrganisationRequest(organisation=organisation))
        for kind in range(TYPES):
            event_type = pb.EventType(
                name=type_of(kind),
                title=LocalText(en=f"Bench {kind}", zh=f"测试 {kind}"),
                deadline=pb.Allowance(minutes=2880),
                step_deadlines=[pb.StepDeadline(state="dispatched", allowance=pb.Allowance(minutes=1440))],
                merge=pb.MergePolicy(radius_m=60, window_h=72),
                routes=[pb.Route(zone=CITY, organisation=ORGANISATION)],
            )
            await client.management.PutEventType(pb.PutEventTypeRequest(event_type=event_type))
        for number in range(CLIENTS):
            login, password = f"client-{number}", secrets.token_urlsafe(12)
            post = directory.Post(role="roles/node_admin", zone=CITY)
            person = directory.Person(name=f"people/{login}", login=login, posts=[post])
            await client.directory.PutPerson(directory.PutPersonRequest(person=person, password=password))
            logins[login] = password
    return logins
