"""Stand-ins for the services that the adapters ask, on a real channel, and the sources around them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_status import rpc_status
from prometheus_client import REGISTRY, Metric

from gateway.adapters import NodeFacts, Sources
from libs.config import PARTS
from libs.errors import DOMAIN
from libs.tokens import ServiceSigner
from quintet.federation.v1 import federation_pb2
from quintet.identity.v1 import identity_pb2
from quintet.management.v1 import channels_pb2, management_pb2

KEY = identity_pb2.Jwk(kty="EC", crv="P-256", x="x", y="y", kid="k1", use="sig", alg="ES256")


def ago(**since: float) -> datetime:
    """Return the time so long ago, as of now: a page shows ages."""
    return datetime.now(UTC).replace(microsecond=0) - timedelta(**since)


def zone(code: str, node: str, requests: int, merged: int, **by_status: int) -> management_pb2.ZoneCounters:
    return management_pb2.ZoneCounters(
        zone=code, node=node, requests=requests, merged=merged, events=sum(by_status.values()), by_status=by_status
    )


def peer(node: str, kind: federation_pb2.PeerKind.ValueType, **given: Any) -> federation_pb2.Peer:
    made = federation_pb2.Peer(name=f"peers/{node}", node=node, kind=kind, state=federation_pb2.PEER_STATE_ACTIVE)
    made.MergeFrom(federation_pb2.Peer(**given))
    made.last_contact.FromDatetime(ago(seconds=3 if made.connected else 200))
    made.certificate_expires_at.FromDatetime(ago(days=-89))
    if made.backlog:
        made.oldest_unacknowledged.FromDatetime(ago(minutes=4))
    return made


@dataclass
class Services:
    """What the services answer with; asked counts the questions for keys."""

    keys: list[identity_pb2.Jwk] = field(default_factory=lambda: [KEY])
    peers: list[federation_pb2.Peer] = field(default_factory=list)
    contracts: int = 0
    zones: list[management_pb2.ZoneCounters] = field(default_factory=list)
    warnings: list[channels_pb2.CapMessage] = field(default_factory=list)
    asked: int = 0
    tokens: list[str] = field(default_factory=list)
    health: HealthServicer = field(default_factory=HealthServicer)

    async def GetJwks(self, _: Any, __: Any) -> identity_pb2.GetJwksResponse:
        self.asked += 1
        return identity_pb2.GetJwksResponse(keys=self.keys)

    async def ListPeers(self, _: Any, context: Any) -> federation_pb2.ListPeersResponse:
        self.tokens += [value for key, value in context.invocation_metadata() if key == "authorization"]
        return federation_pb2.ListPeersResponse(peers=self.peers)

    async def ListContracts(
        self, request: federation_pb2.ListContractsRequest, _: Any
    ) -> federation_pb2.ListContractsResponse:
        assert request.state == federation_pb2.CONTRACT_STATE_FINALIZED
        return federation_pb2.ListContractsResponse(contracts=[federation_pb2.Contract()] * self.contracts)

    async def GetCounters(self, request: Any, _: Any) -> management_pb2.GetCountersResponse:
        assert request.zone == "zones/us-ca-sf"
        total = management_pb2.ZoneCounters(zone="us-ca-sf")
        for line in self.zones:
            total.requests += line.requests
            total.events += line.events
            total.merged += line.merged
            for status, count in line.by_status.items():
                total.by_status[status] += count
        return management_pb2.GetCountersResponse(zones=self.zones, total=total)

    async def ListCapMessages(self, request: Any, _: Any) -> channels_pb2.ListCapMessagesResponse:
        assert request.parent in {"zones/us-ca-sf", "zones/us-ca-sf-d10"}
        return channels_pb2.ListCapMessagesResponse(messages=self.warnings)

    async def GetCapMessage(self, request: Any, context: Any) -> channels_pb2.GetCapMessageResponse:
        for message in self.warnings:
            if message.name == request.name:
                return channels_pb2.GetCapMessageResponse(message=message)
        status = status_pb2.Status(code=grpc.StatusCode.NOT_FOUND.value[0], message="there is none")
        detail = status.details.add()
        detail.Pack(error_details_pb2.ErrorInfo(reason="CAP_MESSAGE_NOT_FOUND", domain=DOMAIN))
        await context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError("abort raises")

    async def set_serving(self, *, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse
        await self.health.set("", status.SERVING if serving else status.NOT_SERVING)


@asynccontextmanager
async def served(services: Services) -> AsyncIterator[str]:
    """All services on one port; yields host:port."""
    server = grpc.aio.server()
    for service in (
        identity_pb2.DESCRIPTOR.services_by_name["IdentityService"],
        federation_pb2.DESCRIPTOR.services_by_name["FederationService"],
        management_pb2.DESCRIPTOR.services_by_name["ManagementService"],
        channels_pb2.DESCRIPTOR.services_by_name["WarningChannelService"],
    ):
        handlers = {
            method.name: _handler(services, method) for method in service.methods if hasattr(services, method.name)
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
    health_pb2_grpc.add_HealthServicer_to_server(services.health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


def _handler(services: Services, method: MethodDescriptor) -> Any:
    make: Any = grpc.unary_unary_rpc_method_handler
    return make(
        getattr(services, method.name),
        request_deserializer=GetMessageClass(method.input_type).FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


@dataclass(frozen=True)
class Line:
    """A server under supervision."""

    name: str
    state: str = "running"
    restarts: int = 0
    failure: str = ""
    since: datetime = field(default_factory=lambda: ago(hours=3))


async def works() -> None:
    pass


async def all_metrics() -> list[Metric]:
    return list(REGISTRY.collect())


def sources(server: str, **changes: Any) -> Sources:
    node = NodeFacts(
        id="sf",
        name="City of San Francisco",
        zone="us-ca-sf",
        timezone="America/Los_Angeles",
        version="0.1.0",
        started=ago(hours=3),
    )
    made = Sources(
        node=node,
        signer=ServiceSigner("gateway", ec.generate_private_key(ec.SECP256R1())),
        address=lambda _: server,
        servers=lambda: [Line("postgres"), Line("nats"), Line("envoy")],
        services=lambda: [Line(part) for part in PARTS],
        probes={"postgres": works, "nats": works},
        metrics=all_metrics,
        status="public",
        status_token="",
    )
    return replace(made, **changes)
