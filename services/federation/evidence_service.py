"""FederationService, the part about evidence: cosignatures, checkpoints of peers, signing keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs import names, paging
from quintet.federation.v1 import evidence_pb2, link_pb2
from services.federation import cosign_store, receipts_store, trust_store

if TYPE_CHECKING:
    from datetime import datetime

    from libs.tx import Transactions, Tx
    from services.federation.cosign import Cosigning
    from services.federation.cosign_store import Held, Offered
    from services.federation.key_ring import SigningKey
    from services.federation.receipts_store import Kept
    from services.federation.trust import Trust

PEER = "peers/{peer}"
LANES: dict[int, str] = {link_pb2.LANE_CONTROL: "control", link_pb2.LANE_FACTS: "facts", link_pb2.LANE_BULK: "bulk"}
LIST_DEFAULT = 50
LIST_MAX = 500


class EvidenceHandler:
    """What the methods about evidence do."""

    def __init__(self, transactions: Transactions, trust: Trust, cosigning: Cosigning) -> None:
        self._transactions = transactions
        self._trust = trust
        self._cosigning = cosigning

    async def cosignatures(
        self, request: evidence_pb2.ListCosignaturesRequest
    ) -> evidence_pb2.ListCosignaturesResponse:
        peer = names.parse(request.peer, PEER, field="peer")["peer"] if request.peer else ""
        listed = f"cosignatures {peer} {request.part}"
        after = paging.after(request.page_token, str, str, int, of=listed)
        size = paging.size(request.page_size, default=LIST_DEFAULT, most=LIST_MAX)
        rows = await self._transactions.read(lambda conn: cosign_store.page(conn, peer, request.part, after, size + 1))
        page, token = paging.page(rows, size, lambda row: (row.peer, row.part, row.size), of=listed)
        return evidence_pb2.ListCosignaturesResponse(
            cosignatures=[_cosignature(row) for row in page], next_page_token=token
        )

    async def checkpoints(
        self, request: evidence_pb2.ListPeerCheckpointsRequest
    ) -> evidence_pb2.ListPeerCheckpointsResponse:
        listed = "peer checkpoints"
        after = paging.after(request.page_token, str, str, of=listed)
        size = paging.size(request.page_size, default=LIST_DEFAULT, most=LIST_MAX)
        rows = await self._transactions.read(lambda conn: cosign_store.all_held(conn, after, size + 1))
        page, token = paging.page(rows, size, lambda row: (row.peer, row.part), of=listed)
        return evidence_pb2.ListPeerCheckpointsResponse(
            checkpoints=[_checkpoint(row) for row in page], next_page_token=token
        )

    async def forget(
        self, request: evidence_pb2.ForgetPeerCheckpointRequest
    ) -> evidence_pb2.ForgetPeerCheckpointResponse:
        node = names.parse(request.peer, PEER, field="peer")["peer"]

        async def work(tx: Tx) -> evidence_pb2.ForgetPeerCheckpointResponse:
            await self._cosigning.forget(tx, node, request.part, request.reason)
            return evidence_pb2.ForgetPeerCheckpointResponse()

        return await self._transactions.mutate(request, evidence_pb2.ForgetPeerCheckpointResponse, work)

    async def receipts(self, request: evidence_pb2.ListReceiptsRequest) -> evidence_pb2.ListReceiptsResponse:
        peer = names.parse(request.peer, PEER, field="peer")["peer"] if request.peer else ""
        listed = f"receipts {peer}"
        after = paging.after(request.page_token, str, str, int, int, of=listed)
        size = paging.size(request.page_size, default=LIST_DEFAULT, most=LIST_MAX)
        rows = await self._transactions.read(lambda conn: receipts_store.page(conn, peer, after, size + 1))
        page, token = paging.page(rows, size, lambda row: (row.peer, row.epoch, row.lane, row.sequence), of=listed)
        return evidence_pb2.ListReceiptsResponse(receipts=[_receipt(row) for row in page], next_page_token=token)

    async def keys(self, request: evidence_pb2.ListSigningKeysRequest) -> evidence_pb2.ListSigningKeysResponse:
        listed = "signing keys"
        after = paging.after(request.page_token, str, str, of=listed) or ("", "")
        size = paging.size(request.page_size, default=LIST_DEFAULT, most=LIST_MAX)
        await self._trust.newest()  # before the first list is made, not even the own key is known
        keys = await self._transactions.read(lambda conn: trust_store.keys_page(conn, after, size + 1))
        page, token = paging.page(keys, size, lambda key: (key.node, key.key_id), of=listed)
        return evidence_pb2.ListSigningKeysResponse(keys=[_key(key) for key in page], next_page_token=token)


def _key(key: SigningKey) -> evidence_pb2.SigningKey:
    described = evidence_pb2.SigningKey(node=key.node, key_id=key.key_id, key=key.key)
    for name in ("retired_at", "revoked_at"):
        value: datetime | None = getattr(key, name)
        if value is not None:
            getattr(described, name).FromDatetime(value)
    return described


def _cosignature(row: Offered) -> evidence_pb2.CheckpointCosignature:
    described = evidence_pb2.CheckpointCosignature(
        peer=f"peers/{row.peer}",
        part=row.part,
        size=row.size,
        statement=row.statement,
        key_id=row.peer_key_id,
        signature=row.cosignature,
        refusal=row.refusal,
    )
    if row.answered_at is not None:
        described.time.FromDatetime(row.answered_at)
    return described


def _receipt(row: Kept) -> evidence_pb2.PeerReceipt:
    described = evidence_pb2.PeerReceipt(
        peer=f"peers/{row.peer}",
        epoch=row.epoch,
        lane=LANES.get(row.lane, ""),
        sequence=row.sequence,
        receipt=row.receipt,
        key_id=row.key_id,
        signature=row.signature,
    )
    described.time.FromDatetime(row.received_at)
    return described


def _checkpoint(row: Held) -> evidence_pb2.PeerCheckpoint:
    described = evidence_pb2.PeerCheckpoint(
        peer=f"peers/{row.peer}",
        part=row.part,
        size=row.size,
        statement=row.statement,
        key_id=row.key_id,
        signature=row.signature,
        fault=row.forked,
    )
    described.time.FromDatetime(row.cosigned_at)
    return described
