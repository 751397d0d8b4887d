"""Whether the processes of a node answer, asked as any client may, and whether its servers have room to write."""

import asyncio
import shutil
import struct
from collections.abc import Mapping
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from libs.errors import Away, Reason

POSTGRES_PORT = 5432
# Two segments of PostgreSQL's log: below this it may stop at any moment.
DISK_FREE_BYTES_MIN = 32 * 1024 * 1024
MIB = 1024 * 1024
NATS_PORT = 4222
PROBE_TIMEOUT_S = 5.0
PROTOCOL_3_0 = 196_608
# "cannot connect now": the server starts, recovers or stops. Any other refusal comes from one that works.
CANNOT_CONNECT_NOW = b"57P03"
ANSWER_BYTES_MAX = 4_096


async def probe(url: str) -> None:
    """Asks what the URL's scheme says: grpc, postgresql, nats or http.

    Raises ValueError for any other URL, OSError or RuntimeError when there is no good answer within PROBE_TIMEOUT_S.
    """
    probes = {"grpc": _probe_grpc, "postgresql": probe_postgres, "nats": probe_nats, "http": _probe_http}
    parts = urlsplit(url)
    if parts.scheme not in probes or not parts.hostname:
        raise ValueError(f"{url}: must be one of {', '.join(f'{scheme}://HOST:PORT' for scheme in probes)}")
    async with asyncio.timeout(PROBE_TIMEOUT_S):
        await probes[parts.scheme](url)


async def probe_postgres(dsn: str) -> None:
    """Begins a login and stops when the server asks for the password. OSError or RuntimeError when it does not ask."""
    reader, writer = await _open_postgres(dsn)
    try:
        body = struct.pack("!I", PROTOCOL_3_0) + b"user\0identity\0database\0quintet\0application_name\0ready\0\0"
        writer.write(struct.pack("!I", len(body) + 4) + body)
        await writer.drain()
        answer = await reader.read(ANSWER_BYTES_MAX)
    finally:
        writer.close()
    if answer[:1] not in {b"R", b"E"} or CANNOT_CONNECT_NOW in answer:
        raise RuntimeError("PostgreSQL does not take connections")


async def probe_nats(url: str) -> None:
    """Waits for the greeting. OSError or RuntimeError when there is none."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname or "", parts.port or NATS_PORT)
    try:
        greeting = await reader.read(ANSWER_BYTES_MAX)
    finally:
        writer.close()
    if not greeting.startswith(b"INFO "):
        raise RuntimeError("NATS does not take connections")


async def _probe_grpc(url: str) -> None:
    """Asks for the health of the whole process. RuntimeError unless that is SERVING."""
    import grpc
    from grpc_health.v1 import health_pb2

    async with grpc.aio.insecure_channel(urlsplit(url).netloc) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = await check(health_pb2.HealthCheckRequest())
        except grpc.aio.AioRpcError as error:
            raise RuntimeError(error.details() or error.code().name) from error
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise RuntimeError(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


async def _probe_http(url: str) -> None:
    """Gets the page. RuntimeError unless the answer is 200."""
    parts = urlsplit(url)

    def get() -> int:
        with closing(HTTPConnection(parts.hostname or "", parts.port, timeout=PROBE_TIMEOUT_S)) as connection:
            connection.request("GET", parts.path or "/")
            return connection.getresponse().status

    if (status := await asyncio.to_thread(get)) != HTTPStatus.OK:
        raise RuntimeError(f"answers {status}")


async def probe_disk(folders: Mapping[str, Path]) -> None:
    """Looks at the disks that these folders, given by whose they are, lie on.

    Raises Away, naming the first that has less than DISK_FREE_BYTES_MIN left, OSError when a folder cannot be found.
    """
    for owner, folder in folders.items():
        free = (await asyncio.to_thread(shutil.disk_usage, folder)).free
        if free < DISK_FREE_BYTES_MIN:
            text = f"the disk of {owner} is full: {free // MIB} MiB are left, {DISK_FREE_BYTES_MIN // MIB} are needed"
            raise Away(Reason.DEPENDENCY_AWAY, text, dependency="disk")


async def _open_postgres(dsn: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(dsn)
    query = parse_qs(parts.query)
    # Several hosts may stand in a DSN; whoever asks whether the node is ready wants to know of the first.
    host = unquote(parts.netloc.partition(",")[0].partition(":")[0]) or query.get("host", ["127.0.0.1"])[0]
    port = _port(parts.netloc.partition(",")[0]) or int(query.get("port", [str(POSTGRES_PORT)])[0])
    if host.startswith("/"):
        return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
    return await asyncio.open_connection(host, port)


def _port(netloc: str) -> int:
    digits = netloc.rpartition(":")[2]
    return int(digits) if digits.isdigit() else 0
