"""The edge, end to end: a real Envoy between a client and a real gRPC service."""

import asyncio
import datetime as dt
import json
import os
import signal
import ssl
import struct
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.runtime import EnvoyServer, State
from deploy.runtime.envoy import DESCRIPTORS
from deploy.runtime.tests.edge import SERVICE, SETTINGS, Edge, Start
from deploy.runtime.tests.support import until
from gateway.edge_api import read_api


async def test_rest_becomes_grpc_and_back(edge: Edge) -> None:
    answer = await edge.client.get("/v1/zones/us-ca-sf/probes/p1", params={"someText": "a+b 的"})
    assert answer.status_code == 200
    assert answer.json()["name"] == "zones/us-ca-sf/probes/p1"
    assert answer.json()["someText"] == "a+b 的"
    assert answer.json()["neverSet"] is False  # what is not set is still told
    answer = await edge.client.post("/v1/zones/us-ca-sf/probes/p1:put", json={"someText": "hello"})
    assert answer.json()["someText"] == "hello"


async def test_server_stream_comes_line_by_line(edge: Edge) -> None:
    answer = await edge.client.get("/v1/probes:watch", params={"name": "x"})
    assert [json.loads(line)["someText"] for line in answer.text.splitlines()] == ["0", "1", "2"]


async def test_errors_arrive_as_status_json(edge: Edge) -> None:
    answer = await edge.client.post("/v1/probes:fail", json={})
    assert answer.status_code == 404
    assert answer.json()["message"] == "no such probe"
    assert answer.json()["details"][0]["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert answer.json()["details"][0]["reason"] == "PROBE_NOT_FOUND"


async def test_everything_else_goes_to_the_adapter(edge: Edge) -> None:
    answer = await edge.client.get("/open311/v2/requests.json?unknown=1")
    assert answer.json()["path"] == "/open311/v2/requests.json?unknown=1"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "x-envoy-upstream-service-time" not in answer.headers


async def test_native_grpc_streams_both_ways(edge: Edge) -> None:
    async with grpc.aio.insecure_channel(edge.envoy.url.removeprefix("http://")) as channel:
        call: Any = channel.stream_stream(
            f"/{SERVICE}/StreamProbe",
            request_serializer=edge.probe.request.SerializeToString,
            response_deserializer=edge.probe.response.FromString,
        )(metadata=[("authorization", edge.bearer()["authorization"])])
        for text in ("a", "b"):  # each is answered before the next is sent: nothing waits for the end
            await call.write(edge.probe.request(some_text=text))
            assert (await call.read()).some_text == text
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def test_grpc_web(edge: Edge) -> None:
    message = edge.probe.request(some_text="web").SerializeToString()
    frame = struct.pack(">BI", 0, len(message)) + message
    headers = {"content-type": "application/grpc-web+proto"}
    answer = await edge.client.post(f"/{SERVICE}/GetProbe", content=frame, headers=headers)
    size = struct.unpack(">BI", answer.content[:5])[1]
    assert edge.probe.response.FromString(answer.content[5 : 5 + size]).some_text == "web"
    assert b"grpc-status:0" in answer.content[5 + size :]


async def test_good_token_passes_and_reaches_the_service(edge: Edge) -> None:
    headers = edge.bearer()
    answer = await edge.client.get("/v1/zones/x/probes/y", headers=headers)
    assert answer.json()["metadata"]["authorization"] == headers["authorization"]


async def test_missing_token_is_left_to_the_service(edge: Edge) -> None:
    answer = await edge.client.get("/v1/zones/x/probes/y")
    assert answer.status_code == 200
    assert "authorization" not in answer.json()["metadata"]


async def test_console_may_call_and_other_pages_may_not(edge: Edge) -> None:
    asking = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    good = await edge.client.options("/v1/probes:fail", headers={"origin": "https://console.example", **asking})
    assert good.status_code == 200
    assert good.headers["access-control-allow-origin"] == "https://console.example"
    assert "authorization" in good.headers["access-control-allow-headers"]
    bad = await edge.client.options("/v1/probes:fail", headers={"origin": "https://evil.example", **asking})
    assert "access-control-allow-origin" not in bad.headers


async def test_trace_passes_untouched(edge: Edge) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = await edge.client.get("/v1/zones/x/probes/y", headers={"traceparent": parent, "tracestate": "a=b"})
    assert answer.json()["metadata"]["traceparent"] == parent
    assert answer.json()["metadata"]["tracestate"] == "a=b"


async def test_service_that_is_away_is_unavailable_until_it_is_back(edge: Edge) -> None:
    service, front = edge.addresses
    edge.envoy.update({}, front)

    async def status() -> int:
        return (await edge.client.get("/v1/zones/x/probes/y")).status_code

    async def away() -> bool:
        return await status() == 503

    async def back() -> bool:
        return await status() == 200

    await until(away, "the edge follows the file")
    answer = await edge.client.get("/v1/zones/x/probes/y")
    assert answer.json()["code"] == 14
    edge.envoy.update({"management": service}, front)
    await until(back, "the edge follows the file")
    assert edge.envoy.status().restarts == 0


async def test_killed_edge_comes_back_on_its_port(edge: Edge) -> None:
    pid = edge.envoy.status().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: edge.envoy.status().restarts == 1 and edge.envoy.status().state is State.RUNNING, "restarted")
    assert (await edge.client.get("/v1/zones/x/probes/y", headers=edge.bearer())).status_code == 200


async def test_real_api_is_served(state: Path) -> None:
    envoy = EnvoyServer("sf", state, SETTINGS)
    await envoy.start({}, "")
    try:
        async with httpx.AsyncClient(base_url=envoy.url) as client:
            known = await client.get("/v1/profile")
            assert (known.status_code, known.json()["details"][0]["reason"]) == (503, "SERVICE_AWAY")
            # Internal methods are closed by name, whatever else their service offers.
            closed = read_api(DESCRIPTORS).closed
            assert "/quintet.identity.v1.IdentityService/ResolveAccess" in closed
            assert {(await client.post(path)).status_code for path in closed} == {404}
    finally:
        await envoy.stop()


def certificate(folder: Path, serial: int) -> tuple[Path, Path]:
    """A self-signed certificate of 127.0.0.1 for tests, written the way renewal tools do: key, then certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), serial, now, now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    for file, content in (
        (
            "key.pem",
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        ),
        ("cert.pem", made.public_bytes(serialization.Encoding.PEM)),
    ):
        (folder / f".{file}").write_bytes(content)
        (folder / f".{file}").replace(folder / file)
    return folder / "cert.pem", folder / "key.pem"


async def served_serial(edge: Edge, context: ssl.SSLContext) -> int:
    host, _, port = edge.envoy.url.removeprefix("https://").rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return x509.load_der_x509_certificate(der).serial_number


async def test_tls_is_modern_and_follows_the_certificate(start: Start, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, 1001)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    edge = await start(tls_cert=cert, tls_key=key, verify=context)
    assert edge.envoy.url.startswith("https://")
    answer = await edge.client.get("/v1/zones/x/probes/y")
    assert answer.status_code == 200
    assert "strict-transport-security" in answer.headers
    old = ssl.create_default_context()
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        await served_serial(edge, old)
    assert await served_serial(edge, context) == 1001
    certificate(tmp_path, 1002)

    async def renewed() -> bool:
        return await served_serial(edge, context) == 1002

    await until(renewed, "the new certificate is served")
    assert edge.envoy.status().restarts == 0
