"""The servicer of EvidenceService."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING

import structlog

from libs import paging
from libs.access import current_caller
from libs.errors import Exhausted, NotFound, Reason, WrongState
from libs.ids import new_id, short_id
from quintet.management.v1 import evidence_pb2 as pb
from quintet.management.v1.evidence_pb2_grpc import EvidenceServiceServicer
from services.management import store_events
from services.management.evidence import store_evidence
from services.management.evidence.convert_evidence import evidence_pb, upload_pb
from services.management.evidence.elsewhere import damaged, keeper_elsewhere
from services.management.evidence.model_evidence import (
    EVIDENCE_PER_EVENT_MAX,
    PART_BYTES_MAX,
    UPLOAD_NAME,
    UPLOADS_PER_PERSON_MAX,
    Evidence,
    Upload,
    media_type,
)
from services.management.service_base import READ, missing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from services.management.evidence.elsewhere import Elsewhere
    from services.management.evidence.objects import Objects
    from services.management.model import Event
    from services.management.service_base import Context

WRITE = "management.evidence.write"

log = structlog.get_logger()


class EvidenceServicer(EvidenceServiceServicer):
    """Photos and files of the events of one node."""

    def __init__(self, transactions: Transactions, objects: Objects, elsewhere: Elsewhere) -> None:
        self._transactions = transactions
        self._objects = objects
        self._elsewhere = elsewhere

    async def StartUpload(self, request: pb.StartUploadRequest, _context: Context) -> pb.StartUploadResponse:
        return await self._transactions.mutate(request, pb.StartUploadResponse, partial(self._start, request))

    async def _start(self, request: pb.StartUploadRequest, tx: Tx) -> pb.StartUploadResponse:
        event = await self._event(tx.conn, request.parent, WRITE)
        if event.node != self._transactions.node:
            text = f"{event.name} is handled by node {event.node}"
            raise WrongState(Reason.NOT_AUTHORITATIVE, text, name=event.name, node=event.node)
        subject = current_caller().subject
        if await store_evidence.count(tx.conn, event.id) >= EVIDENCE_PER_EVENT_MAX:
            raise Exhausted(Reason.QUOTA, f"{event.name} has {EVIDENCE_PER_EVENT_MAX} pieces of evidence")
        if await store_evidence.count_uploads(tx.conn, subject) >= UPLOADS_PER_PERSON_MAX:
            raise Exhausted(Reason.QUOTA, f"{subject} has {UPLOADS_PER_PERSON_MAX} uploads to finish first")
        identifier = short_id()
        upload = Upload(
            id=0,
            name=UPLOAD_NAME.format(event=event.name, id=identifier),
            event_id=event.id,
            object=_object_name(),
            file_name=request.file_name,
            size_bytes=request.size_bytes,
            started_by=subject,
            started_at=tx.now,
        )
        await store_evidence.insert_upload(tx.conn, upload)
        tx.audit("management.evidence.start", upload.name, size_bytes=upload.size_bytes)
        return pb.StartUploadResponse(upload=upload_pb(upload))

    async def UploadPart(self, request: pb.UploadPartRequest, _context: Context) -> pb.UploadPartResponse:
        async def put(tx: Tx) -> pb.UploadPartResponse:
            upload = await self._upload(tx.conn, request.name)
            upload.check_part(request.number, request.content)
            there = await store_evidence.put_part(tx.conn, upload, request.number, request.content)
            return pb.UploadPartResponse(missing=sorted(set(range(1, upload.parts + 1)) - set(there)))

        return await self._transactions.run(put)

    async def FinishUpload(self, request: pb.FinishUploadRequest, _context: Context) -> pb.FinishUploadResponse:
        name = request.name.replace("/uploads/", "/evidence/")
        done = await self._transactions.look(lambda conn: store_evidence.get(conn, name))
        if done is None or done.uploaded_by != current_caller().subject:
            upload, content = await self._transactions.run(partial(self._close, request.name))
            kind = media_type(content)
            # The file first: evidence whose bytes are nowhere must never be, and a file without evidence is removed.
            await self._objects.put(upload.object, content)
            done = await self._transactions.run(partial(_finish, upload, kind, content))
            if done is None:  # its time was over meanwhile, and nobody looks for the file any more
                await self._objects.delete(upload.object)
                raise _no_upload(upload.name)
        return pb.FinishUploadResponse(evidence=evidence_pb(done))

    async def DeleteUpload(self, request: pb.DeleteUploadRequest, _context: Context) -> pb.DeleteUploadResponse:
        async def drop(tx: Tx) -> pb.DeleteUploadResponse:
            upload = await self._upload(tx.conn, request.name)
            await store_evidence.give_up(tx.conn, upload)
            tx.audit("management.evidence.give_up", upload.name)
            return pb.DeleteUploadResponse()

        return await self._transactions.run(drop)

    async def GetEvidence(
        self, request: pb.GetEvidenceRequest, _context: Context
    ) -> AsyncIterator[pb.GetEvidenceResponse]:
        async def read(conn: Connection) -> tuple[Evidence | None, str]:
            event = await self._event(conn, request.name.rpartition("/evidence/")[0], READ)
            evidence = await store_evidence.get(conn, request.name)
            return evidence, "" if evidence else await keeper_elsewhere(conn, event, self._transactions.node)

        evidence, keeper = await self._transactions.read(read)
        described: pb.Evidence | None
        if evidence is not None:
            described, content = evidence_pb(evidence), await self._content(evidence)
        elif keeper:
            described, content = await self._elsewhere.fetch(request.name, keeper)
        else:
            raise _no_evidence(request.name)
        for part in _parts(content):
            yield pb.GetEvidenceResponse(evidence=described, content=part)
            described = None

    async def ReadForPeer(
        self, request: pb.ReadForPeerRequest, _context: Context
    ) -> AsyncIterator[pb.ReadForPeerResponse]:
        evidence = await self._transactions.look(lambda conn: store_evidence.get(conn, request.name))
        if evidence is None:
            raise _no_evidence(request.name)
        content = await self._content(evidence)
        described: pb.Evidence | None = evidence_pb(evidence)
        for part in _parts(content):
            yield pb.ReadForPeerResponse(evidence=described, content=part)
            described = None

    async def ListEvidence(self, request: pb.ListEvidenceRequest, _context: Context) -> pb.ListEvidenceResponse:
        size = paging.size(request.page_size)
        of = f"evidence {request.parent}"
        after = paging.after(request.page_token, int, of=of)

        async def read(conn: Connection) -> list[Evidence]:
            event = await self._event(conn, request.parent, READ)
            return await store_evidence.list_evidence(conn, event.id, after=after[0] if after else 0, limit=size + 1)

        page, token = paging.page(await self._transactions.read(read), size, lambda found: (found.id,), of=of)
        return pb.ListEvidenceResponse(evidence=[evidence_pb(each) for each in page], next_page_token=token)

    async def _content(self, evidence: Evidence) -> bytes:
        """Return the bytes of evidence that this node keeps. Raises WrongState when they are not what was uploaded."""
        content = await self._objects.get(evidence.object)
        if content is None or hashlib.sha256(content).digest() != evidence.sha256:
            log.error("evidence.damaged", name=evidence.name, object=evidence.object, there=content is not None)
            raise damaged(evidence.name)
        return content

    async def _event(self, conn: Connection, name: str, permission: str) -> Event:
        """Return an event for which the caller has a permission. Raises NotFound and Forbidden."""
        found = await store_events.get(conn, name)
        if found is None:
            raise missing(name)
        event, _ = found
        current_caller().require(permission, zone=event.zone, organisation=event.handlers)
        return event

    async def _upload(self, conn: Connection, name: str) -> Upload:
        """Return an upload of the caller, locked. Raises Forbidden, and NotFound for somebody else's, too."""
        upload = await store_evidence.lock_upload(conn, name)
        if upload is None or upload.started_by != current_caller().subject:
            raise _no_upload(name)
        await self._event(conn, name.rpartition("/uploads/")[0], WRITE)
        return upload

    async def _close(self, name: str, tx: Tx) -> tuple[Upload, bytes]:
        """Return an upload of the caller, closed to more parts, and its bytes. Raises WrongState while some lack."""
        upload = await self._upload(tx.conn, name)
        parts = await store_evidence.parts(tx.conn, upload)
        if len(parts) < upload.parts:
            text = f"{upload.parts - len(parts)} parts of {upload.name} are still to come"
            raise WrongState(Reason.UPLOAD_INCOMPLETE, text, name=upload.name)
        await store_evidence.close(tx.conn, upload)
        return upload, b"".join(parts)


async def _finish(upload: Upload, kind: str, content: bytes, tx: Tx) -> Evidence | None:
    """Make evidence of an upload whose file is kept; return it, None when the upload was abandoned."""
    if not await store_evidence.take_upload(tx.conn, upload):
        return await store_evidence.get(tx.conn, upload.evidence)  # of somebody who was quicker with the same
    evidence = Evidence(
        name=upload.evidence,
        object=upload.object,
        file_name=upload.file_name,
        media_type=kind,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).digest(),
        uploaded_by=upload.started_by,
        uploaded_at=tx.now,
    )
    await store_evidence.insert(tx.conn, upload.event_id, evidence)
    tx.audit("management.evidence.add", evidence.name, media_type=kind, sha256=evidence.sha256.hex())
    return evidence


def _object_name() -> str:
    """Return a name that no other process makes either: names of uploads are unique in their event only."""
    unique = new_id().replace("-", "")
    # The digits at the end are chance: folders fill evenly.
    return f"{unique[-2:]}/{unique}"


def _parts(content: bytes) -> Iterator[bytes]:
    return (content[start : start + PART_BYTES_MAX] for start in range(0, len(content), PART_BYTES_MAX))


def _no_evidence(name: str) -> NotFound:
    return NotFound(Reason.EVIDENCE_NOT_FOUND, f"{name} does not exist", name=name)


def _no_upload(name: str) -> NotFound:
    return NotFound(Reason.UPLOAD_NOT_FOUND, f"{name} does not exist, or its time is over", name=name)
