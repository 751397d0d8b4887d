"""The node's services as the gateway calls them, with its own least rights."""

from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.adapters.sources import Sources
from libs.channel import Channel, channel
from libs.config import PARTS
from libs.errors import Away, Reason
from quintet.federation.v1 import federation_pb2, federation_pb2_grpc
from quintet.identity.v1 import identity_pb2, identity_pb2_grpc
from quintet.management.v1 import channels_pb2, channels_pb2_grpc, management_pb2, management_pb2_grpc

HEALTH_TIMEOUT_S = 2.0
CALL_TIMEOUT_S = 3.0
PEERS_MAX = 1_000
CONTRACTS_MAX = 500
WARNINGS_MAX = 200


class NodeClient:
    """One channel per part, connected with its first call. Calls raise DomainErrors and RemoteFaultError only."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._channels = {part: self._channel(part) for part in PARTS}
        # Its stub declares its methods when it is made, out of the type checker's sight.
        self._health: dict[str, Any] = {
            part: health_pb2_grpc.HealthStub(found) for part, found in self._channels.items()
        }
        # Carries the tokens of those who call us.
        self.as_caller = channel(lambda: sources.address("management"), dependency="management")
        self._identity = identity_pb2_grpc.IdentityServiceStub(self._channels["identity"])
        self._management = management_pb2_grpc.ManagementServiceStub(self._channels["management"])
        self._warnings = channels_pb2_grpc.WarningChannelServiceStub(self._channels["management"])
        self._federation = federation_pb2_grpc.FederationServiceStub(self._channels["federation"])

    async def close(self) -> None:
        for found in (*self._channels.values(), self.as_caller):
            await found.close()

    async def check_health(self, part: str) -> None:
        """Raises Away unless the part says that it serves."""
        answer = await self._health[part].Check(health_pb2.HealthCheckRequest(), timeout=HEALTH_TIMEOUT_S)
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise Away(Reason.DEPENDENCY_AWAY, f"{part} does not serve yet", dependency=part)

    async def jwks(self) -> identity_pb2.GetJwksResponse:
        return await self._identity.GetJwks(identity_pb2.GetJwksRequest(), timeout=CALL_TIMEOUT_S)

    async def peers(self) -> list[federation_pb2.Peer]:
        """The first PEERS_MAX peers, by name."""
        request = federation_pb2.ListPeersRequest(page_size=PEERS_MAX)
        return list((await self._federation.ListPeers(request, timeout=CALL_TIMEOUT_S)).peers)

    async def active_contracts(self) -> tuple[int, bool]:
        """How many contracts are in force, counted up to CONTRACTS_MAX, and whether there are more."""
        request = federation_pb2.ListContractsRequest(
            state=federation_pb2.CONTRACT_STATE_FINALIZED, page_size=CONTRACTS_MAX
        )
        answer = await self._federation.ListContracts(request, timeout=CALL_TIMEOUT_S)
        return len(answer.contracts), bool(answer.next_page_token)

    async def counters(self) -> management_pb2.GetCountersResponse:
        """The events of the node's own zone and of all zones below it."""
        request = management_pb2.GetCountersRequest(zone=f"zones/{self._sources.node.zone}")
        return await self._management.GetCounters(request, timeout=CALL_TIMEOUT_S)

    async def cap_messages(self, zone: str) -> list[channels_pb2.CapMessage]:
        """The newest message of each warning in force for a zone, the newest WARNINGS_MAX."""
        request = channels_pb2.ListCapMessagesRequest(parent=f"zones/{zone}", page_size=WARNINGS_MAX)
        return list((await self._warnings.ListCapMessages(request, timeout=CALL_TIMEOUT_S)).messages)

    async def cap_message(self, name: str) -> channels_pb2.CapMessage:
        """One message with its document. Raises NotFound, and Invalid for what is no name of a message."""
        request = channels_pb2.GetCapMessageRequest(name=name)
        return (await self._warnings.GetCapMessage(request, timeout=CALL_TIMEOUT_S)).message

    def _channel(self, part: str) -> Channel:
        return channel(lambda: self._sources.address(part), signer=self._sources.signer, dependency=part)
