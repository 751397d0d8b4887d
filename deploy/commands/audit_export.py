"""Collects the evidence of a node into one file, page by page: what is held in memory does not grow with the logs."""

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC
from typing import IO, TYPE_CHECKING, Any

from deploy.commands.common import UsageError
from libs.audit_export import VERSION, line
from libs.config import PARTS
from libs.reasons import Reason

if TYPE_CHECKING:
    from quintet.audit.v1.audit_pb2 import AuditEntry, Checkpoint
    from quintet.federation.v1.federation_pb2_grpc import FederationServiceStub
    from quintet.identity.v1.identity_pb2_grpc import IdentityServiceStub

ENTRIES_PER_PAGE = 1_000
LIST_PER_PAGE = 500
CALL_TIMEOUT_S = 60.0

Page = Callable[[str], Awaitable[Any]]


@dataclass(frozen=True)
class Services:
    """Who is asked, and with which metadata."""

    identity: "IdentityServiceStub"
    federation: "FederationServiceStub"
    metadata: tuple[tuple[str, str], ...]

    async def ask(self, method: Any, request: Any) -> Any:
        return await method(request, timeout=CALL_TIMEOUT_S, metadata=self.metadata)


class _File:
    """Writes lines and remembers their number and digest."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._hash = hashlib.sha256()
        self.lines = 0

    def add(self, kind: str, **fields: Any) -> None:
        text = line(kind, **fields)
        self._hash.update(text)
        self._out.write(text)
        self.lines += 1

    def digest(self) -> bytes:
        return self._hash.digest()


async def export(services: Services, out: IO[bytes]) -> int:
    """Write the export of a node; return the number of entries. QuintetError and AioRpcError pass.

    Each log ends at a checkpoint that is signed now, so that every entry in the file is under a signature.
    """
    from quintet.identity.v1 import identity_pb2 as i

    file = _File(out)
    newest: dict[str, Checkpoint] = {}
    for part in sorted(PARTS):
        found = await _newest(services, part)
        if found.HasField("checkpoint"):
            newest[part] = found.checkpoint
    if not newest:
        raise UsageError("the logs are empty: there is nothing to export")
    node = json.loads(next(iter(newest.values())).statement)["node"]
    file.add("export", version=VERSION, node=node, parts={part: newest[part].size for part in newest})
    await _keys(services, file)
    entries = 0
    for part, checkpoint in newest.items():
        entries += await _log(services, file, part, checkpoint.size)
    await _cosignatures(services, file, newest)
    await _peer_checkpoints(services, file)
    await _receipts(services, file)
    sealed = await services.ask(
        services.identity.SealAuditExport, i.SealAuditExportRequest(digest=file.digest(), lines=file.lines)
    )
    out.write(sealed.seal.encode() + b"\n")
    return entries


async def _newest(services: Services, part: str) -> Any:
    """The newest checkpoint of a log, signed now where that is possible: a log that was torn is exported as it is."""
    from quintet.identity.v1 import identity_pb2 as i
    from quintet_sdk import QuintetError

    method = services.identity.GetAuditCheckpoint
    try:
        return await services.ask(method, i.GetAuditCheckpointRequest(part=part, at_once=True))
    except QuintetError as error:
        if error.reason != Reason.AUDIT_LOG_TORN:
            raise
        return await services.ask(method, i.GetAuditCheckpointRequest(part=part))


async def _log(services: Services, file: _File, part: str, size: int) -> int:
    """Write the first `size` entries of a log, each checkpoint behind the entry that it was signed for."""
    from quintet.identity.v1 import identity_pb2 as i

    checkpoints = _listed(
        lambda token: services.ask(
            services.identity.ListAuditCheckpoints,
            i.ListAuditCheckpointsRequest(part=part, page_size=ENTRIES_PER_PAGE, page_token=token),
        ),
        "checkpoints",
    )
    entries = _listed(
        lambda token: services.ask(
            services.identity.QueryAudit,
            i.QueryAuditRequest(part=part, page_size=ENTRIES_PER_PAGE, page_token=token),
        ),
        "entries",
    )
    following = await anext(checkpoints, None)
    written = 0
    async for entry in entries:
        if entry.sequence > size:
            break
        file.add("entry", document=_document(entry), hash=entry.hash.hex(), previous_hash=entry.previous_hash.hex())
        written += 1
        while following is not None and following.size <= entry.sequence:
            file.add("checkpoint", **_signed(following))
            following = await anext(checkpoints, None)
    return written


async def _keys(services: Services, file: _File) -> None:
    from quintet.federation.v1 import evidence_pb2 as f

    async for key in _listed(
        lambda token: services.ask(
            services.federation.ListSigningKeys, f.ListSigningKeysRequest(page_size=LIST_PER_PAGE, page_token=token)
        ),
        "keys",
    ):
        file.add("key", node=key.node, key_id=key.key_id, key=key.key.hex())


async def _cosignatures(services: Services, file: _File, newest: dict[str, "Checkpoint"]) -> None:
    """Write what peers have signed of the logs as far as they are exported; their refusals they keep themselves."""
    from quintet.federation.v1 import evidence_pb2 as f

    async for found in _listed(
        lambda token: services.ask(
            services.federation.ListCosignatures, f.ListCosignaturesRequest(page_size=LIST_PER_PAGE, page_token=token)
        ),
        "cosignatures",
    ):
        # One that came after the export began is for the next.
        if found.signature and not (found.part in newest and found.size > newest[found.part].size):
            node = found.peer.removeprefix("peers/")
            signature = found.signature.hex()
            file.add("cosignature", node=node, statement=found.statement, key_id=found.key_id, signature=signature)


async def _peer_checkpoints(services: Services, file: _File) -> None:
    from quintet.federation.v1 import evidence_pb2 as f

    async for found in _listed(
        lambda token: services.ask(
            services.federation.ListPeerCheckpoints,
            f.ListPeerCheckpointsRequest(page_size=LIST_PER_PAGE, page_token=token),
        ),
        "checkpoints",
    ):
        file.add("peer_checkpoint", **_signed(found))


async def _receipts(services: Services, file: _File) -> None:
    from quintet.federation.v1 import evidence_pb2 as f

    async for found in _listed(
        lambda token: services.ask(
            services.federation.ListReceipts, f.ListReceiptsRequest(page_size=LIST_PER_PAGE, page_token=token)
        ),
        "receipts",
    ):
        signature = found.signature.hex()
        file.add("receipt", receipt=found.receipt.hex(), key_id=found.key_id, signature=signature)


async def _listed(page: Page, field: str) -> AsyncIterator[Any]:
    """All items of a list that comes in pages."""
    token = ""
    while True:
        found = await page(token)
        for item in getattr(found, field):
            yield item
        token = found.next_page_token
        if not token:
            return


def _signed(found: Any) -> dict[str, str]:
    return {"statement": found.statement, "key_id": found.key_id, "signature": found.signature.hex()}


def _document(entry: "AuditEntry") -> dict[str, Any]:
    """The content of an entry as it was hashed."""
    from google.protobuf.json_format import MessageToDict

    from libs.audit_chain import rfc3339

    return {
        "part": entry.part,
        "sequence": entry.sequence,
        "time": rfc3339(entry.time.ToDatetime(UTC)),
        "actor": entry.actor,
        "action": entry.action,
        "resource": entry.resource,
        "detail": MessageToDict(entry.detail),
        "trace_id": entry.trace_id,
    }
