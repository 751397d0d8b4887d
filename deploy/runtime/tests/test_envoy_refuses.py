"""What the edge refuses: bad tokens, too much, too fast, and what clients say about themselves."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.runtime.tests.edge import BODY_BYTES_MAX, SERVICE, Edge, Start
from deploy.runtime.tests.support import until


def raw_call(channel: grpc.aio.Channel) -> Any:
    """A unary call that sends and receives bytes."""
    return channel.unary_unary(f"/{SERVICE}/GetProbe")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/zones/x/probes/y?unknown=1", None),
        ("POST", "/v1/zones/x/probes/y:put", '{"someText": {}}'),
        ("POST", "/v1/zones/x/probes/y:put", "not json"),
        ("POST", "/v1/zones/x/probes/y:put", '{"name": "zones/x/probes/z"}'),
    ],
)
async def test_what_the_api_does_not_know_is_refused(edge: Edge, method: str, path: str, body: str | None) -> None:
    answer = await edge.client.request(method, path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] == 3
    assert answer.json()["details"][0]["domain"] == "quintet"


@pytest.mark.parametrize("fault", ["garbage", "expired", "issuer", "audience", "key", "unsigned"])
async def test_bad_token_is_refused_at_the_edge(edge: Edge, fault: str) -> None:
    past = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    tokens: dict[str, Callable[[], str]] = {
        "garbage": lambda: "nonsense",
        "expired": lambda: edge.token(exp=past),
        "issuer": lambda: edge.token(iss="nodes/beijing"),
        "audience": lambda: edge.token(aud="another"),
        "key": lambda: edge.token(key=ec.generate_private_key(ec.SECP256R1())),
        "unsigned": lambda: jwt.encode({"iss": "nodes/sf", "aud": "quintet"}, "", algorithm="none"),
    }
    headers = {"authorization": f"Bearer {tokens[fault]()}"}
    answer = await edge.client.get("/v1/zones/x/probes/y", headers=headers)
    expected = (403, 7, "FORBIDDEN") if fault == "audience" else (401, 16, "TOKEN_REFUSED")
    assert (answer.status_code, answer.json()["code"], answer.json()["details"][0]["reason"]) == expected
    async with grpc.aio.insecure_channel(edge.envoy.url.removeprefix("http://")) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await raw_call(channel)(b"", metadata=list(headers.items()))
        assert refused.value.code().value[0] == expected[1]
    # Who signs in may still send the token that has expired.
    assert (await edge.client.post("/v1/probes:signIn", json={}, headers=headers)).status_code == 200


@pytest.mark.parametrize("path", ["/v1/zones/x/probes/y:put", "/open311/v2/requests.json"])
async def test_oversize_body_is_refused(edge: Edge, path: str) -> None:
    content = b'{"someText": "' + b"x" * BODY_BYTES_MAX + b'"}'
    headers = {"content-type": "application/json"}
    answer = await edge.client.post(path, content=content, headers=headers)
    assert answer.status_code == 413
    assert answer.json()["details"][0]["reason"] == "REQUEST_TOO_LARGE"

    async def unannounced() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 10_000):
            yield content[start : start + 10_000]

    assert (await edge.client.post(path, content=unannounced(), headers=headers)).status_code == 413


async def test_photos_may_be_larger_but_only_where_they_are_taken(edge: Edge) -> None:
    photo, content = "/v1/zones/x/events/y/evidence", b"x" * (3 * BODY_BYTES_MAX)
    answer = await edge.client.post(f"{photo}?fileName=a.jpg", content=content, headers=edge.bearer())
    assert (answer.status_code, answer.json()["length"]) == (200, len(content))
    assert (await edge.client.post(photo, content=content, headers={"authorization": "Bearer x"})).status_code == 401
    for method, path in (
        ("PUT", photo),
        ("POST", f"{photo}/z"),
        ("POST", f"/x{photo}"),
        ("POST", "/v1/zones/x/events/y"),
    ):
        refused = await edge.client.request(method, path, content=content, headers=edge.bearer())
        assert (refused.status_code, method, path) == (413, method, path)


async def test_too_many_headers_are_refused(edge: Edge) -> None:
    answer = await edge.client.get("/x", headers={f"x-{number}": "1" for number in range(200)})
    assert answer.status_code == 431
    answer = await edge.client.get("/x", headers={"x-long": "x" * 60_000})
    assert answer.status_code == 431


async def test_rate_of_a_client_is_limited(start: Start) -> None:
    edge = await start(client_requests_per_s=5)
    answers = [await edge.client.get("/x") for _ in range(30)]
    limited = [answer for answer in answers if answer.status_code == 429]
    assert 10 <= len(limited) <= 25
    assert limited[0].json()["details"][0]["reason"] == "TOO_MANY_REQUESTS"
    assert limited[0].headers["retry-after"] == "1"
    async with grpc.aio.insecure_channel(edge.envoy.url.removeprefix("http://")) as channel:
        codes = set()
        for _ in range(30):
            try:
                await raw_call(channel)(b"")
            except grpc.aio.AioRpcError as error:
                codes.add(error.code())
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}


async def test_rate_of_all_is_limited(start: Start) -> None:
    edge = await start(requests_per_s=5)
    answers = [await edge.client.get("/x") for _ in range(30)]
    assert 429 in {answer.status_code for answer in answers}


async def test_passwords_are_tried_slowly(start: Start) -> None:
    edge = await start(sign_in_per_minute=2)
    for _ in range(4):  # the burst
        assert (await edge.client.post("/v1/probes:signIn", json={})).status_code == 200
    # No spelling of the path is a way around, nor is gRPC.
    for path in (
        "/v1/probes:signIn",
        "/v1/probes:signIn?",
        "/v1//probes:signIn",
        "/v1/x/../probes:signIn",
        "/v1/prob%65s:signIn",
    ):
        assert (await edge.client.post(path, json={})).status_code == 429, path
    assert (await edge.client.post(f"/{SERVICE}/SignIn", content=b"")).status_code == 429
    assert (await edge.client.get("/v1/zones/x/probes/y")).status_code == 200


async def test_client_cannot_say_who_it_is(edge: Edge) -> None:
    spoofed = {
        "x-forwarded-for": "10.1.2.3",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "evil",
        "forwarded": "for=10.1.2.3",
        "x-real-ip": "10.1.2.3",
        "x-request-id": "mine",
        "x-forwarded-client-cert": "Subject=admin",
        "x-envoy-original-path": "/evil",
        "x-envoy-upstream-rq-timeout-ms": "1",
        "x-envoy-internal": "true",
    }
    seen = (await edge.client.get("/x", headers=spoofed)).json()["headers"]
    assert "10.1.2.3" not in seen["x-forwarded-for"]
    assert seen["x-forwarded-proto"] == "http"
    assert seen["x-request-id"] != "mine"
    for header in ("x-forwarded-host", "forwarded", "x-real-ip", "x-forwarded-client-cert", "x-envoy-original-path"):
        assert header not in seen
    assert "x-envoy-internal" not in seen
    assert "x-envoy-upstream-rq-timeout-ms" not in seen


@pytest.mark.parametrize("path", ["/quintet.audit.v1.AuditService/ListAuditEntries", "/grpc.health.v1.Health/Check"])
async def test_what_services_offer_each_other_is_closed(edge: Edge, path: str) -> None:
    assert (await edge.client.post(path)).status_code == 404


@pytest.mark.parametrize("path", ["/v1/zones%2Fx/probes/y", "/v1%5Czones/x", "/%2e%2e%2fetc"])
async def test_escaped_slashes_are_refused(edge: Edge, path: str) -> None:
    assert (await edge.client.get(path)).status_code == 400


async def test_access_log_tells_no_secrets(edge: Edge) -> None:
    headers = edge.bearer()
    await edge.client.get("/v1/zones/x/probes/y", params={"someText": "private"}, headers=headers)
    await edge.client.get("/x?token=private", headers={"cookie": "private", **headers})
    await until(lambda: len(edge.log_lines()) == 2, "both requests are logged")
    rest, other = edge.log_lines()
    assert (rest["method"], rest["path"], rest["status"], rest["service"]) == (
        "GET",
        "/v1/zones/x/probes/y",
        200,
        "management",
    )
    assert rest["client"] == "127.0.0.1"
    assert other["path"] == "/x"
    written = (edge.state / "log" / "access.log").read_text()
    assert "private" not in written
    assert headers["authorization"] not in written


async def test_connections_are_limited(start: Start) -> None:
    edge = await start(max_connections=3)
    host, _, port = edge.envoy.url.removeprefix("http://").rpartition(":")
    opened = [await asyncio.open_connection(host, int(port)) for _ in range(5)]
    closed = []
    for reader, writer in opened:
        writer.write(b"GET /x HTTP/1.1\r\nhost: edge\r\n\r\n")
        try:
            closed.append(not await reader.readline())
        except ConnectionError:
            closed.append(True)
    for _, writer in opened:
        writer.close()
    assert sorted(closed) == [False, False, False, True, True]
