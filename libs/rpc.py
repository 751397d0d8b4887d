"""A gRPC server whose every method is authorised, checked, bounded and observed, and the channel that calls it."""

from collections.abc import Callable, Sequence
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

from libs.channel import Channel, RemoteFaultError, channel
from libs.interceptor import CALLS_IN_FLIGHT_MAX, Authenticator, Interceptor, TokenAuthenticator
from libs.methods import MESSAGE_BYTES_MAX, Method, PolicyError, methods_of

__all__ = [
    "Authenticator",
    "Channel",
    "PolicyError",
    "RemoteFaultError",
    "Server",
    "TokenAuthenticator",
    "channel",
]

STOP_GRACE_S = 10.0
METADATA_BYTES_MAX = 16 * 1024

SERVER_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    # One byte of room: our own check answers with a reason before this one cuts the stream.
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX + 1024),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.so_reuseport", 0),  # a port that is taken must be an error, not a share of another server's calls
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)

_STANDARD: Sequence[Any] = (
    health_pb2.DESCRIPTOR.services_by_name["Health"],
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
)


class Server:
    """Serves the services of one part on one address.

    A server for the node's own callers refuses services with methods `peer: true`; one made with `peers=True` is
    federation's own port and refuses all others.
    """

    def __init__(self, part: str, authenticator: Authenticator, *, peers: bool = False) -> None:
        self._part = part
        self._authenticator = authenticator
        self._peers = peers
        self._registered: list[tuple[Callable[[Any, Any], None], Any, ServiceDescriptor]] = []
        self._health = HealthServicer()
        self._server: grpc.aio.Server | None = None
        self.methods: dict[str, Method] = {}

    def add(self, register: Callable[[Any, Any], None], servicer: object, service: ServiceDescriptor) -> None:
        """Serve `servicer`; `register` is the generated add_..._to_server."""
        self._registered.append((register, servicer, service))

    async def start(self, address: str = "127.0.0.1:0", credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen, and return the port. Health says NOT_SERVING until `set_ready`.

        Raises PolicyError when a method declares no access, and RuntimeError when the address is taken.
        """
        services = [service for _, _, service in self._registered]
        methods = methods_of(services)
        misplaced = [method.name for method in methods.values() if method.access.peer != self._peers]
        if misplaced:
            where = "the peers' port" if self._peers else "a port of the node's own"
            raise PolicyError("\n".join(f"{name}: must not be served on {where}" for name in misplaced))
        self.methods = methods | methods_of(_STANDARD)
        interceptor = Interceptor(self._part, self.methods, self._authenticator)
        server = grpc.aio.server(
            interceptors=[interceptor], options=list(SERVER_OPTIONS), maximum_concurrent_rpcs=2 * CALLS_IN_FLIGHT_MAX
        )
        for register, servicer, _ in self._registered:
            register(servicer, server)
        await self._add_standard(server, [service.full_name for service in services])
        port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        await server.start()
        self._server = server
        return port

    async def set_ready(self, *, ready: bool) -> None:
        """Tell health checks, for the server and each of its services."""
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *(service.full_name for _, _, service in self._registered)):
            await self._health.set(name, status)

    async def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Take no new calls, let those in flight end within `grace_s` seconds, cancel the rest."""
        await self._health.enter_graceful_shutdown()
        if self._server is not None:
            await self._server.stop(grace_s)
            self._server = None

    async def _add_standard(self, server: grpc.aio.Server, names: Sequence[str]) -> None:
        await self.set_ready(ready=False)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if not self._peers:  # peers learn nothing of us but what they call
            reflection = ReflectionServicer([*names, *(service.full_name for service in _STANDARD)])
            reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflection, server)  # type: ignore[no-untyped-call]
