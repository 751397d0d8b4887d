"""What does not work is said not to, before somebody finds out by what goes wrong."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from deploy import cli, probes
from deploy.probes import probe
from libs.errors import Away

Status = health_pb2.HealthCheckResponse


async def test_a_disk_with_room_is_no_reason_for_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_free(monkeypatch, probes.DISK_FREE_BYTES_MIN)
    await probes.probe_disk({"PostgreSQL": tmp_path, "NATS": tmp_path})


async def test_a_full_disk_is_named_by_what_lies_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_free(monkeypatch, 3 * probes.MIB)
    with pytest.raises(Away, match="the disk of NATS is full: 3 MiB are left, 32 are needed"):
        await probes.probe_disk({"NATS": tmp_path})


async def test_a_service_works_when_its_health_says_so() -> None:
    health, server = HealthServicer(), grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    address = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        await health.set("", Status.SERVING)
        await probe(address)
        await health.set("", Status.NOT_SERVING)
        with pytest.raises(RuntimeError, match="NOT_SERVING"):
            await probe(address)
    finally:
        await server.stop(None)
    with pytest.raises(RuntimeError, match="refused"):
        await probe(address)


@pytest.mark.parametrize(
    ("scheme", "good", "bad"),
    [
        ("nats", b"INFO {}\r\n", b"SSH-2.0\r\n"),
        ("postgresql", b"R\0\0\0\x08\0\0\0\x0a", b"E\0\0\0\x0fC57P03\0\0"),
        ("http", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 503 Away\r\ncontent-length: 0\r\n\r\n"),
    ],
)
async def test_a_server_works_when_it_answers_as_one_that_does(scheme: str, good: bytes, bad: bytes) -> None:
    async with _answering(good) as address:
        await probe(f"{scheme}://{address}/readyz")
    async with _answering(bad) as address:
        with pytest.raises(RuntimeError):
            await probe(f"{scheme}://{address}/readyz")


async def test_a_server_that_says_nothing_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "PROBE_TIMEOUT_S", 0.05)
    async with _answering(b"") as address:
        with pytest.raises(TimeoutError):
            await probe(f"nats://{address}")


def test_a_health_check_ends_with_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["probe", "http://127.0.0.1:1/readyz"]) == 1
    assert "http://127.0.0.1:1/readyz: " in capsys.readouterr().out
    assert cli.run(["probe", "ftp://127.0.0.1"]) == 2
    assert "grpc://HOST:PORT" in capsys.readouterr().err


@asynccontextmanager
async def _answering(answer: bytes) -> AsyncIterator[str]:
    """A server that gives everybody this answer, or none as long as it runs."""
    ended = asyncio.Event()

    async def answered(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await ended.wait()
        writer.close()

    server = await asyncio.start_server(answered, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        ended.set()
        server.close()


def _with_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = shutil.disk_usage("/")._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
