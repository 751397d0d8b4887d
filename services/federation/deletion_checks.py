"""The provider's check of deletion proofs: what the consumer says is gone is held against what was given."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from quintet.federation.v1 import federation_pb2 as pb
from services.federation import alarms, contracts_store, deletions_store
from services.federation.deletion_rules import (
    DIFFERS,
    IMPOSSIBLE,
    PENDING,
    Finding,
    Unproved,
    in_time,
    judge,
    look_again,
)

if TYPE_CHECKING:
    from libs.tx import Transactions, Tx
    from services.federation.deletions_store import Taken

DELETION_DIFFERS = "DELETION_DIFFERS"
# Of one contract so many proofs are looked at together, the others the next time: those looked at wait an hour or more.
PROOFS_PER_LOOK_MAX = 500
CONTRACTS_PER_POLL_MAX = 100


class DeletionChecks:
    """Checks the proofs of one node's consumers."""

    def __init__(self, node: str) -> None:
        self._node = node

    async def due(self, transactions: Transactions) -> int:
        """Look at the proofs whose time has come; return of how many contracts there were any."""
        now = transactions.clock.now()
        names = await transactions.read(lambda conn: deletions_store.due(conn, now, CONTRACTS_PER_POLL_MAX))
        for name in names:
            await transactions.run(partial(self.look, name=name))
        return len(names)

    async def look(self, tx: Tx, name: str) -> None:
        """Check all proofs of a contract of which something is still open, and alarm people by what is found."""
        contract, peer = await contracts_store.get(tx.conn, name, lock=True)
        proofs = await deletions_store.to_check(tx.conn, name, PROOFS_PER_LOOK_MAX)
        # The same for all of them. Of a contract of which only what is old was deleted, more is rightly unproved.
        unproved = await deletions_store.unproved(tx.conn, name, self._node)
        given = await deletions_store.rows_given(tx.conn, name)
        # Those that name days first: the others take what is found of them.
        for taken in sorted(proofs, key=lambda one: not one.proof.days):
            held_days = contract.terms.retention_days if taken.proof.HasField("held_before") else 0
            found = await self._find(tx, taken, held_days, unproved, given)
            again = look_again(found.check, taken.taken_at, held_days, tx.now)
            await deletions_store.note(tx.conn, taken.id, found, tx.now, again)
            if found.check not in {taken.check, PENDING}:
                tx.audit("federation.deletions.check", name, found=_word(found), text=found.text, proof=taken.proof.id)
        text = await deletions_store.differing(tx.conn, name, tx.now)
        if text is None:
            await alarms.clear_alarm(tx, peer=peer, name=DELETION_DIFFERS, contract=name)
        else:
            await alarms.set_alarm(tx, peer=peer, name=DELETION_DIFFERS, text=text, contract=name)

    async def _find(self, tx: Tx, taken: Taken, held_days: int, unproved: Unproved, rows_given: int) -> Finding:
        proof, only_old = taken.proof, taken.proof.HasField("held_before")
        if only_old and not proof.days:
            return await self._find_later(tx, taken, held_days)
        days = await deletions_store.proved_days(tx.conn, taken.id, self._node)
        found = judge(days, Unproved() if only_old else unproved, proof.rows, rows_given, tx.now.date())
        return in_time(found, taken.taken_at, held_days, tx.now)

    async def _find_later(self, tx: Tx, taken: Taken, held_days: int) -> Finding:
        """Rows of a day of which others are still held: a later proof names the day, and is checked for both."""
        later = await deletions_store.found_later(tx.conn, taken.proof.contract, taken.id)
        if later is not None:
            return Finding(later, "" if later != DIFFERS else "the proof that names the days of these rows differs")
        open_still = Finding(PENDING, "the consumer holds other rows of the same days")
        if in_time(open_still, taken.taken_at, held_days, tx.now).check == DIFFERS:
            return Finding(IMPOSSIBLE, "no later proof has named the days of these rows")
        return open_still


def _word(found: Finding) -> str:
    return pb.DeletionCheck.Name(found.check).removeprefix("DELETION_CHECK_").lower()
