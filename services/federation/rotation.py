"""Another signing key for this node: made known first, then used, while the one before still verifies what it signed.

The states are in the database and in the folder of secrets, so that a rotation goes on wherever it was interrupted:

    NEXT_NAME holds the private key, `signing_keys` and the trust list its public half   made known
    `node-key` is the new key, the one before is among the public keys of the past       signs
    the key before has `retired_at` in `signing_keys` and in the next trust list         done
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from libs.duty import on_duty
from libs.errors import Away, Reason, WrongState
from libs.node_key import decoded, encoded
from quintet.federation.v1 import trust_pb2
from services.federation import alarms, peers_store, pki, trust_store
from services.federation.key_ring import SigningKey
from services.federation.signing import key_id

if TYPE_CHECKING:
    from libs.config import Secrets
    from libs.db import Connection
    from libs.node_key import NodeKeys
    from libs.tx import Transactions, Tx
    from services.federation.trust import Trust

NEXT_NAME = "node-key-next"
# How long a new key waits for connected peers that do not confirm it. Those that are away learn it from the next hello.
ANNOUNCE_MAX = timedelta(minutes=10)
# A peer that was heard so recently is connected, at this replica or at another.
CONNECTED_WITHIN = timedelta(seconds=20)
LOOK_INTERVAL_S = 1.0
# Alarm of the node itself: what it signs, its peers refuse.
SIGNING_KEY_NOT_LISTED = "SIGNING_KEY_NOT_LISTED"

log = structlog.get_logger()


class Rotation:
    """Changes over from one signing key to the next. One replica at a time does."""

    def __init__(self, trust: Trust, keys: NodeKeys, secrets: Secrets, transactions: Transactions) -> None:
        self._trust = trust
        self._keys = keys
        self._secrets = secrets
        self._transactions = transactions

    async def begin(self, tx: Tx, reason: str, *, compromised: bool) -> tuple[str, int]:
        """Make another key and a list that makes it known; return its id and the number of the list.

        With `compromised` the present key is revoked by the same list. Raises WrongState while a rotation is under way.
        """
        await self._trust.restate(tx)
        await trust_store.lock(tx.conn)
        known = {key.key_id: key for key in await trust_store.keys(tx.conn, self._trust.node)}
        present = self._present()
        waiting = [key for key in known.values() if _in_use(key) and key.key_id != present]
        if waiting and present in known and _in_use(known[present]):
            raise WrongState(Reason.WRONG_STATE, f"key {waiting[0].key_id} is not in use yet", key=waiting[0].key_id)
        private = Ed25519PrivateKey.generate()
        self._secrets.set(NEXT_NAME, encoded(private))
        public = private.public_key().public_bytes_raw()
        made = SigningKey(self._trust.node, key_id(public), public, tx.now)
        await trust_store.keep_keys(tx.conn, [made])
        if compromised:
            await trust_store.revoke(tx.conn, self._trust.node, present, reason, tx.now)
        signed = await self._trust.restate(tx)
        number = trust_pb2.TrustList.FromString(signed.list).number
        tx.audit(
            "federation.trust.rotate_key", f"signingKeys/{made.key_id}", before=present, reason=reason,
            compromised=compromised, number=number,
        )  # fmt: skip
        return made.key_id, number

    async def begin_root(self, tx: Tx, reason: str) -> tuple[str, int]:
        """Change the node's root; return the fingerprint of the new one and the number of the list that states it."""
        before = pki.fingerprint(self._trust.authority.root_certificate)
        listed = await self._trust.change_root(tx)
        fingerprint = pki.fingerprint(listed.root_certificate)
        tx.audit(
            "federation.trust.rotate_root", "trustLists", before=before, fingerprint=fingerprint, reason=reason,
            number=listed.number,
        )  # fmt: skip
        return fingerprint, listed.number

    async def run(self) -> None:
        """Go on with what was begun, for ever."""
        while True:
            with suppress(Away):
                async with on_duty(self._transactions.pool, "rotation") as duty:
                    while True:
                        await self.advance()
                        await duty.wait(LOOK_INTERVAL_S)
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def advance(self) -> None:
        """Let the next key sign when that is due, and retire the one before."""
        await self._trust.newest()
        known, ready, alarmed = await self._transactions.read(self._read)
        present, following = self._present(), self._next()
        waiting = {key.key_id for key in known.values() if _in_use(key) and key.key_id != present}
        good = present in known and _in_use(known[present])
        if following is not None and _id(following) in waiting:
            if good and not ready and self._transactions.clock.now() < known[_id(following)].valid_from + ANNOUNCE_MAX:
                return
            self._keys.replace(following)
            log.info("signing_key.changed", before=present, now=_id(following))
        elif not good:
            await self._transactions.run(lambda tx: self._alarm(tx, present))
            return
        elif not waiting and not alarmed:
            return
        await self._transactions.run(self._retire)
        self._secrets.remove(NEXT_NAME)

    async def _read(self, conn: Connection) -> tuple[dict[str, SigningKey], bool, bool]:
        """Return this node's keys, whether all connected peers know its newest list, and whether the alarm stands."""
        found = await trust_store.newest(conn, self._trust.node)
        number = trust_pb2.TrustList.FromString(found.list).number if found is not None else 0
        since = self._transactions.clock.now() - CONNECTED_WITHIN
        unaware = await peers_store.unaware(conn, number, since)
        alarmed = SIGNING_KEY_NOT_LISTED in {alarm.name for alarm in await alarms.all_set(conn)}
        return {key.key_id: key for key in await trust_store.keys(conn, self._trust.node)}, not unaware, alarmed

    async def _retire(self, tx: Tx) -> None:
        await trust_store.lock(tx.conn)
        present = self._present()
        await trust_store.retire_others(tx.conn, self._trust.node, [present], tx.now)
        await self._trust.restate(tx)
        await alarms.clear_alarm(tx, peer="", name=SIGNING_KEY_NOT_LISTED)
        tx.audit("federation.trust.key_in_use", f"signingKeys/{present}")

    async def _alarm(self, tx: Tx, present: str) -> None:
        text = f"{present} signs, but is not, or not any more, in this node's trust list: rotate the signing key"
        await alarms.set_alarm(tx, peer="", name=SIGNING_KEY_NOT_LISTED, text=text)

    def _present(self) -> str:
        return _id(self._keys.present())

    def _next(self) -> Ed25519PrivateKey | None:
        try:
            return decoded(self._secrets.read(NEXT_NAME))
        except FileNotFoundError:
            return None


def _in_use(key: SigningKey) -> bool:
    return key.retired_at is None and key.revoked_at is None


def _id(key: Ed25519PrivateKey) -> str:
    return key_id(key.public_key().public_bytes_raw())
