"""Photos and files as browsers and curl send and fetch them, in front of a real management service."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Route

from gateway import envoy
from gateway.adapters import AdapterServer, build_app
from gateway.adapters import evidence as files
from gateway.adapters.byte_ranges import Span, UnsatisfiableError, asked_span
from gateway.adapters.tests.standin import sources
from libs.testing import eventually
from libs.tests import callers
from quintet.management.v1 import management_pb2 as pb
from services.management.evidence.model_evidence import MEDIA_TYPES, UPLOADS_PER_PERSON_MAX
from services.management.evidence.tests.handling import HANDLER, JPEG, OFFICER, listed, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.management.tests.conftest import Node

OPENAPI = Path(__file__).parents[2] / "openapi.json"
MIB = 1024 * 1024
LARGE = JPEG + os.urandom(5 * MIB)
STRANGER = "people/handler.parks"


@pytest_asyncio.fixture
async def site(city: Node) -> AsyncIterator[httpx.AsyncClient]:
    async with AsyncExitStack() as stack:
        app = build_app(sources(city.address))
        stack.push_async_callback(app.state.close)
        server = AdapterServer(app)
        stack.push_async_callback(server.stop)
        base = f"http://{await server.start()}"
        yield await stack.enter_async_context(httpx.AsyncClient(base_url=base, trust_env=False, timeout=30))


def bearer(subject: str) -> dict[str, str]:
    return {"authorization": f"Bearer {callers.token(subject)}"}


async def upload(
    site: httpx.AsyncClient, event: str, content: Any, subject: str = HANDLER, **query: str
) -> httpx.Response:
    parameters = {"fileName": "照片.jpg", **query}
    headers = bearer(subject) if subject else {}
    return await site.post(f"/v1/{event}/evidence", params=parameters, content=content, headers=headers)


async def uploaded(site: httpx.AsyncClient, event: str, content: bytes = LARGE) -> str:
    answer = await upload(site, event, content)
    assert answer.status_code == 201, answer.text
    name: str = answer.json()["evidence"]["name"]
    return name


async def fetch(site: httpx.AsyncClient, name: str, subject: str = OFFICER, **headers: str) -> httpx.Response:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return await site.get(f"/v1/{name}/content", headers={**bearer(subject), **named})


def reason(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["details"][0]["reason"]


async def test_a_file_goes_up_and_comes_down_as_it_is(city: Node, site: httpx.AsyncClient) -> None:
    event = await opened(city)
    answer = await upload(site, event, LARGE)
    evidence = answer.json()["evidence"]
    assert (evidence["mediaType"], evidence["sizeBytes"]) == ("image/jpeg", str(len(LARGE)))
    assert answer.headers["location"] == f"/v1/{evidence['name']}/content"
    down = await fetch(site, evidence["name"])
    assert down.content == LARGE
    assert down.headers["content-type"] == "image/jpeg"
    assert down.headers["content-length"] == str(len(LARGE))
    assert down.headers["etag"] == f'"{hashlib.sha256(LARGE).hexdigest()}"'
    # Nothing that a browser would show in the place of a page, or guess to be one.
    assert down.headers["content-disposition"].startswith("attachment; ")
    assert down.headers["content-disposition"].endswith(f"filename*=UTF-8''{quote('照片.jpg')}")
    assert down.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in down.headers["content-security-policy"]
    assert "content-encoding" not in down.headers
    # What went up this way a step can show.
    advance = pb.AdvanceEventRequest(name=event, action="dispose", evidence=[evidence["name"]])
    assert (await city.call("AdvanceEvent", advance, HANDLER)).event.status == "done"


async def test_who_may_not_by_the_methods_may_not_here(city: Node, site: httpx.AsyncClient) -> None:
    event = await opened(city)
    photo = await uploaded(site, event)
    assert (await upload(site, event, LARGE, "")).status_code == 401
    assert (await upload(site, event, LARGE, STRANGER)).status_code == 403
    assert (await site.get(f"/v1/{photo}/content")).status_code == 401
    assert (await fetch(site, photo, STRANGER)).status_code == 403
    assert reason(await fetch(site, f"{event}/evidence/none")) == (404, "EVIDENCE_NOT_FOUND")
    assert reason(await upload(site, "zones/us-ca-sf-d6/events/none", JPEG)) == (404, "EVENT_NOT_FOUND")
    assert [each.name for each in await listed(city, event)] == [photo]


@pytest.mark.parametrize(
    ("content", "query", "problem"),
    [
        (b"<html><script>alert(1)</script>", {}, "content: is none of image/jpeg"),
        (b"<svg onload='alert(1)'/>", {"fileName": "photo.svg"}, "content: is none of image/jpeg"),
        (b"", {}, "sizeBytes: "),
        (bytes(20 * MIB + 1), {}, "sizeBytes: "),
        (JPEG, {"fileName": ""}, "fileName: is required"),
    ],
)
async def test_what_cannot_be_is_refused_with_the_rule(
    city: Node, site: httpx.AsyncClient, content: bytes, query: dict[str, str], problem: str
) -> None:
    event = await opened(city)
    answer = await upload(site, event, content, **query)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(problem)
    assert await city.rows("SELECT FROM evidence_uploads WHERE NOT abandoned") == []


async def test_a_length_must_be_said(city: Node, site: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield JPEG

    assert reason(await upload(site, await opened(city), chunks())) == (411, "LENGTH_REQUIRED")


async def test_what_breaks_off_makes_room_at_once(city: Node, site: httpx.AsyncClient) -> None:
    event = await opened(city)
    for _ in range(UPLOADS_PER_PERSON_MAX + 1):
        await broken_off(site, event)

        async def gone() -> bool:
            rows = await city.rows(
                "SELECT count(*) AS all, count(*) FILTER (WHERE NOT abandoned) AS open FROM evidence_uploads"
            )
            return bool(rows[0]["all"]) and not rows[0]["open"]

        await eventually(gone)
    assert await city.rows("SELECT FROM evidence_parts") == []
    await uploaded(site, event)


async def test_who_names_the_request_may_send_it_again(city: Node, site: httpx.AsyncClient) -> None:
    event = await opened(city)
    await broken_off(site, event, requestId="one")
    answers = [await upload(site, event, LARGE, requestId="one") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert len(await listed(city, event)) == 1
    other = LARGE[:-1] + bytes([LARGE[-1] ^ 1])
    assert reason(await upload(site, event, other, requestId="one")) == (400, "REQUEST_ID_REUSED")
    assert (await fetch(site, answers[0].json()["evidence"]["name"])).content == LARGE


async def test_parts_of_a_file(city: Node, site: httpx.AsyncClient) -> None:
    photo = await uploaded(site, await opened(city))
    size = len(LARGE)
    for asked, start, end in (
        ("bytes=0-9", 0, 10),
        (f"bytes={2 * MIB - 5}-{2 * MIB + 5}", 2 * MIB - 5, 2 * MIB + 6),
        (f"bytes={size - 3}-", size - 3, size),
        ("bytes=-7", size - 7, size),
        (f"bytes=3-{size * 2}", 3, size),
    ):
        answer = await fetch(site, photo, range=asked)
        assert (answer.status_code, answer.content) == (206, LARGE[start:end])
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
    assert (await fetch(site, photo, range="bytes=0-1,5-6")).status_code == 200
    beyond = await fetch(site, photo, range=f"bytes={size}-")
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    assert (await fetch(site, photo, range="bytes=0-9", if_range='"another"')).content == LARGE


async def test_what_a_browser_has_is_not_sent_again_but_only_to_who_may_see_it(
    city: Node, site: httpx.AsyncClient
) -> None:
    photo = await uploaded(site, await opened(city))
    tag = (await fetch(site, photo)).headers["etag"]
    again = await fetch(site, photo, if_none_match=f'"other", W/{tag}')
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert (await fetch(site, photo, STRANGER, if_none_match=tag)).status_code == 403
    head = await site.head(f"/v1/{photo}/content", headers=bearer(OFFICER))
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(LARGE)), b"")


async def test_only_so_many_files_are_on_their_way(
    city: Node, site: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await opened(city)
    monkeypatch.setattr(files, "UPLOADS_AT_ONCE_MAX", 0)
    busy = await upload(site, event, JPEG)
    assert reason(busy) == (503, "TOO_MANY_REQUESTS")
    assert int(busy.headers["retry-after"]) > 0
    monkeypatch.undo()
    await uploaded(site, event)


async def test_a_file_that_takes_too_long_is_given_up(
    city: Node, site: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await opened(city)
    monkeypatch.setattr(files, "TRANSFER_TIMEOUT_S", 0.5)
    reader, writer = await begun(site, event)
    answer = await reader.readuntil(b"REQUEST_TIMEOUT")
    assert answer.startswith(b"HTTP/1.1 408 ")
    writer.close()
    assert await city.rows("SELECT FROM evidence_uploads WHERE NOT abandoned") == []


@given(size=st.integers(1, 10_000), first=st.integers(0, 12_000), length=st.integers(1, 12_000))
def test_a_span_is_what_was_asked_as_far_as_there_is_any(size: int, first: int, length: int) -> None:
    content = range(size)
    header = f"bytes={first}-{first + length - 1}"
    if first >= size:
        with pytest.raises(UnsatisfiableError):
            asked_span(header, size)
        return
    span = asked_span(header, size)
    assert span is not None
    assert list(content[span.start : span.end]) == [at for at in content if first <= at < first + length]
    assert asked_span(f"bytes=-{length}", size) == Span(max(0, size - length), size)


@pytest.mark.parametrize("header", ["", "bytes=", "bytes=-", "bytes=9-3", "items=0-4", "bytes=a-b", "bytes=0-1,4-5"])
def test_what_is_no_range_means_the_whole(header: str) -> None:
    assert asked_span(header, 100) is None


async def begun(site: httpx.AsyncClient, event: str, **query: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a little more than a part of a file, and no more."""
    there = site.base_url
    reader, writer = await asyncio.open_connection(there.host, there.port)
    path = str(httpx.URL(f"/v1/{event}/evidence", params={"fileName": "照片.jpg", **query}))
    head = [f"POST {path} HTTP/1.1", f"host: {there.host}", f"content-length: {len(LARGE)}"]
    head.append(f"authorization: {bearer(HANDLER)['authorization']}")
    writer.write("\r\n".join([*head, "", ""]).encode() + LARGE[: 3 * MIB])
    await writer.drain()
    return reader, writer


async def broken_off(site: httpx.AsyncClient, event: str, **query: str) -> None:
    _, writer = await begun(site, event, **query)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


# ------------------------------------------------------------------------------------------------------- as described


def described() -> dict[tuple[str, str], Any]:
    """The operations of the document that take or give anything but JSON, by path and verb."""
    found = {}
    for path, operations in json.loads(OPENAPI.read_text())["paths"].items():
        for verb, operation in operations.items():
            bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
            if {kind for body in bodies for kind in body.get("content", {})} - {"application/json"}:
                found[path, verb.upper()] = operation
    return found


async def test_the_document_has_the_routes_that_are_served_here_and_led_here_by_the_edge() -> None:
    app = build_app(sources("127.0.0.1:1"))  # nothing is asked
    await app.state.close()
    served = {
        (route.path, method)
        for route in app.routes
        if isinstance(route, Route) and route.path.startswith("/v1/")
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert set(described()) == served
    assert {method for _, method in served} == set(envoy.FILES_PATHS)
    for path, method in served:
        assert re.fullmatch(envoy.FILES_PATHS[method], path)


async def test_files_go_up_and_down_as_the_document_says(site: httpx.AsyncClient, city: Node) -> None:
    operations = {method: operation for (_, method), operation in described().items()}
    up, down = operations["POST"], operations["GET"]
    assert [each["name"] for each in up["parameters"] if each["in"] == "query" and each.get("required")] == ["fileName"]
    assert str(files.FILE_BYTES_MAX) in up["description"]
    answer = await upload(site, await opened(city), LARGE, requestId="r1")
    assert {name.lower() for name in up["responses"][str(answer.status_code)]["headers"]} <= set(answer.headers)
    photo = answer.json()["evidence"]["name"]
    for headers in ({}, {"range": "bytes=0-1"}, {"if_none_match": f'"{hashlib.sha256(LARGE).hexdigest()}"'}):
        fetched = await fetch(site, photo, **headers)
        said = down["responses"][str(fetched.status_code)]
        assert {name.lower() for name in said["headers"]} <= set(fetched.headers)
        assert fetched.headers.get("content-type", "image/jpeg") in said.get("content", {"image/jpeg": {}})
    missing = await fetch(site, photo, range=f"bytes={len(LARGE)}-")
    assert "Content-Range" in down["responses"][str(missing.status_code)]["headers"]
    assert "content-range" in missing.headers
    assert tuple(down["responses"]["200"]["content"]) == MEDIA_TYPES
    for operation in (up, down):
        assert (operation["security"], "401" in operation["responses"]) == ([{"bearer": []}], True)
        assert operation["x-permission"].startswith("management.")
