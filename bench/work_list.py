"""Pages of work lists through the public API with a million stored events, of which one in twenty is open."""

from __future__ import annotations

import secrets
from time import perf_counter
from typing import TYPE_CHECKING

from bench.pair import CONFIG, BenchNode
from bench.record import RUNS, Measured, middle, percentile, rounded
from bench.stored_events import store_events
from deploy.testing import NodeProcess, write_node_toml
from quintet.common.v1.common_pb2 import LocalText
from quintet.identity.v1 import directory_pb2 as directory
from quintet.management.v1 import worklists_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from quintet_sdk import Client

EVENTS = 1_000_000
LISTS_PER_RUN = 100
WARM_UP_LISTS = 20
PAGE = 100  # counted from 1
P99_LIMIT_MS = 50.0
CITY = "us-ca-sf"
DISTRICTS = [f"{CITY}-d{number}" for number in range(1, 12)]
NEIGHBOURHOODS = [f"{district}-n{number}" for district in DISTRICTS for number in range(1, 5)]
POSTS = {
    "dispatcher": directory.Post(role="roles/dispatcher", zone=CITY, organisation="organisations/bench-0"),
    "dispatcher-d2": directory.Post(role="roles/dispatcher", zone=DISTRICTS[1], organisation="organisations/bench-0"),
    "handler": directory.Post(role="roles/handler", zone=CITY, organisation="organisations/bench-0"),
    "handler-elsewhere": directory.Post(role="roles/handler", zone=CITY, organisation="organisations/bench-39"),
}


async def run(folder: Path) -> Measured:
    home = folder / "sf"
    home.mkdir()
    write_node_toml(home, extra=CONFIG, id="sf", name="sf", zone=CITY)
    node = BenchNode("sf", CITY, NodeProcess(home))
    try:
        await node.start()
        passwords = await _declare(node)
        await store_events(node, [CITY, *DISTRICTS, *NEIGHBOURHOODS], EVENTS)
        found: dict[str, dict[str, list[float]]] = {}
        for who, password in passwords.items():
            post = POSTS[who]
            async with node.client(who, password) as client:
                for what, ask in (await _questions(client, post.zone)).items():
                    await _times_ms(ask, WARM_UP_LISTS)
                    runs = [await _times_ms(ask, LISTS_PER_RUN) for _ in range(RUNS)]
                    found.setdefault(who, {})[what] = [percentile(each, 99) for each in runs]
    finally:
        await node.stop()
        node.process.remove()
    pages = [middle(runs) for each in found.values() for what, runs in each.items() if what != "counts"]
    details = {
        "p99_of": {who: {what: rounded(middle(runs)) for what, runs in each.items()} for who, each in found.items()},
        "events": EVENTS,
        "lists_per_run": LISTS_PER_RUN,
    }
    return Measured("work_list", max(pages), "ms", P99_LIMIT_MS, "lower", max(pages) / P99_LIMIT_MS, details)


async def _times_ms(ask: Callable[[], Awaitable[object]], count: int) -> list[float]:
    found = []
    for _ in range(count):
        started = perf_counter()
        await ask()
        found.append((perf_counter() - started) * 1000)
    return found


async def _questions(client: Client, zone: str) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return what each person asks: their first page, filtered and sorted; page 100 of all; their counts."""
    types = [f"eventTypes/bench-{number}" for number in range(5, 25)]
    first = pb.ListWorkRequest(
        parent=f"zones/{zone}", inbox=pb.WORK_INBOX_ROLE, filter=pb.WorkFilter(types=types, overdue=True)
    )
    deep = pb.ListWorkRequest(parent=f"zones/{zone}", order=pb.WORK_ORDER_NEWEST)
    for _ in range(PAGE - 1):
        token = (await client.work_lists.ListWork(deep)).next_page_token
        if not token:
            break  # a shorter list: its last page
        deep.page_token = token
    district = pb.ListWorkRequest(parent=f"zones/{DISTRICTS[0] if zone == CITY else zone}")
    counts = pb.CountWorkRequest(parent=f"zones/{zone}", inboxes=[pb.WORK_INBOX_ROLE])
    return {
        "first": lambda: client.work_lists.ListWork(first),
        "page_100": lambda: client.work_lists.ListWork(deep),
        "of_a_district": lambda: client.work_lists.ListWork(district),
        "counts": lambda: client.work_lists.CountWork(counts),
    }


async def _declare(node: BenchNode) -> dict[str, str]:
    """Return the passwords of people with posts of different breadth."""
    passwords = {}
    async with node.client() as client:
        for code in [CITY, *DISTRICTS, *NEIGHBOURHOODS]:
            parent = "" if code == CITY else f"zones/{code.rpartition('-')[0]}"
            zone = directory.Zone(
                name=f"zones/{code}", parent=parent, kind=directory.ZONE_KIND_STREET, title=LocalText(en=code, zh=code)
            )
            await client.directory.PutZone(directory.PutZoneRequest(zone=zone))
        for number in (0, 39):
            organisation = directory.Organisation(name=f"organisations/bench-{number}", zone=CITY)
            await client.directory.PutOrganisation(directory.PutOrganisationRequest(organisation=organisation))
        for login, post in POSTS.items():
            passwords[login] = secrets.token_urlsafe(12)
            person = directory.Person(name=f"people/{login}", login=login, posts=[post])
            await client.directory.PutPerson(directory.PutPersonRequest(person=person, password=passwords[login]))
    return passwords
