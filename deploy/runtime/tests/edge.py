"""An edge for its tests, and what stands behind it: a gRPC service, and an adapter with keys that echoes requests."""

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import grpc_tools
import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from grpc_tools import protoc
from jwt.algorithms import ECAlgorithm

from deploy.runtime import EnvoyServer
from libs.config import GatewaySection

PROTOS = Path(__file__).with_name("proto")
SERVICE = "quintet.management.v1.ProbeService"
KEY_ID = "key-1"
BODY_BYTES_MAX = 100_000
SETTINGS = GatewaySection(
    enabled=True,
    host="127.0.0.1",
    port=0,
    adapter_port=0,
    tls_cert=None,
    tls_key=None,
    cors_origins=("https://console.example",),
    requests_per_s=10_000,
    client_requests_per_s=5_000,
    sign_in_per_minute=1_000,
    max_request_bytes=BODY_BYTES_MAX,
    max_connections=100,
)


def build_descriptors(target: Path) -> None:
    """The descriptor set of probe.proto, as the real one is built from the real protos."""
    included = Path(status_pb2.__file__).parents[2]
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    arguments = [f"-I{PROTOS}", f"-I{included}", f"-I{well_known}", "--include_imports"]
    assert protoc.main(["protoc", *arguments, f"--descriptor_set_out={target}", "probe.proto"]) == 0


class Probe:
    """The service. Its messages live in a pool of their own, apart from the generated ones of the same package."""

    def __init__(self, descriptors: Path) -> None:
        pool = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes()).file:
            pool.Add(file)
        package = SERVICE.rpartition(".")[0]
        self.request: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.ProbeRequest"))
        self.response: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.ProbeResponse"))

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Serves on a free port; yields host:port."""
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, self._handlers()),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(0)

    def _handlers(self) -> dict[str, Any]:
        codec = {
            "request_deserializer": self.request.FromString,
            "response_serializer": self.response.SerializeToString,
        }
        unary = grpc.unary_unary_rpc_method_handler(self._answer, **codec)
        return {
            "GetProbe": unary,
            "PutProbe": unary,
            "SignIn": unary,
            "FailProbe": grpc.unary_unary_rpc_method_handler(self._fail, **codec),
            "WatchProbe": grpc.unary_stream_rpc_method_handler(self._watch, **codec),
            "StreamProbe": grpc.stream_stream_rpc_method_handler(self._stream, **codec),
        }

    async def _answer(self, request: Any, context: Any) -> Any:
        metadata = {item.key: item.value for item in context.invocation_metadata() if isinstance(item.value, str)}
        return self.response(name=request.name, some_text=request.some_text, metadata=metadata)

    async def _fail(self, _request: Any, context: Any) -> Any:
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.ErrorInfo(reason="PROBE_NOT_FOUND", domain="quintet"))
        status = status_pb2.Status(code=code_pb2.NOT_FOUND, message="no such probe", details=[detail])
        await context.abort_with_status(rpc_status.to_status(status))

    async def _watch(self, request: Any, _context: Any) -> AsyncIterator[Any]:
        for number in range(3):
            yield self.response(name=request.name, some_text=str(number))

    async def _stream(self, requests: Any, _context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield self.response(some_text=request.some_text)


@dataclass
class Adapter:
    """An HTTP/1.1 server: keys at the well-known path, elsewhere what it was asked, as JSON."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        async with server:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                _, path, _ = lines[0].split(" ")
                answer = self._answer(path, headers, len(body)).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
                writer.write(f"content-length: {len(answer)}\r\n\r\n".encode() + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # Envoy closed its connection
        finally:
            writer.close()

    def _answer(self, path: str, headers: dict[str, str], length: int) -> str:
        if path == "/.well-known/jwks.json":
            key = ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
            return json.dumps({"keys": [{**key, "kid": KEY_ID, "alg": "ES256", "use": "sig"}]})
        return json.dumps({"path": path, "headers": headers, "length": length})


@dataclass
class Edge:
    """A started edge with what stands behind it."""

    envoy: EnvoyServer
    probe: Probe
    adapter: Adapter
    client: httpx.AsyncClient
    state: Path
    addresses: tuple[str, str]

    def token(self, **changed: Any) -> str:
        now = dt.datetime.now(dt.UTC)
        claims = {
            "iss": "nodes/sf",
            "aud": "quintet",
            "sub": "people/duty-officer",
            "exp": now + dt.timedelta(minutes=5),
        }
        key = changed.pop("key", self.adapter.key)
        return jwt.encode({**claims, **changed}, key, algorithm="ES256", headers={"kid": KEY_ID})

    def bearer(self, **changed: Any) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token(**changed)}"}

    def log_lines(self) -> list[dict[str, Any]]:
        path = self.state / "log" / "access.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Start:
    """Starts edges with the settings of a test, and stops them after it."""

    def __init__(self, stack: AsyncExitStack, state: Path, descriptors: Path) -> None:
        self._stack = stack
        self._state = state
        self._descriptors = descriptors

    async def __call__(self, *, verify: Any = True, **changed: Any) -> Edge:
        probe, adapter = Probe(self._descriptors), Adapter()
        service = await self._stack.enter_async_context(probe.serve())
        front = await self._stack.enter_async_context(adapter.serve())
        envoy = EnvoyServer("sf", self._state, replace(SETTINGS, **changed), descriptors=self._descriptors)
        self._stack.push_async_callback(envoy.stop)
        await envoy.start({"management": service}, front)
        client = await self._stack.enter_async_context(httpx.AsyncClient(base_url=envoy.url, verify=verify))
        return Edge(envoy, probe, adapter, client, self._state, (service, front))
