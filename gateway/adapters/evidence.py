"""Photos and files as they are, for browsers and curl: the edge leads their bodies past its limit for requests.

POST /v1/{event}/evidence?fileName=...[&requestId=...]    the file as the body; answers as FinishUpload does, with 201
GET  /v1/{evidence}/content                               its bytes, or with Range some of them

Both are calls of management's EvidenceService with the caller's own token: who may what is decided there alone.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from typing import Any
from urllib.parse import quote

import structlog
from google.protobuf.json_format import MessageToDict
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from gateway.adapters.answers import refusal, refused
from gateway.adapters.byte_ranges import Span, UnsatisfiableError, asked_span
from libs.channel import Channel, RemoteFaultError
from libs.errors import DomainError, NotFound, Reason, Unauthenticated, WrongState
from libs.rules import most
from quintet.management.v1 import evidence_pb2 as pb
from quintet.management.v1.evidence_pb2_grpc import EvidenceServiceStub

FILE_BYTES_MAX = most(pb.StartUploadRequest.DESCRIPTOR, "size_bytes")
# Each holds a part of 2 MiB or two.
UPLOADS_AT_ONCE_MAX = 16
DOWNLOADS_AT_ONCE_MAX = 32
# 20 MiB pass in this time at 0.6 Mbit/s.
TRANSFER_TIMEOUT_S = 300.0
CALL_TIMEOUT_S = 10.0
FINISH_TIMEOUT_S = 60.0
RETRY_AFTER_S = 5
_EVENT = "/v1/zones/{zone}/events/{event}"
# Whatever a file says of itself, a browser runs nothing of it.
_SANDBOX = "default-src 'none'; sandbox"

Metadata = Sequence[tuple[str, str]]
log = structlog.get_logger(__name__)


class EvidenceFiles:
    """The two routes. `channel` carries no token of its own."""

    def __init__(self, channel: Channel) -> None:
        self._evidence = EvidenceServiceStub(channel)
        self._uploads = 0
        self._downloads = 0

    @property
    def routes(self) -> list[Route]:
        return [
            Route(f"{_EVENT}/evidence", self._upload, methods=["POST"]),
            Route(f"{_EVENT}/evidence/{{evidence}}/content", self._download, methods=["GET"]),
        ]

    async def _upload(self, request: Request) -> Response:
        if self._uploads >= UPLOADS_AT_ONCE_MAX:
            return _busy()
        length = request.headers.get("content-length", "")
        if not length.isdecimal():
            return refusal(411, 3, "LENGTH_REQUIRED", "content-length: must say how long the file is")
        self._uploads += 1
        try:
            async with asyncio.timeout(TRANSFER_TIMEOUT_S):
                return await self._received(request, int(length))
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except TimeoutError:
            text = f"the file did not come within {TRANSFER_TIMEOUT_S:.0f} s"
            return refusal(408, 4, "REQUEST_TIMEOUT", text)
        finally:
            self._uploads -= 1

    async def _received(self, request: Request, size: int) -> Response:
        try:
            finished = await _Upload(self._evidence, request, size).run()
        except DomainError as error:
            if size <= FILE_BYTES_MAX and not isinstance(error, Unauthenticated):
                # An answer before the end of the file gets lost at many clients: they are still sending.
                await _read_out(request)
            return refused(error)
        except RemoteFaultError:
            log.exception("evidence.upload_failed")
            return refusal(500, 13, "ADAPTER_FAILED", "management failed")
        body = MessageToDict(finished, always_print_fields_with_no_presence=True)
        return JSONResponse(body, 201, {"location": f"/v1/{finished.evidence.name}/content"})

    async def _download(self, request: Request) -> Response:
        if self._downloads >= DOWNLOADS_AT_ONCE_MAX:
            return _busy()
        parts = request.path_params
        name = f"zones/{parts['zone']}/events/{parts['event']}/evidence/{parts['evidence']}"
        wanted = pb.GetEvidenceRequest(name=name)
        answers = aiter(self._evidence.GetEvidence(wanted, metadata=_metadata(request), timeout=TRANSFER_TIMEOUT_S))
        try:
            first = await anext(answers)
        except DomainError as error:
            return refused(error)
        except RemoteFaultError:
            log.exception("evidence.download_failed")
            return refusal(500, 13, "ADAPTER_FAILED", "management failed")
        return await self._answered(request, first, answers)

    async def _answered(self, request: Request, first: pb.GetEvidenceResponse, answers: Any) -> Response:
        evidence = first.evidence
        headers = _headers(evidence)
        size = evidence.size_bytes
        if headers["etag"] in _tags(request.headers.get("if-none-match", "")):
            await answers.aclose()
            del headers["content-type"]
            return Response(status_code=304, headers=headers)
        status, span = 200, Span(0, size)
        try:
            if asked := _span(request, headers["etag"], size):
                status, span = 206, asked
                headers["content-range"] = f"bytes {span.start}-{span.end - 1}/{size}"
        except UnsatisfiableError:
            await answers.aclose()
            none = refusal(416, 11, "RANGE_UNSATISFIABLE", f"range: the file has {size} bytes")
            none.headers["content-range"] = f"bytes */{size}"
            return none
        headers["content-length"] = str(span.end - span.start)
        if request.method == "HEAD":
            await answers.aclose()
            return Response(status_code=status, headers=headers)
        return StreamingResponse(self._counted(_cut(first.content, answers, span)), status, headers)

    async def _counted(self, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self._downloads += 1
        try:
            async for chunk in content:
                yield chunk
        finally:
            self._downloads -= 1


class _Upload:
    """One file on its way from a request into the service."""

    def __init__(self, evidence: Any, request: Request, size: int) -> None:
        self._evidence = evidence
        self._request = request
        self._size = size
        self._metadata = _metadata(request)
        self._hash = hashlib.sha256()

    async def run(self) -> pb.FinishUploadResponse:
        """Return what became of it. Raises what the service does, and ClientDisconnect."""
        query, parts = self._request.query_params, self._request.path_params
        started = await self._evidence.StartUpload(
            pb.StartUploadRequest(
                parent=f"zones/{parts['zone']}/events/{parts['event']}",
                file_name=query.get("fileName", ""),
                size_bytes=self._size,
                request_id=query.get("requestId", ""),
            ),
            metadata=self._metadata,
            timeout=CALL_TIMEOUT_S,
        )
        try:
            return await self._filled(started.upload)
        except BaseException:
            # Whoever named the request sends it again, and goes on with the same upload.
            if not query.get("requestId"):
                await asyncio.shield(self._given_up(started.upload.name))
            raise

    async def _filled(self, upload: pb.Upload) -> pb.FinishUploadResponse:
        complete = False
        number = 0
        async with aclosing(self._parts(upload.part_bytes)) as parts:
            async for content in parts:
                number += 1
                complete = complete or not await self._put(upload.name, number, content)
        finished: pb.FinishUploadResponse = await self._evidence.FinishUpload(
            pb.FinishUploadRequest(name=upload.name), metadata=self._metadata, timeout=FINISH_TIMEOUT_S
        )
        if finished.evidence.sha256 != self._hash.digest():
            text = "requestId: was used for another file"
            raise WrongState(Reason.REQUEST_ID_REUSED, text, name=finished.evidence.name)
        return finished

    async def _put(self, name: str, number: int, content: bytes) -> bool:
        """Send a part; tell whether more are wanted: not when a request before this one has sent them all."""
        part = pb.UploadPartRequest(name=name, number=number, content=content)
        try:
            await self._evidence.UploadPart(part, metadata=self._metadata, timeout=CALL_TIMEOUT_S)
        except (NotFound, WrongState) as error:
            if error.reason not in {Reason.UPLOAD_NOT_FOUND, Reason.UPLOAD_CLOSED}:
                raise
            return False
        return True

    async def _parts(self, size: int) -> AsyncGenerator[bytes, None]:
        """Yield the body in parts of `size` bytes, but for the last."""
        waiting = bytearray()
        async for chunk in self._request.stream():
            self._hash.update(chunk)
            waiting += chunk
            while len(waiting) >= size:
                yield bytes(waiting[:size])
                del waiting[:size]
        if waiting:
            yield bytes(waiting)

    async def _given_up(self, name: str) -> None:
        with suppress(DomainError, RemoteFaultError):  # it goes by itself after a day
            await self._evidence.DeleteUpload(
                pb.DeleteUploadRequest(name=name), metadata=self._metadata, timeout=CALL_TIMEOUT_S
            )


async def _read_out(request: Request) -> None:
    with suppress(RuntimeError):  # it was read to its end
        async for _ in request.stream():
            pass


async def _cut(first: bytes, answers: Any, span: Span) -> AsyncIterator[bytes]:
    """Yield the bytes of a span; what comes behind it is not read."""
    at, content = 0, first
    try:
        while at < span.end:
            if wanted := content[max(0, span.start - at) : span.end - at]:
                yield wanted
            at += len(content)
            if at < span.end:
                content = (await anext(answers)).content
    finally:
        await answers.aclose()


def _metadata(request: Request) -> Metadata:
    """The caller's token and trace go on; nothing of the gateway's own does."""
    names = ("authorization", "traceparent")
    return [(name, value) for name in names if (value := request.headers.get(name))]


def _headers(evidence: pb.Evidence) -> dict[str, str]:
    kind = evidence.media_type.rpartition("/")[2]
    name = quote(evidence.file_name, safe="")
    return {
        "content-type": evidence.media_type,
        # Never shown by itself in the place of a page. RFC 6266, section 4.3: the second name has all characters.
        "content-disposition": f"attachment; filename=\"evidence.{kind}\"; filename*=UTF-8''{name}",
        "content-security-policy": _SANDBOX,
        "etag": f'"{evidence.sha256.hex()}"',
        "accept-ranges": "bytes",
        # It never changes, but whether somebody may read it does.
        "cache-control": "private, no-cache",
    }


def _span(request: Request, etag: str, size: int) -> Span | None:
    condition = request.headers.get("if-range", "")
    if condition and condition != etag:
        return None
    return asked_span(request.headers.get("range", ""), size)


def _tags(header: str) -> set[str]:
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}


def _busy() -> Response:
    answer = refusal(503, 14, "TOO_MANY_REQUESTS", "too many files are on their way now")
    answer.headers["retry-after"] = str(RETRY_AFTER_S)
    return answer
