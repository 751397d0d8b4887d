"""FederationService, the half about links: dead letters, and a new beginning after a restore."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from libs import db, names, paging
from libs.errors import DomainError, Reason, WrongState
from libs.ids import new_id
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import alarms, dead_letters, peers_store
from services.federation.lanes_store import LANE_NAMES
from services.federation.peers_service import PEER

if TYPE_CHECKING:
    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from services.federation.accept import Acceptor
    from services.federation.dead_letters import DeadLetter
    from services.federation.hub import Hub

LETTER = "peers/{peer}/deadLetters/{letter}"

log = structlog.get_logger()


class LinksHandler:
    """What the methods about links do."""

    def __init__(self, transactions: Transactions, acceptor: Acceptor, hub: Hub) -> None:
        self._transactions = transactions
        self._acceptor = acceptor
        self._hub = hub

    async def page(self, request: pb.ListPeerDeadLettersRequest) -> pb.ListPeerDeadLettersResponse:
        node = names.parse(request.peer, PEER, field="peer")["peer"]
        size = paging.size(request.page_size)
        after = paging.after(request.page_token, str, of=request.peer)
        last = after[0] if after else ""

        async def read(conn: Connection) -> list[DeadLetter]:
            await peers_store.get(conn, node)
            return await dead_letters.page(conn, node, last, size + 1)

        rows = await self._transactions.read(read)
        page, token = paging.page(rows, size, lambda row: (row.id,), of=request.peer)
        return pb.ListPeerDeadLettersResponse(dead_letters=map(_message, page), next_page_token=token)

    async def retry(self, request: pb.RetryPeerDeadLetterRequest) -> pb.RetryPeerDeadLetterResponse:
        """Apply an envelope again. Raises WrongState(STILL_FAILS), and keeps it, when it fails once more."""
        parts = names.parse(request.name, LETTER)

        async def work(tx: Tx) -> pb.RetryPeerDeadLetterResponse:
            letter = await dead_letters.lock(tx.conn, parts["peer"], parts["letter"])
            await self._acceptor.apply_again(tx, letter.peer, letter.lane, letter.sequence, letter.envelope)
            await dead_letters.remove(tx, letter)
            tx.audit("federation.dead_letters.retry", request.name, body=letter.body)
            return pb.RetryPeerDeadLetterResponse()

        try:
            return await self._transactions.mutate(request, pb.RetryPeerDeadLetterResponse, work)
        except Exception as error:
            if isinstance(error, DomainError) or db.is_away(error) or db.is_slow(error):
                raise
            failure = error
            log.warning("link.dead_letter_fails", name=request.name, error=repr(error))
            await self._transactions.run(lambda tx: self._failed_again(tx, request.name, failure))
            raise WrongState(Reason.STILL_FAILS, f"{request.name} could not be applied again") from error

    async def _failed_again(self, tx: Tx, name: str, error: Exception) -> None:
        parts = names.parse(name, LETTER)
        await dead_letters.failed_again(tx, await dead_letters.lock(tx.conn, parts["peer"], parts["letter"]), error)
        tx.audit("federation.dead_letters.retry_failed", name)

    async def discard(self, request: pb.DiscardPeerDeadLetterRequest) -> pb.DiscardPeerDeadLetterResponse:
        parts = names.parse(request.name, LETTER)

        async def work(tx: Tx) -> pb.DiscardPeerDeadLetterResponse:
            letter = await dead_letters.lock(tx.conn, parts["peer"], parts["letter"])
            await dead_letters.remove(tx, letter)
            tx.audit("federation.dead_letters.discard", request.name, reason=request.reason, body=letter.body)
            return pb.DiscardPeerDeadLetterResponse()

        return await self._transactions.mutate(request, pb.DiscardPeerDeadLetterResponse, work)

    async def resynchronise(self, request: pb.ResynchronisePeerRequest) -> pb.ResynchronisePeerResponse:
        """Begin a new life of the lanes to a peer, from what this node knows the peer to have."""
        node = names.parse(request.name, PEER)["peer"]

        async def work(tx: Tx) -> pb.ResynchronisePeerResponse:
            peer = await peers_store.get(tx.conn, node, lock=True)
            found = (await alarms.of_peers(tx.conn, [node]))[node]
            if not any(alarm.name == alarms.SEQUENCE_REVERSED for alarm in found):
                raise WrongState(Reason.WRONG_STATE, f"the lanes to {node} go on by themselves", peer=node)
            epoch = new_id()
            # The peer takes up the new life when it follows the one that it knows.
            await peers_store.set_epoch(tx.conn, node, epoch, peer.epoch_there or peer.epoch)
            tx.audit(
                "federation.peers.resynchronise", request.name, reason=request.reason, before=peer.epoch, epoch=epoch
            )
            tx.after_commit(lambda: self._hub.reopen(node))
            return pb.ResynchronisePeerResponse(epoch=epoch)

        return await self._transactions.mutate(request, pb.ResynchronisePeerResponse, work)


def _message(letter: DeadLetter) -> pb.PeerDeadLetter:
    found = pb.PeerDeadLetter(
        name=names.build(LETTER, peer=letter.peer, letter=letter.id),
        lane=LANE_NAMES[letter.lane],
        sequence=letter.sequence,
        contract=letter.contract,
        body=letter.body,
        size_bytes=len(letter.envelope),
        error=letter.error,
        attempts=letter.attempts,
    )
    found.received_at.FromDatetime(letter.received_at)
    return found
