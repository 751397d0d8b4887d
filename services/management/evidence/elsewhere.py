"""Evidence that another node keeps: fetched from there each time that somebody here opens it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from libs.access import current_caller
from libs.errors import Reason, WrongState
from libs.rules import most
from quintet.federation.v1 import federation_pb2
from quintet.management.v1 import evidence_pb2 as pb
from services.management.tiers import store_moves

if TYPE_CHECKING:
    from libs.db import Connection
    from quintet.federation.v1.federation_pb2_grpc import FederationServiceStub
    from services.management.model import Event

FETCH_TIMEOUT_S = 60.0
FILE_BYTES_MAX = most(pb.StartUploadRequest.DESCRIPTOR, "size_bytes")


class Elsewhere:
    """Asks federation, which asks the tiers below and above."""

    def __init__(self, federation: FederationServiceStub) -> None:
        self._federation = federation

    async def fetch(self, name: str, keeper: str) -> tuple[pb.Evidence, bytes]:
        """Return what evidence is and its bytes; `keeper` is the node that most likely keeps it.

        Raises NotFound when nobody keeps it, Away when a node that may keep it is away, Forbidden and WrongState when
        the charter does not allow it, and WrongState(EVIDENCE_DAMAGED) when what came is not what was uploaded.
        """
        request = federation_pb2.FetchEventEvidenceRequest(name=name, actor=current_caller().subject, keeper=keeper)
        evidence, content = pb.Evidence(), bytearray()
        async for part in self._federation.FetchEventEvidence(request, timeout=FETCH_TIMEOUT_S):
            if part.HasField("evidence"):
                evidence = part.evidence
            content += part.content
            if len(content) > FILE_BYTES_MAX:
                raise damaged(name)
        whole = bytes(content)
        if evidence.name != name or hashlib.sha256(whole).digest() != evidence.sha256:
            raise damaged(name)
        return evidence, whole


async def keeper_elsewhere(conn: Connection, event: Event, node: str) -> str:
    """Return another node that may keep evidence of an event, the likeliest; "" for none."""
    return event.node if event.node != node else await store_moves.last_home(conn, event.id)


def damaged(name: str) -> WrongState:
    """Return what is said of evidence whose bytes are not those that were uploaded."""
    text = f"what is kept of {name} is not what was uploaded"
    return WrongState(Reason.EVIDENCE_DAMAGED, text, name=name)
