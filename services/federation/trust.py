"""Whom this node trusts with which keys: its own signed and numbered list, and the newest list of each peer.

A list is made anew in the transaction in which the node's keys or its peers change. A peer's list is taken when the
root that is pinned for this very peer has signed it and its number is higher than that of the one before: what was
replaced, retired or revoked does not come back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs.errors import DomainError, Exhausted, Forbidden, Reason
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import trust_pb2
from services.federation import alarms, peers_store, pki, trust_list, trust_store
from services.federation.key_ring import SigningKey

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from quintet.federation.v1 import link_pb2
    from services.federation.key_ring import KeyRing
    from services.federation.peers_store import Peer
    from services.federation.signing import NodeSigner

# Alarms about the list of a peer.
TRUST_ROLLBACK = Reason.TRUST_ROLLBACK.value
TRUST_LIST_REFUSED = "TRUST_LIST_REFUSED"
PEERS_MAX = 1_000
# With whom something is, or will be again, exchanged.
LISTED = {pb.PEER_STATE_ACTIVE: "ACTIVE", pb.PEER_STATE_SUSPENDED: "SUSPENDED"}
KINDS = {pb.PEER_KIND_PARENT: "PARENT", pb.PEER_KIND_CHILD: "CHILD", pb.PEER_KIND_PARTNER: "PARTNER"}


class Trust:
    """The lists of one node and of its peers."""

    def __init__(self, node: str, authority: pki.Authority, signer: NodeSigner, transactions: Transactions) -> None:
        self.node = node
        self.authority = authority
        self._signer = signer
        # Told that what is stated about a peer has changed, in the same transaction; set when the service is wired.
        self.peer_changed: Callable[[Tx, str], Awaitable[object]] = self.restate
        self._transactions = transactions

    # ------------------------------------------------------------------------------------------- its own list

    async def newest(self) -> trust_pb2.SignedTrustList:
        """Return this node's newest list, the first one made where there is none."""
        found = await self._transactions.read(lambda conn: trust_store.newest(conn, self.node))
        return await self._transactions.run(self.restate) if found is None else found

    async def restate(self, tx: Tx, peer: str = "") -> trust_pb2.SignedTrustList:
        """Make the list anew when keys, or one peer, have changed, and return the newest.

        What it says about other peers stays: their rows may have been changed by somebody else (see trust_guard.py).
        """
        await trust_store.lock(tx.conn)
        before = await trust_store.newest(tx.conn, self.node)
        if before is None:
            first = SigningKey(self.node, self._signer.key_id, self._signer.public_key, tx.now)
            await trust_store.keep_keys(tx.conn, [first])
        last = trust_pb2.TrustList.FromString(before.list) if before else trust_pb2.TrustList()
        self.authority.adopt(last.root_certificate)  # when that was interrupted
        present = await self.present(tx.conn)
        if before is not None:
            said = [each for each in last.peers if each.node != peer]
            said += [each for each in present.peers if each.node == peer]
            del present.peers[:]
            present.peers.extend(sorted(said, key=lambda each: each.node))
            if trust_list.same(last, present):
                return before
        return await self._keep(tx, present, last.number + 1)

    async def state_all(self, tx: Tx, number: int) -> trust_pb2.SignedTrustList:
        """Make a list of all that the database says now, with this number. The caller holds the lock."""
        return await self._keep(tx, await self.present(tx.conn), number)

    async def change_root(self, tx: Tx) -> trust_pb2.TrustList:
        """Make another root, and a list that it signs and that says how it follows the present one."""
        listed = trust_pb2.TrustList.FromString((await self.restate(tx)).list)
        if len(listed.handovers) >= trust_list.HANDOVERS_MAX:
            raise Exhausted(Reason.QUOTA, f"a node has at most {trust_list.HANDOVERS_MAX} roots after its first")
        following = self.authority.prepare(tx.now)
        listed.root_certificate = following.root_certificate
        del listed.handovers[:]
        listed.handovers.extend(_handovers(following))
        await self._keep(tx, listed, listed.number + 1, following)
        tx.after_commit(lambda: self.authority.adopt(listed.root_certificate))
        return listed

    async def _keep(
        self, tx: Tx, listed: trust_pb2.TrustList, number: int, authority: pki.Authority | None = None
    ) -> trust_pb2.SignedTrustList:
        listed.number = number
        listed.issued_at.FromDatetime(tx.now)
        signed = trust_list.sealed(authority or self.authority, listed)
        await trust_store.keep(tx.conn, self.node, number, signed, tx.now)
        return signed

    async def present(self, conn: Connection) -> trust_pb2.TrustList:
        """Return what a list of this moment says, without its number and time."""
        keys = await trust_store.keys(conn, self.node)
        peers = await peers_store.page(conn, "", PEERS_MAX)
        return trust_pb2.TrustList(
            node=self.node,
            root_certificate=self.authority.root_certificate,
            keys=[trust_list.listed_key(key) for key in keys],
            peers=[_listed(peer) for peer in peers if peer.state in LISTED],
            handovers=_handovers(self.authority),
        )

    # ---------------------------------------------------------------------------------------- lists of peers

    async def pin(self, tx: Tx, card: link_pb2.NodeCard, before: Peer | None) -> None:
        """Take the list in the card of a node that joins, in the place of any that it had under another root.

        Raises Forbidden(TRUST_ROLLBACK) for an older list under the same root.
        """
        if before is None or pki.fingerprint(before.root_certificate) != pki.fingerprint(card.root_certificate):
            await trust_store.forget_lists(tx.conn, card.node)
        listed = trust_list.opened(card.trust_list, card.root_certificate, card.node)
        await self._take(tx, card.trust_list, listed)

    async def learn(self, tx: Tx, peer: Peer, signed: trust_pb2.SignedTrustList, ring: KeyRing) -> int:
        """Take the list that a peer shows on a stream, and its keys into the stream's ring; return like `hear`."""
        number = await self.hear(tx, peer, signed)
        ring.replace(await trust_store.keys(tx.conn, peer.node))
        return number

    async def hear(self, tx: Tx, peer: Peer, signed: trust_pb2.SignedTrustList) -> int:
        """Take the list that a peer shows and return its number; 0, with an alarm, when it is refused.

        A list that is refused changes nothing.
        """
        try:
            listed = trust_list.opened(signed, peer.root_certificate, peer.node)
            await self._take(tx, signed, listed)
            await self._pin_next(tx, peer, listed.root_certificate)
        except DomainError as error:
            name = TRUST_ROLLBACK if error.reason == TRUST_ROLLBACK else TRUST_LIST_REFUSED
            text = f"the trust list that {peer.node} shows is refused: {error.message}"
            if await alarms.set_alarm(tx, peer=peer.node, name=name, text=text):
                tx.audit("federation.trust.refuse", f"peers/{peer.node}", reason=error.reason, text=error.message)
            return 0
        for name in (TRUST_ROLLBACK, TRUST_LIST_REFUSED):
            await alarms.clear_alarm(tx, peer=peer.node, name=name)
        return listed.number

    async def _pin_next(self, tx: Tx, peer: Peer, root: str) -> None:
        """Pin the root that has taken the place of the pinned one."""
        before, now = pki.fingerprint(peer.root_certificate), pki.fingerprint(root)
        if before != now:
            await peers_store.set_root(tx.conn, peer.node, root)
            tx.audit("federation.trust.pin_next", f"peers/{peer.node}", before=before, fingerprint=now)
            await self.peer_changed(tx, peer.node)

    async def _take(self, tx: Tx, signed: trust_pb2.SignedTrustList, listed: trust_pb2.TrustList) -> None:
        node = listed.node
        before = await trust_store.newest(tx.conn, node)
        if before is not None and before.list == signed.list:
            return  # as a rule: nobody needs to wait for anybody
        await trust_store.lock(tx.conn)
        before = await trust_store.newest(tx.conn, node)
        if before is not None:
            if before.list == signed.list:
                return
            known = trust_pb2.TrustList.FromString(before.list).number
            if listed.number == known:
                raise Forbidden(Reason.TRUST_ROLLBACK, f"there is another list with the number {known}")
            if listed.number < known:
                raise Forbidden(Reason.TRUST_ROLLBACK, f"its number is {listed.number}, after {known}")
        keys = trust_list.keys_of(listed)
        await trust_store.keep(tx.conn, node, listed.number, signed, tx.now)
        await trust_store.keep_keys(tx.conn, keys)
        await trust_store.retire_others(tx.conn, node, [key.key_id for key in keys], tx.now)
        tx.audit("federation.trust.take", f"peers/{node}", number=listed.number)


def _handovers(authority: pki.Authority) -> list[trust_pb2.RootHandover]:
    return [
        trust_pb2.RootHandover(root_certificate=each.certificate, signature=bytes.fromhex(each.signature))
        for each in authority.handovers
    ]


def _listed(peer: Peer) -> trust_pb2.TrustedPeer:
    return trust_pb2.TrustedPeer(
        node=peer.node,
        kind=KINDS.get(peer.kind, ""),  # type: ignore[call-overload]  # a number from the store
        state=LISTED[peer.state],  # type: ignore[index]
        zone=peer.zone,
        root_fingerprint=pki.fingerprint(peer.root_certificate),
    )
