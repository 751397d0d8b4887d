"""A running identity service of the node "sf", and people who call it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from argon2.profiles import CHEAPEST
from google.protobuf.message import Message

from deploy.runtime.streams import connect_admin
from libs.bus import STREAM
from libs.channel import Channel, channel
from libs.clock import ManualClock
from libs.config import PARTS, NodeConfig, load_config
from libs.host import Part, Running, prepare, run_part
from libs.testing import Database, MakeDatabase, Nats, Postgres, eventually
from libs.tokens import ServiceSigner, load_service_key
from quintet.common.v1.common_pb2 import LocalText
from quintet.fact.v1.fact_pb2 import Fact
from quintet.identity.v1 import directory_pb2 as d
from quintet.identity.v1 import identity_pb2 as i
from quintet.identity.v1.directory_pb2_grpc import DirectoryServiceStub
from quintet.identity.v1.identity_pb2_grpc import IdentityServiceStub
from services.identity import passwords
from services.identity.wiring import PART

M = TypeVar("M", bound=Message)

PASSWORD = "correct horse battery"
NODE_TOML = """
[node]
id = "sf"
name = "City of San Francisco"
zone = "us-ca-sf"
timezone = "America/Los_Angeles"
state = "state"
[postgres]
dsn = "{dsn}"
[nats]
url = "{url}"
"""


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "PARAMETERS", CHEAPEST)


@dataclass
class Client:
    """Somebody with a token, or with none."""

    directory: Any
    identity: Any
    token: str = ""
    subject: str = ""
    refresh_token: str = ""

    async def call(self, method: Callable[..., Awaitable[M]], request: Message) -> M:
        metadata = [("authorization", f"Bearer {self.token}")] if self.token else []
        return await method(request, metadata=metadata)


@dataclass
class Node:
    """A node of which only identity runs, and whatever a test starts besides."""

    config: NodeConfig
    database: Database
    clock: ManualClock
    stack: AsyncExitStack
    nats: Nats
    identity: Running | None = None
    _channel: Channel | None = field(default=None, repr=False)

    @property
    def transactions(self) -> Any:
        assert self.identity
        return self.identity.host.transactions

    async def start(self) -> Running:
        self.identity = await self.run(PART)
        self._channel = await self.stack.enter_async_context(channel(self.identity.address))
        return self.identity

    async def run(self, part: Part, *, clock: ManualClock | None = None) -> Running:
        return await self.stack.enter_async_context(run_part(part, self.config, clock=clock or self.clock))

    def client(self, token: str = "") -> Client:
        assert self._channel
        return Client(DirectoryServiceStub(self._channel), IdentityServiceStub(self._channel), token)

    def service(self, part: str) -> Client:
        """Another service of the node."""
        return self.client(ServiceSigner(part, load_service_key(self.config.secrets, part)).token())

    async def sign_in(self, login: str, password: str = PASSWORD) -> Client:
        found = self.client()
        response = await found.identity.SignIn(i.SignInRequest(login=login, password=password))
        signed_in = self.client(response.tokens.access_token)
        signed_in.subject, signed_in.refresh_token = response.subject, response.tokens.refresh_token
        return signed_in

    async def admin(self) -> Client:
        return await self.sign_in("node-admin", self.config.secrets.read("node-admin.password"))

    async def person(self, name: str, *posts: d.Post, by: Client | None = None) -> Client:
        """Make a person with these posts and sign them in."""
        admin = by or await self.admin()
        person = d.Person(name=f"people/{name}", login=name, display_name=name, posts=posts)
        await admin.call(admin.directory.PutPerson, d.PutPersonRequest(person=person, password=PASSWORD))
        return await self.sign_in(name)

    async def facts(self, kind: type[M]) -> list[M]:
        """Return the facts of a type that identity has put on the bus, oldest first."""
        await eventually(self._all_published)
        client = await connect_admin(self.nats.server.url, self.nats.server.password("admin"))
        try:
            jetstream = client.jetstream()
            state = (await jetstream.stream_info(STREAM)).state
            stored = [await jetstream.get_msg(STREAM, n) for n in range(state.first_seq, state.last_seq + 1)]
        finally:
            await client.close()
        facts = [Fact.FromString(message.data or b"") for message in stored]
        return [kind.FromString(fact.data) for fact in facts if fact.type == kind.DESCRIPTOR.full_name]

    async def _all_published(self) -> bool:
        async with self.database.admin() as connection:
            return not await connection.fetchval("SELECT EXISTS (SELECT FROM identity.outbox)")

    async def grow(self) -> None:
        """Add districts 6 and 10, Potrero Hill in the latter, and two departments."""
        admin = await self.admin()
        for request in (
            zone("us-ca-sf-d6", "us-ca-sf", "6"),
            zone("us-ca-sf-d10", "us-ca-sf", "10", "Bayview"),
            zone("us-ca-sf-d10-potrero-hill", "us-ca-sf-d10", "Potrero Hill", kind=d.ZONE_KIND_STREET),
        ):
            await admin.call(admin.directory.PutZone, d.PutZoneRequest(zone=request))
        for name in ("public-works", "parks"):
            organisation = d.Organisation(name=f"organisations/{name}", title=LocalText(en=name), zone="us-ca-sf")
            await admin.call(admin.directory.PutOrganisation, d.PutOrganisationRequest(organisation=organisation))


def zone(code: str, parent: str, *aliases: str, kind: d.ZoneKind.ValueType = d.ZONE_KIND_DISTRICT) -> d.Zone:
    title = LocalText(zh=f"区 {code}", en=f"Zone {code}")
    return d.Zone(name=f"zones/{code}", parent=f"zones/{parent}", kind=kind, title=title, aliases=aliases)


def post(role: str, zone_code: str = "us-ca-sf", organisation: str = "") -> d.Post:
    return d.Post(
        role=f"roles/{role}", zone=zone_code, organisation=f"organisations/{organisation}" if organisation else ""
    )


@pytest_asyncio.fixture
async def stopped_node(tmp_path: Path, postgres: Postgres, database: MakeDatabase, nats: Nats) -> AsyncIterator[Node]:
    """A node that is prepared, and nothing runs."""
    await nats.clear()
    made = await database(identity=[PART.migrations])
    path = tmp_path / "node.toml"
    path.write_text(NODE_TOML.format(dsn=made.dsn, url=nats.server.url))
    config = load_config(path)
    prepare(config)
    for part in PARTS:
        config.secrets.set(f"postgres-{part}", postgres.password(part))
        config.secrets.set(f"nats-{part}", nats.server.password(part))
    async with AsyncExitStack() as stack:
        # Tokens are verified against the machine's clock.
        yield Node(config, made, ManualClock(datetime.now(UTC)), stack, nats)


@pytest_asyncio.fixture
async def node(stopped_node: Node) -> Node:
    """A node whose identity has just started for the first time."""
    await stopped_node.start()
    return stopped_node
