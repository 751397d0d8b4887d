"""How evidence is handled in tests: an event that asks for photos, uploads, and the step that shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quintet.common.v1 import common_pb2
from quintet.management.v1 import evidence_pb2, loops_pb2
from quintet.management.v1 import management_pb2 as pb
from services.management.evidence.model_evidence import PART_BYTES_MAX
from services.management.tests.samples import WORKS

if TYPE_CHECKING:
    from services.management.tests.conftest import Node

HANDLER, OTHER, OFFICER = "people/handler.works", "people/handler.works.2", "people/duty-officer"
JPEG = b"\xff\xd8\xff\xe0" + b"a wall" * 100
PDF = b"%PDF-1.7\n" + b"a plan" * 100
LOOP = """
name: loops/shown
title: {zh: 留痕, en: Shown}
initial: found
states: [found, done]
open_states: [found]
routes_at_once: true
actions:
  - action: dispose
    title: {zh: 处置, en: Dispose}
    from: [found]
    to: done
    permission: management.events.dispose
    needs_photos: 1
  - action: reopen
    title: {zh: 重开, en: Open again}
    from: [done]
    to: found
    permission: management.events.dispose
"""


async def opened(node: Node, *needs: pb.EvidenceNeed, zone: str = "us-ca-sf-d6") -> str:
    """An event that the public works have, of a type with needs of its own."""
    await node.call("PutLoop", loops_pb2.PutLoopRequest(definition=LOOP), "people/admin")
    wanted = pb.EventType(
        name="eventTypes/wall",
        title=common_pb2.LocalText(zh="墙", en="Wall"),
        loop="loops/shown",
        deadline=pb.Allowance(minutes=60),
        routes=[pb.Route(zone=node.zones.root, organisation=WORKS)],
        evidence=needs,
    )
    await node.call("PutEventType", pb.PutEventTypeRequest(event_type=wanted), "people/admin")
    request = pb.OpenEventRequest(parent=f"zones/{zone}", type="eventTypes/wall", description="a wall")
    name: str = (await node.call("OpenEvent", request, OFFICER)).event.name
    return name


async def start(node: Node, event: str, size: int, subject: str = HANDLER, **more: Any) -> evidence_pb2.Upload:
    request = evidence_pb2.StartUploadRequest(parent=event, file_name="照片.jpg", size_bytes=size, **more)
    upload: evidence_pb2.Upload = (await node.call("StartUpload", request, subject)).upload
    return upload


async def part(node: Node, upload: str, number: int, content: bytes, subject: str = HANDLER) -> list[int]:
    request = evidence_pb2.UploadPartRequest(name=upload, number=number, content=content)
    return list((await node.call("UploadPart", request, subject)).missing)


async def finish(node: Node, upload: str, subject: str = HANDLER) -> evidence_pb2.Evidence:
    request = evidence_pb2.FinishUploadRequest(name=upload)
    evidence: evidence_pb2.Evidence = (await node.call("FinishUpload", request, subject)).evidence
    return evidence


async def uploaded(node: Node, event: str, content: bytes = JPEG, subject: str = HANDLER) -> str:
    upload = await start(node, event, len(content), subject)
    for number in range(1, upload.parts + 1):
        await part(node, upload.name, number, content[(number - 1) * PART_BYTES_MAX :][:PART_BYTES_MAX], subject)
    return (await finish(node, upload.name, subject)).name


async def read(node: Node, name: str, subject: str = HANDLER) -> tuple[evidence_pb2.Evidence, bytes]:
    found: list[evidence_pb2.GetEvidenceResponse] = [
        answer async for answer in node.begin("GetEvidence", evidence_pb2.GetEvidenceRequest(name=name), subject)
    ]
    assert not any(answer.HasField("evidence") for answer in found[1:])
    return found[0].evidence, b"".join(answer.content for answer in found)


async def dispose(node: Node, event: str, *evidence: str) -> pb.Event:
    request = pb.AdvanceEventRequest(name=event, action="dispose", evidence=evidence)
    after: pb.Event = (await node.call("AdvanceEvent", request, HANDLER)).event
    return after


async def listed(node: Node, event: str, subject: str = OFFICER) -> list[evidence_pb2.Evidence]:
    request = evidence_pb2.ListEvidenceRequest(parent=event, page_size=1)
    found: list[evidence_pb2.Evidence] = []
    while True:
        page = await node.call("ListEvidence", request, subject)
        found += page.evidence
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found
