"""Whether this node's database still says what the node has signed: its peers, its keys, and how far its lists go.

A copy of the newest list is in the folder of secrets, outside of the database. A database whose lists are older than
the copy was restored from a backup, and may know peers that were expelled since, or keys that were given up. A row of
`peers` that differs from the newest list was changed by something else than this service. Both are alarms, and with the
peers concerned no stream is open until a person has decided (AcceptTrustList).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from google.protobuf.message import DecodeError

from libs.errors import Away, DomainError, Reason, WrongState
from libs.turns import every
from quintet.federation.v1 import trust_pb2
from services.federation import alarms, trust_list, trust_store
from services.federation.trust import TRUST_ROLLBACK

if TYPE_CHECKING:
    from libs.config import Secrets
    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from services.federation.hub import Hub
    from services.federation.trust import Trust

COPY_NAME = "federation-trust-list"
LOOK_INTERVAL_S = 5.0
TRUST_LIST_DIFFERS = Reason.TRUST_LIST_DIFFERS.value

log = structlog.get_logger()


@dataclass(frozen=True)
class Verdict:
    """What was found. `peers` are those with whom nothing is exchanged, each with the reason; texts are "" for none."""

    rolled_back: str = ""
    differs: str = ""
    peers: Mapping[str, str] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether all is as it was signed."""
        return not (self.rolled_back or self.differs)

    def alarms(self) -> dict[tuple[str, str], str]:
        """Return the alarms that should stand, by peer ("" for the node itself) and name."""
        named = {("", TRUST_ROLLBACK): self.rolled_back, ("", TRUST_LIST_DIFFERS): self.differs}
        named |= {(node, TRUST_LIST_DIFFERS): text for node, text in self.peers.items()}
        return {key: text for key, text in named.items() if text}


class TrustGuard:
    """Holds the database against the lists. Every replica runs one: what they do is the same when done twice."""

    def __init__(self, trust: Trust, hub: Hub, secrets: Secrets, transactions: Transactions) -> None:
        self._trust = trust
        self._hub = hub
        self._secrets = secrets
        self._transactions = transactions

    async def run(self) -> None:
        """Look for ever."""
        await every(LOOK_INTERVAL_S, self.look, failed="trust.look_interrupted", bears=Away)

    async def look(self) -> Verdict:
        """Set and clear the alarms, end streams with peers that are in doubt, and keep the copy up to date."""
        verdict, copy, newest = await self._judge()
        wanted = verdict.alarms()
        ours = await self._transactions.read(_standing)
        if wanted.keys() != ours:
            await self._transactions.run(lambda tx: _set(tx, wanted, ours))
        for session in self._hub.sessions():
            if session.peer in verdict.peers:
                log.warning("link.in_doubt", peer=session.peer, why=verdict.peers[session.peer])
                session.close()
        if verdict.good and newest.list != copy.list:
            self._secrets.set(COPY_NAME, base64.b64encode(newest.SerializeToString()).decode())
        return verdict

    async def admit(self, node: str) -> None:
        """Raise WrongState(TRUST_LIST_DIFFERS) when no stream may be opened with a peer."""
        verdict, _, _ = await self._judge()
        if node in verdict.peers:
            raise WrongState(Reason.TRUST_LIST_DIFFERS, verdict.peers[node], peer=node)

    async def accept(self, tx: Tx, reason: str, above: int) -> trust_pb2.SignedTrustList:
        """State what the database says now, as a person wants it, in a list with a number above all that are known.

        `above` is a number that peers know from this node, 0 for none. The keys of the copy are kept: they have signed.
        Raises WrongState when nothing is in doubt and no number is given.
        """
        await trust_store.lock(tx.conn)
        copy = self._copy()
        newest = await trust_store.newest(tx.conn, self._trust.node) or trust_pb2.SignedTrustList()
        verdict = self._compare(copy, newest, await self._trust.present(tx.conn))
        if verdict.good and not above:
            raise WrongState(Reason.WRONG_STATE, "the database says what was signed: there is nothing to accept")
        known = _list(copy)
        await trust_store.keep_keys(tx.conn, trust_list.keys_of(known))
        signed = await self._trust.state_all(tx, max(known.number, _list(newest).number, above) + 1)
        tx.audit(
            "federation.trust.accept", "trustLists", reason=reason, number=_list(signed).number,
            rolled_back=verdict.rolled_back, differs=verdict.differs, peers=sorted(verdict.peers),
        )  # fmt: skip
        return signed

    async def _judge(self) -> tuple[Verdict, trust_pb2.SignedTrustList, trust_pb2.SignedTrustList]:
        """Return what was found, the copy, and the newest list in the database."""
        # The copy first: another replica may make a list, and copy it, at any moment.
        copy = self._copy()
        self._trust.authority.adopt(_list(await self._trust.newest()).root_certificate)  # when that was interrupted

        async def read(conn: Connection) -> tuple[trust_pb2.SignedTrustList, trust_pb2.TrustList]:
            newest = await trust_store.newest(conn, self._trust.node)
            return newest or trust_pb2.SignedTrustList(), await self._trust.present(conn)

        newest, present = await self._transactions.read(read)
        return self._compare(copy, newest, present), copy, newest

    def _compare(
        self, copy: trust_pb2.SignedTrustList, newest: trust_pb2.SignedTrustList, present: trust_pb2.TrustList
    ) -> Verdict:
        known, last = _list(copy), _list(newest)
        rolled_back = ""
        if last.number < known.number or (last.number == known.number and newest.list != copy.list):
            rolled_back = f"the database has trust list {last.number}, the node has signed {known.number} already"
        try:
            trust_list.opened(newest, self._trust.authority.root_certificate, self._trust.node)
        except DomainError as error:
            return Verdict(rolled_back, error.message, dict.fromkeys(_peers(present), "the trust list is not signed"))
        signed = known if rolled_back else last
        told, found = _peers(signed), _peers(present)
        text = f"trust list {signed.number} says something else about this peer than the database"
        peers = {node: text for node in sorted(told.keys() | found.keys()) if told.get(node) != found.get(node)}
        differs = ""
        if not rolled_back and not trust_list.same(last, present):
            differs = f"trust list {last.number} is not what the database says about {', '.join(peers) or 'keys'}"
        return Verdict(rolled_back, differs, peers)

    def _copy(self) -> trust_pb2.SignedTrustList:
        """Return the copy, an empty list where there is none that can be read."""
        with suppress(FileNotFoundError, binascii.Error, DecodeError):
            return trust_pb2.SignedTrustList.FromString(base64.b64decode(self._secrets.read(COPY_NAME)))
        return trust_pb2.SignedTrustList()


def _list(signed: trust_pb2.SignedTrustList) -> trust_pb2.TrustList:
    with suppress(DecodeError):
        return trust_pb2.TrustList.FromString(signed.list)
    return trust_pb2.TrustList()


def _peers(listed: trust_pb2.TrustList) -> dict[str, trust_pb2.TrustedPeer]:
    return {peer.node: peer for peer in listed.peers}


async def _standing(conn: Connection) -> set[tuple[str, str]]:
    """Return the alarms of this module that stand. TRUST_ROLLBACK of a peer is about the peer's own list."""
    found = {(alarm.peer, alarm.name) for alarm in await alarms.all_set(conn)}
    return {each for each in found if each[1] == TRUST_LIST_DIFFERS or each == ("", TRUST_ROLLBACK)}


async def _set(tx: Tx, wanted: Mapping[tuple[str, str], str], standing: set[tuple[str, str]]) -> None:
    for (peer, name), text in wanted.items():
        await alarms.set_alarm(tx, peer=peer, name=name, text=text)
    for peer, name in standing - wanted.keys():
        await alarms.clear_alarm(tx, peer=peer, name=name)
