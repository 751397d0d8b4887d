"""The audit query: the second half of IdentityService. Every service keeps its own log; here they are read together."""

from collections.abc import Callable, Mapping

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from libs import paging
from libs.access import current_caller
from libs.audit_chain import rfc3339
from libs.audit_export import Seal
from libs.errors import Invalid
from libs.tx import Transactions, Tx
from quintet.audit.v1 import audit_pb2
from quintet.audit.v1.audit_pb2_grpc import AuditServiceStub
from quintet.identity.v1 import identity_pb2, identity_pb2_grpc

# One service is asked for so many entries at a time, and the collecting stops at so many bytes: whatever stands in the
# entries, an answer stays within what one message may have.
ENTRIES_AT_ONCE = 100
PAGE_BYTES = 1024 * 1024
VERIFY_TIMEOUT_S = 110.0
QUERY = "identity.audit.query"
DIGEST_BYTES = 32

# The channel to each part of the node, with identity's own token.
Parts = Mapping[str, grpc.aio.Channel]


class AuditMethods(identity_pb2_grpc.IdentityServiceServicer):
    """The methods of IdentityService that are about the logs."""

    def __init__(self, parts: Parts, transactions: Transactions, node_key: Callable[[], Ed25519PrivateKey]) -> None:
        """`node_key` gives the key that seals exports."""
        self._logs = {part: AuditServiceStub(channel) for part, channel in sorted(parts.items())}
        self._audited = transactions
        self._node_key = node_key

    async def QueryAudit(
        self, request: identity_pb2.QueryAuditRequest, _context: object
    ) -> identity_pb2.QueryAuditResponse:
        current_caller().require(QUERY)
        parts = self._asked(request.part)
        listed = f"audit {request.part} {request.resource} {request.actor}"
        start = paging.after(request.page_token, str, str, of=listed)
        part, token = start or (parts[0], "")
        left = [each for each in parts if each >= part]
        size = paging.size(request.page_size)
        entries: list[audit_pb2.AuditEntry] = []
        collected = 0
        while left and len(entries) < size and collected < PAGE_BYTES:
            response = await self._logs[left[0]].ListAuditEntries(
                audit_pb2.ListAuditEntriesRequest(
                    page_size=min(ENTRIES_AT_ONCE, size - len(entries)),
                    page_token=token,
                    resource=request.resource,
                    actor=request.actor,
                )
            )
            entries.extend(response.entries)
            collected += response.ByteSize()
            token = response.next_page_token
            if not token:
                left.pop(0)
        next_page = _token(left[0], token, listed) if left else ""
        return identity_pb2.QueryAuditResponse(entries=entries, next_page_token=next_page)

    async def VerifyAudit(
        self, _request: identity_pb2.VerifyAuditRequest, _context: object
    ) -> identity_pb2.VerifyAuditResponse:
        current_caller().require(QUERY)
        response = identity_pb2.VerifyAuditResponse(verified=True)
        # One after the other: each reads its whole log, and all share one database.
        for stub in self._logs.values():
            log = await stub.VerifyAuditLog(audit_pb2.VerifyAuditLogRequest(), timeout=VERIFY_TIMEOUT_S)
            response.logs.append(log)
            response.verified = response.verified and log.verified
            response.entries += log.entries
        return response

    async def GetAuditCheckpoint(
        self, request: identity_pb2.GetAuditCheckpointRequest, _context: object
    ) -> identity_pb2.GetAuditCheckpointResponse:
        asked = audit_pb2.GetCheckpointRequest(at_once=request.at_once)
        found = await self._log(request.part).GetCheckpoint(asked)
        response = identity_pb2.GetAuditCheckpointResponse()
        if found.HasField("checkpoint"):
            response.checkpoint.CopyFrom(found.checkpoint)
        return response

    async def ListAuditCheckpoints(
        self, request: identity_pb2.ListAuditCheckpointsRequest, _context: object
    ) -> identity_pb2.ListAuditCheckpointsResponse:
        asked = audit_pb2.ListCheckpointsRequest(page_size=request.page_size, page_token=request.page_token)
        found = await self._log(request.part).ListCheckpoints(asked)
        return identity_pb2.ListAuditCheckpointsResponse(
            checkpoints=found.checkpoints, next_page_token=found.next_page_token
        )

    async def GetAuditInclusionProof(
        self, request: identity_pb2.GetAuditInclusionProofRequest, _context: object
    ) -> identity_pb2.GetAuditInclusionProofResponse:
        asked = audit_pb2.GetInclusionProofRequest(sequence=request.sequence, size=request.size)
        return identity_pb2.GetAuditInclusionProofResponse(proof=await self._log(request.part).GetInclusionProof(asked))

    async def GetAuditConsistencyProof(
        self, request: identity_pb2.GetAuditConsistencyProofRequest, _context: object
    ) -> identity_pb2.GetAuditConsistencyProofResponse:
        asked = audit_pb2.GetConsistencyProofRequest(first=request.first, second=request.second)
        return identity_pb2.GetAuditConsistencyProofResponse(
            proof=await self._log(request.part).GetConsistencyProof(asked)
        )

    async def SealAuditExport(
        self, request: identity_pb2.SealAuditExportRequest, _context: object
    ) -> identity_pb2.SealAuditExportResponse:
        caller = current_caller()
        caller.require(QUERY)
        if len(request.digest) != DIGEST_BYTES:
            raise Invalid("digest", f"must have {DIGEST_BYTES} bytes")

        async def work(tx: Tx) -> str:
            tx.audit("identity.audit.export", "audit", lines=request.lines, digest=request.digest.hex())
            made = Seal(self._audited.node, caller.subject, rfc3339(tx.now), request.lines, request.digest)
            return made.signed(self._node_key())

        return identity_pb2.SealAuditExportResponse(seal=await self._audited.run(work))

    def _log(self, part: str) -> AuditServiceStub:
        """Return the log of a part, for whom may read the logs of the whole node. Raises Invalid for another part."""
        current_caller().require(QUERY)
        return self._logs[self._asked(part)[0]]

    def _asked(self, part: str) -> list[str]:
        if part and part not in self._logs:
            raise Invalid("part", f"must be one of {', '.join(self._logs)}")
        return [part] if part else list(self._logs)


def _token(part: str, token: str, listed: str) -> str:
    """Return a page token: in which part's log to go on, and that part's own token."""
    position = (part, token)
    return paging.page([position, position], 1, lambda keys: keys, of=listed)[1]
