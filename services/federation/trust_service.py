"""FederationService, the half about trust: signed lists, and another signing key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs import names, paging
from libs.errors import NotFound, Reason
from quintet.federation.v1 import trust_pb2
from services.federation import trust_store

if TYPE_CHECKING:
    from libs.tx import Transactions, Tx
    from services.federation.rotation import Rotation
    from services.federation.trust import Trust
    from services.federation.trust_guard import TrustGuard

TRUST_LIST = "trustLists/{node}"
# A list may have hundreds of peers.
LIST_DEFAULT = 20
LIST_MAX = 100


class TrustHandler:
    """What the methods about trust do."""

    def __init__(self, transactions: Transactions, trust: Trust, rotation: Rotation, guard: TrustGuard) -> None:
        self._transactions = transactions
        self._trust = trust
        self._rotation = rotation
        self._guard = guard

    async def rotate_key(self, request: trust_pb2.RotateSigningKeyRequest) -> trust_pb2.RotateSigningKeyResponse:
        async def work(tx: Tx) -> trust_pb2.RotateSigningKeyResponse:
            key, number = await self._rotation.begin(tx, request.reason, compromised=request.compromised)
            return trust_pb2.RotateSigningKeyResponse(key_id=key, number=number)

        return await self._transactions.mutate(request, trust_pb2.RotateSigningKeyResponse, work)

    async def rotate_root(self, request: trust_pb2.RotateRootRequest) -> trust_pb2.RotateRootResponse:
        async def work(tx: Tx) -> trust_pb2.RotateRootResponse:
            fingerprint, number = await self._rotation.begin_root(tx, request.reason)
            return trust_pb2.RotateRootResponse(root_fingerprint=fingerprint, number=number)

        return await self._transactions.mutate(request, trust_pb2.RotateRootResponse, work)

    async def accept(self, request: trust_pb2.AcceptTrustListRequest) -> trust_pb2.AcceptTrustListResponse:
        async def work(tx: Tx) -> trust_pb2.AcceptTrustListResponse:
            signed = await self._guard.accept(tx, request.reason, request.above)
            return trust_pb2.AcceptTrustListResponse(trust_list=_stored(self._trust.node, signed))

        answer = await self._transactions.mutate(request, trust_pb2.AcceptTrustListResponse, work)
        await self._guard.look()
        return answer

    async def get(self, request: trust_pb2.GetTrustListRequest) -> trust_pb2.GetTrustListResponse:
        node = names.parse(request.name, TRUST_LIST)["node"]
        await self._trust.newest()
        found = await self._transactions.read(lambda conn: trust_store.newest(conn, node))
        if found is None:
            raise NotFound(Reason.PEER_NOT_FOUND, f"no trust list of {node} is known", peer=node)
        return trust_pb2.GetTrustListResponse(trust_list=_stored(node, found))

    async def page(self, request: trust_pb2.ListTrustListsRequest) -> trust_pb2.ListTrustListsResponse:
        listed = "trust lists"
        after = paging.after(request.page_token, str, of=listed)
        size = paging.size(request.page_size, default=LIST_DEFAULT, most=LIST_MAX)
        await self._trust.newest()
        last = after[0] if after else ""
        found = await self._transactions.read(lambda conn: trust_store.page(conn, last, size + 1))
        page, token = paging.page(found, size, lambda one: (one[0],), of=listed)
        return trust_pb2.ListTrustListsResponse(
            trust_lists=[_stored(node, signed) for node, signed in page], next_page_token=token
        )


def _stored(node: str, signed: trust_pb2.SignedTrustList) -> trust_pb2.StoredTrustList:
    name = names.build(TRUST_LIST, node=node)
    return trust_pb2.StoredTrustList(name=name, list=trust_pb2.TrustList.FromString(signed.list), signed=signed)
