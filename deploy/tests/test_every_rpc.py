"""Every method of a running node: closed to who may not call it, and never broken by what it is sent."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor import ServiceDescriptor

from deploy.testing import NodeProcess
from libs import conformance
from libs.config import PARTS
from libs.methods import access_of
from quintet.audit.v1 import audit_pb2
from quintet.collaboration.v1 import collaboration_pb2, notices_pb2
from quintet.deadletter.v1 import deadletter_pb2
from quintet.delivery.v1 import delivery_pb2
from quintet.federation.v1 import federation_pb2, link_pb2
from quintet.identity.v1 import directory_pb2, identity_pb2
from quintet.management.v1 import (
    analysis_pb2,
    calendars_pb2,
    cases_pb2,
    catalogue_pb2,
    channels_pb2,
    deadlines_pb2,
    evidence_pb2,
    exceptions_pb2,
    follow_ups_pb2,
    handovers_pb2,
    imports_pb2,
    indicators_pb2,
    loops_pb2,
    management_pb2,
    merging_pb2,
    plans_pb2,
    reports_pb2,
    routing_pb2,
    scorecards_pb2,
    tiers_pb2,
    visits_pb2,
    warnings_pb2,
    whistles_pb2,
    worklists_pb2,
)
from quintet.perception.v1 import perception_pb2
from quintet.sharing.v1 import sharing_pb2

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]
FILES = {
    "identity": (identity_pb2, directory_pb2),
    "perception": (perception_pb2,),
    "sharing": (sharing_pb2,),
    "management": (
        analysis_pb2,
        calendars_pb2,
        catalogue_pb2,
        cases_pb2,
        channels_pb2,
        deadlines_pb2,
        evidence_pb2,
        exceptions_pb2,
        handovers_pb2,
        follow_ups_pb2,
        imports_pb2,
        indicators_pb2,
        loops_pb2,
        management_pb2,
        merging_pb2,
        plans_pb2,
        routing_pb2,
        reports_pb2,
        scorecards_pb2,
        tiers_pb2,
        visits_pb2,
        warnings_pb2,
        whistles_pb2,
        worklists_pb2,
    ),
    "collaboration": (collaboration_pb2, notices_pb2),
    "delivery": (delivery_pb2,),
    "federation": (federation_pb2,),
}
# The services test themselves with more, each alone; here all of them stand on each other.
EXAMPLES = 25
# It ends the session that all the others are called with.
SKIPPED = ("/quintet.identity.v1.IdentityService/SignOut",)
NOBODY = "people/nobody"
PASSWORD = "nothing to see here 42"
KNOWN = {
    "zone": ("us-ca-sf",),
    "parent": ("zones/us-ca-sf",),
    "zone_hint": ("us-ca-sf",),
    "type": ("eventTypes/street-light",),
    "login": ("node-admin",),
}


@dataclass(frozen=True)
class Tokens:
    """Of the administrator, who holds every permission that a person can hold, and of somebody who holds none."""

    everything: str
    nothing: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tokens(node: NodeProcess) -> AsyncIterator[Tokens]:
    async with node.signed_in() as admin:
        body = {"person": {"login": "nobody", "displayName": "nobody"}, "password": PASSWORD}
        (await admin.put(f"/v1/{NOBODY}", json=body)).raise_for_status()
        async with node.signed_in("nobody", PASSWORD) as nobody:
            yield Tokens(_token(admin.headers["authorization"]), _token(nobody.headers["authorization"]))


@pytest.mark.parametrize("part", PARTS)
async def test_no_method_is_open_to_who_may_not_call_it(node: NodeProcess, tokens: Tokens, part: str) -> None:
    address = node.config.runtime().services[part]
    assert await conformance.open_without_permission(address, services(part), nobody=tokens.nothing) == []
    assert await conformance.closed_to_people(address, services(part), everything=tokens.everything) == []


@pytest.mark.parametrize("part", PARTS)
async def test_no_input_breaks_a_method(node: NodeProcess, tokens: Tokens, part: str) -> None:
    address = node.config.runtime().services[part]
    broken = await conformance.broken_by_bad_input(
        address, services(part), token=tokens.everything, known=KNOWN, examples=EXAMPLES, skip=SKIPPED
    )
    assert broken == []
    assert "task.crashed" not in node.log
    assert node.servers().keys() == {"postgres", "nats-server", "envoy"}


async def test_what_is_not_for_people_cannot_be_reached_through_the_edge(node: NodeProcess, tokens: Tokens) -> None:
    async with grpc.aio.insecure_channel(urlsplit(node.url).netloc) as channel:
        metadata = (("authorization", f"Bearer {tokens.everything}"),)
        answers = await asyncio.gather(*(_code(channel, path, metadata) for path in closed()))
    assert len(answers) > len(PARTS)
    assert {code.name for code in answers} == {"UNIMPLEMENTED"}


def services(part: str) -> list[ServiceDescriptor]:
    """What the part serves on its own port."""
    files = (*FILES[part], audit_pb2, deadletter_pb2)
    return [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]


def closed() -> Iterator[str]:
    """The methods for services and peers only."""
    peers = link_pb2.DESCRIPTOR.services_by_name.values()
    for service in [*peers, *(service for part in PARTS for service in services(part))]:
        for method in service.methods:
            access = access_of(method)
            if access is not None and (access.internal or access.peer):
                yield f"/{service.full_name}/{method.name}"


async def _code(channel: grpc.aio.Channel, path: str, metadata: tuple[tuple[str, str], ...]) -> grpc.StatusCode:
    make: Any = channel.unary_unary
    code: grpc.StatusCode = await make(path)(b"", timeout=5, metadata=metadata).code()
    return code


def _token(header: str) -> str:
    return header.removeprefix("Bearer ")
