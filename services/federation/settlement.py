"""Settlement: both ends of a contract compare what they counted on a day, find what differs, and repair it.

docs/protocol.md has the exchange of messages. The node that sent the facts leads: it lists the ids that it counted, the
other says which of them it never received and which it has that are not listed.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from libs.errors import Invalid, Reason, WrongState
from libs.fact_sums import DIGEST_BYTES, digest_bytes
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import alarms, contracts_store, metering_store, peers_store, settlement_store
from services.federation.control import control_envelope
from services.federation.metering import Figures, first_check
from services.federation.repair import ID_FIRST, PORTION_IDS_MAX, Repair, parse_ids
from services.federation.settlement_store import Progress, progress_of, set_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from libs.tx import Tx
    from services.federation.control import Refusal
    from services.federation.metering_store import Settlement
    from services.federation.peers_store import Peer

SETTLEMENT_DIFFERS = "SETTLEMENT_DIFFERS"
# A question that was not answered is asked again after this time; at most one of a day waits for a peer that is away.
ASK_AGAIN_S = 900
# After a repair both compare again, each time after twice the time; what still differs then waits for a day.
RECHECK_FIRST_S = 5
REPAIR_ATTEMPTS_MAX = 5
# A portion whose findings do not come within this time is listed anew.
FINDINGS_TIMEOUT_S = 120


class Settler:
    """Compares days with the peers. Everything happens in the caller's transaction."""

    def __init__(self, node: str, wake: Callable[[str], None]) -> None:
        """`wake` is told the peers that have something waiting."""
        self._node = node
        self._wake = wake
        self._repair = Repair(node)

    # ---------------------------------------------------------------------------------------------- asking

    async def begin(self, tx: Tx, name: str, day: date) -> list[Settlement]:
        """Count a day again and ask the other end, for each node that sends under the contract.

        Raises NotFound for the contract, and WrongState while the peer is not active or before the contract is agreed.
        """
        contract, node = await contracts_store.get(tx.conn, name)
        if contract.state < pb.CONTRACT_STATE_AGREED:
            raise WrongState(Reason.CONTRACT_NOT_ACTIVE, f"{name} is not agreed", contract=name)
        peer = await peers_store.get(tx.conn, node, lock=True)
        if peer.state != pb.PEER_STATE_ACTIVE:
            raise WrongState(Reason.PEER_SUSPENDED, f"{node} is not active", peer=node)
        tx.audit("federation.settlements.reconcile", name, day=day.isoformat())
        found = [await self._ask(tx, peer, name, sender, day, anew=True) for sender in _senders(contract)]
        return [each for each in found if each is not None]

    async def ask_when_due(self, tx: Tx, name: str, sender: str, day: date) -> None:
        """Ask the other end about a day whose time has come, unless it has not even heard the last question."""
        known = await contracts_store.find(tx.conn, name)
        if known is None:
            return
        peer = await peers_store.get(tx.conn, known[1], lock=True)
        found = await metering_store.get(tx.conn, name, sender, day, lock=True)
        if found is None or found.check_at is None or found.check_at > tx.now:
            return  # another replica, or a message of the peer, was faster
        again = tx.now + timedelta(seconds=ASK_AGAIN_S)
        unheard = found.asked and await settlement_store.is_unheard(tx.conn, peer.node, found.asked)
        if unheard or peer.state != pb.PEER_STATE_ACTIVE:
            await set_progress(tx.conn, found, replace(progress_of(found), check_at=again))
            return
        await self._ask(tx, peer, name, sender, day, anew=False)

    async def _ask(self, tx: Tx, peer: Peer, name: str, sender: str, day: date, *, anew: bool) -> Settlement | None:
        found = await metering_store.recount(tx.conn, name, sender, day, tx.now)
        message = _statement(name, sender, day, found, asks=True)
        sequence = await self._send(tx, peer.node, message)
        if found is None:
            return None
        progress = replace(progress_of(found), check_at=tx.now + timedelta(seconds=ASK_AGAIN_S), asked=sequence)
        if anew:
            progress = replace(progress, attempts=0, listed_at=None)
        await set_progress(tx.conn, found, progress)
        return await metering_store.get(tx.conn, name, sender, day)

    async def _send(self, tx: Tx, node: str, message: link_pb2.SettlementStatement) -> int:
        sequence = await peers_store.enqueue(
            tx.conn, node, [("", control_envelope(settlement=message))], link_pb2.LANE_CONTROL
        )
        tx.after_commit(partial(self._wake, node))
        return sequence

    # ------------------------------------------------------------------------------------------- answering

    async def handle(self, tx: Tx, peer: Peer, envelope: link_pb2.Envelope) -> Refusal | None:
        """Take a statement of the peer. Raises Invalid for one that cannot be read."""
        message = envelope.settlement
        contract, with_peer = await contracts_store.get(tx.conn, message.contract)
        if with_peer != peer.node or message.counted_node not in _senders(contract):
            return Reason.NOT_PERMITTED, f"{message.contract} is not such a contract with {peer.node}"
        name, sender, day = message.contract, message.counted_node, _day(message.day)
        own = sender == self._node
        if message.HasField("portion" if own else "findings"):
            return Reason.NOT_PERMITTED, f"that is for {sender} to say"
        if message.asks:
            await metering_store.recount(tx.conn, name, sender, day, tx.now)
        found = await metering_store.set_other(tx.conn, name, sender, day, _figures(message), tx.now)
        if message.asks:
            await self._send(tx, peer.node, _statement(name, sender, day, found))
        if message.HasField("portion"):
            await self._hold_against(tx, peer, found, message.portion)
        elif message.HasField("findings"):
            await self._take_findings(tx, peer, contract, found, message.findings)
        else:
            await self._compare(tx, peer, found)
        return None

    async def _compare(self, tx: Tx, peer: Peer, found: Settlement) -> None:
        if found.agrees:
            await self._agreed(tx, peer, found)
        elif found.sender == self._node:
            await self._differs(tx, peer, found)

    async def _agreed(self, tx: Tx, peer: Peer, found: Settlement) -> None:
        day_is_over = found.day < tx.now.date()
        check_at = None if day_is_over else first_check(found.day, own=found.sender == self._node)
        await set_progress(tx.conn, found, Progress(check_at, 0, False, found.asked, None, ""))
        if found.differs:
            tx.audit("federation.settlements.agree", found.contract, day=found.day.isoformat(), sender=found.sender)
            if not await settlement_store.differs(tx.conn, found.contract):
                await alarms.clear_alarm(tx, peer=peer.node, name=SETTLEMENT_DIFFERS, contract=found.contract)

    async def _differs(self, tx: Tx, peer: Peer, found: Settlement) -> None:
        """Begin to list the ids, unless that is under way or was done often enough."""
        progress = progress_of(found)
        if found.listed_at and tx.now - found.listed_at < timedelta(seconds=FINDINGS_TIMEOUT_S):
            return
        if found.attempts >= REPAIR_ATTEMPTS_MAX:
            # While its day lasts the figures move: what is under way is no difference.
            over = found.day < tx.now.date()
            again = tx.now + timedelta(days=1) if over else first_check(found.day, own=True)
            if over:
                await self._alarm(tx, peer, found)
            progress = replace(progress, check_at=again, attempts=0, listed_at=None, differs=found.differs or over)
            await set_progress(tx.conn, found, progress)
            return
        await self._list(tx, peer, found, ID_FIRST, link_pb2.SettlementPortion())

    async def _alarm(self, tx: Tx, peer: Peer, found: Settlement) -> None:
        other = found.other or Figures()
        text = (
            f"{found.day} from {found.sender}: {found.own.facts} facts, {found.own.rows} rows were counted here,"
            f" {other.facts} facts, {other.rows} rows at {peer.node}"
        )
        await alarms.set_alarm(tx, peer=peer.node, name=SETTLEMENT_DIFFERS, text=text, contract=found.contract)

    async def _list(
        self, tx: Tx, peer: Peer, found: Settlement, after: UUID, portion: link_pb2.SettlementPortion
    ) -> None:
        """Send the next portion of ids. `portion` has what came of the one before."""
        ids = await metering_store.ids_after(tx.conn, found.contract, found.sender, found.day, after, PORTION_IDS_MAX)
        through = str(ids[-1]) if len(ids) == PORTION_IDS_MAX else ""
        portion.after = "" if after == ID_FIRST else str(after)
        portion.through = through
        portion.ids.extend(map(str, ids))
        await self._send(tx, peer.node, _statement(found.contract, found.sender, found.day, found, portion=portion))
        check_at = tx.now + timedelta(seconds=FINDINGS_TIMEOUT_S)
        progress = replace(progress_of(found), check_at=check_at, listed_at=tx.now, listed_through=through)
        await set_progress(tx.conn, found, progress)

    # -------------------------------------------------------------------------------- the other end's part

    async def _hold_against(self, tx: Tx, peer: Peer, found: Settlement, portion: link_pb2.SettlementPortion) -> None:
        """Take out what was never sent, and say what the next portion shows."""
        never_sent = parse_ids(portion.never_sent, "portion.neverSent")
        if never_sent:
            found = await self._repair.drop(tx, peer, found, never_sent)
        if never_sent or portion.repaired:
            await self._alarm(tx, peer, found)
            await set_progress(tx.conn, found, replace(progress_of(found), differs=True))
        if portion.last:
            return
        findings = await self._repair.find(tx, found, portion)
        await self._send(tx, peer.node, _statement(found.contract, found.sender, found.day, found, findings=findings))

    async def _take_findings(
        self, tx: Tx, peer: Peer, contract: pb.Contract, found: Settlement, findings: link_pb2.SettlementFindings
    ) -> None:
        """Repair what the other end found, and go on with the next portion, or compare again soon."""
        if found.listed_at is None or findings.through != found.listed_through:
            return  # of a list that was given up
        repaired, never_sent = await self._repair.mend(tx, peer, contract, found, findings)
        again = await metering_store.recount(tx.conn, found.contract, found.sender, found.day, tx.now)
        found = again or found
        if repaired or never_sent:
            await self._alarm(tx, peer, found)
            found = replace(found, differs=True)
        portion = link_pb2.SettlementPortion(repaired=repaired, never_sent=map(str, never_sent))
        if findings.through:
            await self._list(tx, peer, found, UUID(findings.through), portion)
            return
        if repaired or never_sent:
            portion.last = True
            message = _statement(found.contract, found.sender, found.day, found, portion=portion)
            await self._send(tx, peer.node, message)
        check_at = tx.now + timedelta(seconds=RECHECK_FIRST_S * 2**found.attempts)
        done = Progress(check_at, found.attempts + 1, found.differs, found.asked, None, "")
        await set_progress(tx.conn, found, done)


def _senders(contract: pb.Contract) -> list[str]:
    """Return the nodes whose facts are counted under a contract."""
    if contract.kind == pb.CONTRACT_KIND_CHARTER:
        return [contract.provider, contract.consumer]
    return [contract.provider]


def _statement(
    contract: str,
    sender: str,
    day: date,
    found: Settlement | None,
    *,
    asks: bool = False,
    portion: link_pb2.SettlementPortion | None = None,
    findings: link_pb2.SettlementFindings | None = None,
) -> link_pb2.SettlementStatement:
    own = found.own if found else Figures()
    return link_pb2.SettlementStatement(
        contract=contract,
        day=day.isoformat(),
        counted_node=sender,
        facts=own.facts,
        rows=own.rows,
        bytes=own.bytes,
        queries=own.queries,
        query_rows=own.query_rows,
        digest=digest_bytes(own.digest),
        asks=asks,
        portion=portion,
        findings=findings,
    )


def _figures(message: link_pb2.SettlementStatement) -> Figures:
    if len(message.digest) != DIGEST_BYTES:
        raise Invalid("settlement.digest", f"must be {DIGEST_BYTES} bytes")
    return Figures(
        facts=message.facts,
        rows=message.rows,
        bytes=message.bytes,
        queries=message.queries,
        query_rows=message.query_rows,
        digest=int.from_bytes(message.digest, "big"),
    )


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise Invalid("settlement.day", "must be an ISO 8601 date") from error
