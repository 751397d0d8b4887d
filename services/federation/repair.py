"""What is done about a difference between both ends' figures: sent again, stated again, or no longer counted."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from libs.errors import Invalid
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import contracts_store, metering_store, peers_store, refusals_store, settlement_store
from services.federation.contracts_store import Tally
from services.federation.metering import QUERY
from services.federation.refusals_store import NewRefusal
from services.federation.transfers import restate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from libs.tx import Tx
    from services.federation.metering_store import Noted, Settlement
    from services.federation.peers_store import Peer

PORTION_IDS_MAX = 2000
# So many ids stand in an audit entry; their number always does.
AUDIT_IDS_MAX = 100
ID_FIRST = UUID(int=0)


class Repair:
    """Mends one portion at a time, in the caller's transaction."""

    def __init__(self, node: str) -> None:
        self._node = node

    # ------------------------------------------------------------------------------------- at the receiver

    async def find(self, tx: Tx, found: Settlement, portion: link_pb2.SettlementPortion) -> link_pb2.SettlementFindings:
        """Hold a portion of ids against what was counted here."""
        theirs = set(parse_ids(portion.ids, "portion.ids"))
        after = _id(portion.after, "portion.after") if portion.after else ID_FIRST
        through = _id(portion.through, "portion.through") if portion.through else None
        # One more portion than can be listed: what is left over is found the next time.
        own = await metering_store.ids_after(
            tx.conn, found.contract, found.sender, found.day, after, 2 * PORTION_IDS_MAX, through
        )
        missing = sorted(theirs.difference(own))
        if missing:
            # What lies beyond the ids read here may have been counted all the same.
            counted = await metering_store.entries(tx.conn, found.contract, found.sender, found.day, missing)
            missing = [each for each in missing if each not in counted]
        unknown = [each for each in own if each not in theirs][:PORTION_IDS_MAX]
        return link_pb2.SettlementFindings(
            through=portion.through, missing=map(str, missing), unknown=map(str, unknown)
        )

    async def drop(self, tx: Tx, peer: Peer, found: Settlement, ids: Sequence[UUID]) -> Settlement:
        """Take out of the figures what the sender says it never sent; it is listed among the refusals, too."""
        gone = await metering_store.uncount(tx.conn, found.contract, found.sender, found.day, ids)
        if not gone:
            return found
        text = f"{len(gone)} facts of {found.day} were counted here but never sent by {found.sender}, first {gone[0]}"
        refusal = NewRefusal(found.contract, "NEVER_SENT", text, f"nodes/{peer.node}", self._node)
        await refusals_store.refuse(tx.conn, [refusal], tx.now)
        _audit(tx, found, "drop", never_sent=gone)
        return await metering_store.recount(tx.conn, found.contract, found.sender, found.day, tx.now) or found

    # --------------------------------------------------------------------------------------- at the sender

    async def mend(
        self,
        tx: Tx,
        peer: Peer,
        contract: pb.Contract,
        found: Settlement,
        findings: link_pb2.SettlementFindings,
    ) -> tuple[int, list[UUID]]:
        """Send again what was never received.

        Rows that are not kept any more are stated anew in their present form; they, and all that was withdrawn with its
        contract, are not counted any more. A fact under a charter that is not kept cannot be replaced: it stays
        counted, so that the difference, and the alarm, remain until people have looked at it.

        Returns how many facts that concerns, and which of the unknown ones were indeed never sent.
        """
        place = (found.contract, found.sender, found.day)
        missing = await metering_store.entries(tx.conn, *place, parse_ids(findings.missing, "findings.missing"))
        unknown = parse_ids(findings.unknown, "findings.unknown")
        known = await metering_store.entries(tx.conn, *place, unknown)
        never_sent = [each for each in unknown if each not in known]
        kept: list[tuple[Noted, bytes]] = []
        lost: list[Noted] = []
        stuck: list[Noted] = []
        active = (await contracts_store.active_with(tx.conn, peer.node)).get(contract.name)
        in_force = active is not None and active.in_time(tx.now)
        for _, noted in sorted(missing.items()):
            if noted.kind != QUERY and await settlement_store.is_under_way(tx.conn, peer.node, noted):
                continue
            envelope = await self._kept(tx, peer, contract, noted) if in_force else None
            if envelope is not None:
                kept.append((noted, envelope))
            elif in_force and noted.kind != QUERY and contract.kind == pb.CONTRACT_KIND_CHARTER:
                stuck.append(noted)
            else:
                lost.append(noted)
        await self._send_again(tx, peer, found, kept)
        await self._give_up(tx, contract, found, lost, in_force=in_force)
        if kept or lost or stuck or never_sent:
            _audit(
                tx,
                found,
                "repair",
                sent_again=[noted.id for noted, _ in kept],
                not_counted=[noted.id for noted in lost],
                not_kept=[noted.id for noted in stuck],
                never_sent=never_sent,
            )
        return len(kept) + len(lost) + len(stuck), never_sent

    async def _kept(self, tx: Tx, peer: Peer, contract: pb.Contract, noted: Noted) -> bytes | None:
        """Return the envelope of a fact, when it is kept and is under the present agreement."""
        if noted.kind == QUERY:
            return None
        data = await settlement_store.kept_envelope(tx.conn, peer.node, noted)
        if data is None:
            return None
        envelope = link_pb2.Envelope.FromString(data)
        if envelope.fact.id != str(noted.id) or envelope.agreement_hash.hex() != contract.agreement_hash:
            return None
        return data

    async def _send_again(self, tx: Tx, peer: Peer, found: Settlement, kept: Sequence[tuple[Noted, bytes]]) -> None:
        """Queue envelopes once more. Receivers apply a fact once by its id, and rows keep what a newer fact said."""
        if not kept:
            return
        lane = link_pb2.Envelope.FromString(kept[0][1]).lane  # the same for all of a contract
        first = await peers_store.enqueue(tx.conn, peer.node, [(found.contract, data) for _, data in kept], lane)
        places = [(noted.id, sequence) for sequence, (noted, _) in enumerate(kept, start=first)]
        await metering_store.moved(tx.conn, found.contract, found.sender, found.day, places)
        sent = Tally(facts_sent=len(kept), rows_sent=sum(noted.rows for noted, _ in kept))
        await contracts_store.count(tx.conn, {found.contract: sent})

    async def _give_up(
        self, tx: Tx, contract: pb.Contract, found: Settlement, lost: Sequence[Noted], *, in_force: bool
    ) -> None:
        """What cannot be sent again is not counted any more: the receiver owes nothing for it. Rows are stated anew."""
        if not lost:
            return
        await metering_store.uncount(tx.conn, found.contract, found.sender, found.day, [noted.id for noted in lost])
        if in_force and contract.kind == pb.CONTRACT_KIND_EXCHANGE and any(noted.kind != QUERY for noted in lost):
            await restate(tx, contract)


def parse_ids(texts: Iterable[str], field: str) -> list[UUID]:
    """Return ids of a message. Raises Invalid for too many, and for one that is none."""
    ids = [_id(text, field) for text in texts]
    if len(ids) > PORTION_IDS_MAX:
        raise Invalid(field, f"must be at most {PORTION_IDS_MAX} ids")
    return ids


def _id(text: str, field: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise Invalid(field, "must be UUIDs") from error


def _audit(tx: Tx, found: Settlement, action: str, **ids: Sequence[UUID]) -> None:
    detail: dict[str, int | list[str]] = {name: len(each) for name, each in ids.items()}
    detail |= {f"{name}_ids": [str(one) for one in each[:AUDIT_IDS_MAX]] for name, each in ids.items() if each}
    day = found.day.isoformat()
    tx.audit(f"federation.settlements.{action}", found.contract, day=day, sender=found.sender, **detail)
