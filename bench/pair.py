"""A district and its city as two real nodes, and facts that are written at one and watched for at the other.

A fact is a warning of the district: written to the outbox of its perception service in one durable transaction, as the
service does, and applied when the management service of the city has taken it in, in a transaction of its own. In
between are both buses, both federation services, TLS, signatures and the tier charter.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING
from uuid import UUID

from deploy.joining import join
from deploy.runtime.postgres import ADMIN
from deploy.testing import ADMIN_LOGIN, NodeProcess, write_node_toml
from libs.bus import subject_of
from libs.clock import SystemClock
from libs.db import Pool, open_pool
from libs.ids import new_id
from libs.testing import eventually
from quintet.common.v1.common_pb2 import LocalText
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1 import federation_pb2 as pb
from quintet.identity.v1 import directory_pb2 as directory
from quintet.perception.v1 import facts_pb2
from quintet_sdk import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from quintet.perception.v1 import perception_pb2

CITY, DISTRICT = "sf", "sf-d10"
CITY_ZONE, DISTRICT_ZONE = "us-ca-sf", "us-ca-sf-d10"
STEWARD = "data-steward"
CONFIG = """
[gateway]
requests_per_s = 100000
client_requests_per_s = 100000
sign_in_per_minute = 100000
[telemetry]
trace_ratio = 0.0
log_level = "info"
"""
JOIN_TIMEOUT_S = 90.0
POLL_S = 0.0005
KEYS = 200  # devices that warnings are about, so that order per key means something
WRITE_FACTS = """
WITH stated AS (
    INSERT INTO perception.outbox (fact_id, subject, key, fact)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[])
) SELECT pg_notify('quintet_perception', '')
"""
APPLIED_TIMEOUT_S = 120.0
TOLD = "bench_applied"
TELL = f"""
CREATE FUNCTION management.bench_tell() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN NOTIFY {TOLD}; RETURN NULL; END $$;
CREATE TRIGGER bench_tell AFTER INSERT ON management.inbox EXECUTE FUNCTION management.bench_tell();
"""
TELL_NO_MORE = "DROP FUNCTION management.bench_tell() CASCADE"
COUNT_APPLIED = "SELECT count(*) FROM management.inbox WHERE fact_id = ANY($1::uuid[])"


@dataclass
class BenchNode:
    """One node, and its database as an operator reads it."""

    id: str
    zone: str
    process: NodeProcess
    pool: Pool | None = None

    @property
    def database(self) -> Pool:
        if self.pool is None:
            raise RuntimeError(f"{self.id} was not started")
        return self.pool

    @asynccontextmanager
    async def client(self, login: str = ADMIN_LOGIN, password: str = "") -> AsyncIterator[Client]:
        """The public API, signed in."""
        async with Client(self.process.url) as client:
            await client.sign_in(login, password or self.process.password())
            yield client

    async def start(self) -> None:
        """Start, also again after `stop`."""
        await asyncio.to_thread(self.process.start)
        config = self.process.config
        self.pool = await open_pool(
            config.runtime().postgres,
            name="bench",
            schema="public",
            user=ADMIN,
            password=config.secrets.read("postgres-admin"),
            max_size=4,
        )

    async def stop(self) -> None:
        if self.pool is not None:
            await self.pool.close()
            self.pool = None
        await asyncio.to_thread(self.process.stop)


@dataclass
class Pair:
    """Both nodes, joined."""

    city: BenchNode
    district: BenchNode

    async def write(self, facts: Sequence[Fact]) -> None:
        """Write facts at the district in one durable transaction."""
        columns = (
            [UUID(fact.id) for fact in facts],
            [subject_of(fact.type) for fact in facts],
            [fact.key for fact in facts],
            [fact.SerializeToString() for fact in facts],
        )
        async with self.district.database.acquire() as conn:
            await conn.execute(WRITE_FACTS, *columns)

    async def applied(self, facts: Sequence[Fact]) -> int:
        """Return how many of the facts the city has applied."""
        async with self.city.database.acquire() as conn:
            return int(await conn.fetchval(COUNT_APPLIED, [UUID(fact.id) for fact in facts]) or 0)

    async def until_applied(self, facts: Sequence[Fact], *, poll_s: float = POLL_S, within_s: float = 120.0) -> float:
        """Return the moment (perf_counter) at which all of the facts were seen to be applied."""
        async with asyncio.timeout(within_s):
            while await self.applied(facts) < len(facts):  # noqa: ASYNC110 - the event is in another process
                await asyncio.sleep(poll_s)
        return perf_counter()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[Callable[[Fact], Awaitable[float]]]:
        """Within the block, wait for one fact without asking for it again and again, which would take a core.

        The city's database says when something was applied, with a trigger that belongs to what is measured. Returns
        the moment (perf_counter) at which the word of it came.
        """
        told = asyncio.Event()
        heard_at = 0.0

        def hear(*_: object) -> None:
            nonlocal heard_at
            heard_at = perf_counter()
            told.set()

        async def until(fact: Fact) -> float:
            started = perf_counter()
            async with asyncio.timeout(APPLIED_TIMEOUT_S):
                while True:
                    told.clear()
                    at = heard_at
                    if await self.applied([fact]):
                        return at if at > started else perf_counter()
                    await told.wait()

        async with self.city.database.dedicated("bench") as conn:
            await conn.execute(TELL)
            await conn.add_listener(TOLD, hear)
            try:
                yield until
            finally:
                await conn.execute(TELL_NO_MORE)

    async def until_all_applied(self, facts: Sequence[Fact], *, poll_s: float, within_s: float = 120.0) -> float:
        """Like `until_applied`, for many. The last one is looked for first: counting all of them again and again takes
        the machine's time from what is measured.
        """
        await self.until_applied(facts[-1:], poll_s=poll_s, within_s=within_s)
        return await self.until_applied(facts, poll_s=poll_s, within_s=within_s)


def warnings(count: int) -> list[Fact]:
    """Return facts that the charter gives to the city."""
    return [_warning(number) for number in range(count)]


def _warning(number: int) -> Fact:
    raised = facts_pb2.WarningRaised()
    warning: perception_pb2.Warning = raised.warning
    warning.name = f"zones/{DISTRICT_ZONE}/warnings/{new_id()}"
    warning.device = f"devices/bench-{number % KEYS}"
    warning.reason.text.CopyFrom(LocalText(en="PM2.5 above 75 µg/m³ for 10 min", zh="PM2.5 连续 10 分钟高于 75 µg/m³"))
    fact = Fact(
        id=new_id(),
        type=raised.DESCRIPTOR.full_name,
        node=DISTRICT,
        zone=DISTRICT_ZONE,
        key=warning.device,
        data=raised.SerializeToString(),
    )
    fact.time.FromDatetime(SystemClock().now())
    return fact


@asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[Pair]:
    """Start and join the nodes for the length of the block; both run until then."""
    async with AsyncExitStack() as stack:
        nodes = []
        for name, zone in ((CITY, CITY_ZONE), (DISTRICT, DISTRICT_ZONE)):
            home = folder / name
            home.mkdir()
            write_node_toml(home, extra=CONFIG, id=name, name=name, zone=zone)
            node = BenchNode(name, zone, NodeProcess(home))
            stack.callback(node.process.remove)
            stack.push_async_callback(node.stop)
            await node.start()
            nodes.append(node)
        made = Pair(*nodes)
        await _declare(made)
        await _join(made)
        yield made


async def _declare(made: Pair) -> None:
    async with made.city.client() as city, made.district.client() as district:
        await _put_zone(city, CITY_ZONE, "")
        await _put_zone(city, DISTRICT_ZONE, f"zones/{CITY_ZONE}")
        await _put_zone(district, DISTRICT_ZONE, "")


async def _put_zone(client: Client, code: str, parent: str) -> None:
    kind = directory.ZONE_KIND_DISTRICT if code == DISTRICT_ZONE else directory.ZONE_KIND_CITY
    zone = directory.Zone(name=f"zones/{code}", parent=parent, kind=kind, title=LocalText(en=code, zh=code))
    await client.directory.PutZone(directory.PutZoneRequest(zone=zone))


async def _join(made: Pair) -> None:
    async with made.city.client() as inviting, made.district.client() as joining:
        password = secrets.token_urlsafe(12)
        post = directory.Post(role="roles/data_steward", zone=CITY_ZONE)
        person = directory.Person(name=f"people/{STEWARD}", login=STEWARD, posts=[post])
        await inviting.directory.PutPerson(directory.PutPersonRequest(person=person, password=password))
        async with made.city.client(STEWARD, password) as steward:
            asked = pb.CreateInvitationRequest(node=DISTRICT, kind=pb.PEER_KIND_CHILD, zone=DISTRICT_ZONE)
            await join(inviting, [inviting, steward], joining, asked)

        async def flows() -> bool:
            found = await joining.federation.ListContracts(pb.ListContractsRequest())
            return any(each.state == pb.CONTRACT_STATE_FINALIZED for each in found.contracts)

        await eventually(flows, within_s=JOIN_TIMEOUT_S)
    first = warnings(1)
    await made.write(first)
    await made.until_applied(first, poll_s=0.05, within_s=JOIN_TIMEOUT_S)
