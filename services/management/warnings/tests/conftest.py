"""A node's monitoring and warning centre over a real database and a real channel."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest_asyncio

from libs.access import Grant, Grants, Scope
from libs.config import WebhooksSection
from libs.rpc import Server, TokenAuthenticator, channel
from libs.tests import callers
from quintet.management.v1.channels_pb2_grpc import WarningChannelServiceStub
from quintet.management.v1.indicators_pb2_grpc import IndicatorServiceStub
from quintet.management.v1.plans_pb2_grpc import PlanServiceStub
from quintet.management.v1.visits_pb2_grpc import VisitServiceStub
from quintet.management.v1.warnings_pb2_grpc import WarningCentreServiceStub
from services.management.tests import samples
from services.management.tests.conftest import Node, _host, _identity
from services.management.warnings.service_centre import WarningCentreServicer
from services.management.wiring import PART

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from pathlib import Path

    from google.protobuf.message import Message

    from libs.clock import ManualClock
    from libs.testing import MakeTransactions
    from libs.zones import ZoneTree

CITY = "us-ca-sf"
STUBS = (IndicatorServiceStub, WarningCentreServiceStub, VisitServiceStub, WarningChannelServiceStub, PlanServiceStub)
# What the built-in roles may do here.
ROLES: dict[str, tuple[str, ...]] = {
    "people/admin": (
        *("indicators.write", "indicators.read", "webhooks.write", "webhooks.read", "plans.write", "plans.read"),
    ),
    "people/duty-officer": (
        *("indicators.read", "public_warnings.read", "public_warnings.draft", "public_warnings.publish"),
        *("visits.write", "visits.read", "visits.tick", "plans.activate", "plan_runs.read"),
    ),
    "people/leader": (
        *("indicators.read", "public_warnings.read", "public_warnings.draft", "public_warnings.approve"),
        *("public_warnings.publish", "public_warnings.review", "public_warnings.acknowledge"),
    ),
    "people/grid-officer": ("visits.read", "visits.tick"),
    "people/neighbour": ("visits.read", "visits.tick"),
    "people/resident.01": (),
}


def centre_grants(zones: Callable[[], ZoneTree]) -> dict[str, Grants]:
    held = {
        subject: [Grant(f"management.{verb}", Scope.ZONE, CITY) for verb in verbs] for subject, verbs in ROLES.items()
    }
    every = sorted({verb for verbs in ROLES.values() for verb in verbs} | {"plan_runs.act"})
    held["people/everything"] = [Grant(f"management.{verb}", Scope.ZONE, CITY) for verb in every]
    held["people/duty-officer.d10"] = [Grant("management.indicators.read", Scope.ZONE, "us-ca-sf-d10")]
    for organisation in (samples.WORKS, samples.SEWERS):
        # A post in one district answers for the organisation there.
        held[f"people/handler.{organisation.rpartition('-')[2]}"] = [
            Grant(f"management.{verb}", Scope.ORGANISATION, "us-ca-sf-d10", organisation)
            for verb in ("public_warnings.acknowledge", "plan_runs.act")
        ]
    return {subject: Grants(subject, grants, zones) for subject, grants in held.items()}


# Who has which role where, as identity would say.
POSTS = {"people/leader": [("roles/leader", CITY)], "people/neighbour": [("roles/leader", "cn-110000")]}


def _say_posts(servicers: Iterable[Any]) -> None:
    """Let the centre ask this file for posts: there is no identity to ask."""

    async def posts(person: str) -> list[tuple[str, str]]:
        return POSTS.get(person, [])

    for _, servicer, _ in servicers:
        if isinstance(servicer, WarningCentreServicer):
            servicer._posts = posts


@dataclass
class Centre(Node):
    """One node's centre, as tests use it."""

    host: Any = None
    address: str = ""

    async def ask(self, method: str, request: Message, subject: str) -> Any:
        """Call as somebody, or with "" as nobody, over the channel. Raises the error that the service answers with."""
        metadata = (("authorization", f"Bearer {callers.token(subject)}"),) if subject else ()
        stub = next(stub for stub in self.stubs if hasattr(stub, method))
        return await getattr(stub, method)(request, metadata=metadata, timeout=10)


@pytest_asyncio.fixture
async def centre(transactions: MakeTransactions, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Centre]:
    async with AsyncExitStack() as stack:
        made = await transactions("management", samples.MIGRATIONS, node=samples.NODE)
        grants = callers.StaticGrants({})
        authenticator = TokenAuthenticator(callers.verifier(), grants)
        identity = await _identity(stack, authenticator, grants)
        host = await _host(samples.NODE, CITY, made, clock, tmp_path, identity)
        grants.held.update(centre_grants(host.zones.tree))
        host = replace(host, config=replace(host.config, webhooks=WebhooksSection(private=True)))
        wired = await PART.build(host)
        _say_posts(wired.servicers)
        server = Server("management", authenticator)
        for servicer in wired.servicers:
            server.add(*servicer)
        port = await server.start()
        stack.push_async_callback(server.stop, 0)
        opened = channel(f"127.0.0.1:{port}", dependency="management")
        stack.push_async_callback(opened.close)
        stubs = tuple(stub(opened) for stub in STUBS)
        yield Centre(
            samples.NODE,
            made,
            clock,
            host.zones.tree(),
            wired,
            stubs,
            grants.held,
            host=host,
            address=f"127.0.0.1:{port}",
        )
