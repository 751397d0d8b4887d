"""Sees to it that nothing is stuck: what is owed is reminded of, ends at its deadline, or comes to pass."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import structlog

from libs import db
from libs.backoff import Backoff
from libs.duty import on_duty
from libs.errors import Away, DomainError
from quintet.federation.v1 import facts_pb2
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import contracts_store, deadlines_store, machine, transfer_machine, transfers_store
from services.federation.ledger import without_salt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from libs.tx import Transactions, Tx
    from services.federation.negotiation import Negotiator

DUTY = "deadlines"
POLL_S = 5.0
RETRY_DELAY_FIRST_S = 0.5
RETRY_DELAY_MAX_S = 15.0
# Contracts and transfers taken up per round; the rest waits for the next, which then follows at once.
ROUND_MAX = 200

log = structlog.get_logger()


class Deadlines:
    """Goes through what is due, one transaction each. One replica does it."""

    def __init__(
        self, node: str, zone: str, transactions: Transactions, negotiator: Negotiator, wake: Callable[[str], None]
    ) -> None:
        """`wake` is told the peers that have something waiting."""
        self._node = node
        self._zone = zone
        self._transactions = transactions
        self._negotiator = negotiator
        self._wake = wake

    async def run(self) -> None:
        """Work until cancelled, through interruptions of the database."""
        backoff = Backoff(RETRY_DELAY_FIRST_S, RETRY_DELAY_MAX_S)
        while True:
            try:
                async with on_duty(self._transactions.pool, DUTY) as duty:
                    while True:
                        duty.check()
                        more = await self.round()
                        backoff.reset()
                        if not more:
                            await asyncio.sleep(POLL_S)
            except Exception as error:
                if isinstance(error, Away) or db.is_away(error):
                    log.warning("deadlines.interrupted", error=repr(error))
                else:
                    log.exception("deadlines.failed")
            await backoff.wait()

    async def round(self) -> bool:
        """Take up what is due by the clock now; say whether there may be more."""
        now = self._transactions.clock.now()
        kinds: tuple[tuple[Callable[..., Awaitable[list[str]]], Callable[[Tx, str], Awaitable[str]]], ...] = (
            (deadlines_store.contracts_due, self._contract),
            (deadlines_store.switches_due, self._switch),
            (partial(deadlines_store.transfers_to_begin, node=self._node), self._begin),
            (deadlines_store.transfers_due, self._transfer),
        )
        full = False
        for find, work in kinds:
            names = await self._transactions.read(partial(_found, find, now))
            full = full or len(names) == ROUND_MAX
            for name in names:
                await self._take_up(work, name)
        return full

    async def _take_up(self, work: Callable[[Tx, str], Awaitable[str]], name: str) -> None:
        """Do what is due of one; what cannot be done holds up none of the others."""
        try:
            peer = await self._transactions.run(partial(_worked, work, name))
        except Away:
            raise
        except DomainError as error:
            log.warning("deadlines.passed_over", name=name, reason=error.reason, text=error.message)
            return
        if peer:
            self._wake(peer)

    async def _contract(self, tx: Tx, name: str) -> str:
        contract, peer = await contracts_store.get(tx.conn, name, lock=True)
        due = await deadlines_store.contract_times(tx.conn, name)
        if contract.state == pb.CONTRACT_STATE_TERMINATED:
            return ""
        if due.ends_at is not None and due.ends_at <= tx.now:
            await self._negotiator.endings.run_out(tx, contract, machine.EXPIRED)
        elif due.deadline is not None and due.deadline <= tx.now:
            await self._negotiator.endings.terminate(tx, contract, peer, machine.DEADLINE)
        elif due.remind_at is not None and due.remind_at <= tx.now:
            await deadlines_store.reminded_of_contract(tx.conn, name, due, tx.now)
            contract.reminded_at.FromDatetime(tx.now)
            self._remind(tx, contract, contract.waits_for, contract.owner)
        return peer

    async def _switch(self, tx: Tx, name: str) -> str:
        contract, _ = await contracts_store.get(tx.conn, name, lock=True)
        if contract.provider == self._node:
            await self._negotiator.switches.state_place(tx, name)
        return ""

    async def _begin(self, tx: Tx, name: str) -> str:
        """What could not begin with its contract begins when the contract becomes valid."""
        contract, peer = await contracts_store.get(tx.conn, name, lock=True)
        if contract.state != pb.CONTRACT_STATE_FINALIZED or contract.awaits_switch:
            return ""
        await self._negotiator.transfers.begin(tx, contract, peer)
        await self._negotiator.transfers.start_requested(tx, contract, peer)
        return peer

    async def _transfer(self, tx: Tx, name: str) -> str:
        transfer, _ = await transfers_store.get(tx.conn, name)
        contract, peer = await contracts_store.get(tx.conn, transfer.contract, lock=True)
        transfer, _ = await transfers_store.get(tx.conn, name, lock=True)
        due = await deadlines_store.transfer_times(tx.conn, name)
        if due.deadline is not None and due.deadline <= tx.now:
            await self._negotiator.transfers.take(tx, name, transfer_machine.TERMINATION, machine.DEADLINE)
        elif due.remind_at is not None and due.remind_at <= tx.now:
            await deadlines_store.reminded_of_transfer(tx.conn, name, due, tx.now)
            transfer.reminded_at.FromDatetime(tx.now)
            self._remind(tx, contract, transfer.waits_for, transfer.owner, transfer)
        return peer

    def _remind(
        self, tx: Tx, contract: pb.Contract, waits_for: str, owner: str, transfer: pb.Transfer | None = None
    ) -> None:
        reminder = facts_pb2.ContractReminder(
            contract=without_salt(contract), transfer=transfer, waits_for=waits_for, owner=owner
        )
        tx.publish(reminder, zone=self._zone, key=contract.name)
        about = transfer.name if transfer else contract.name
        tx.audit("federation.contracts.remind", about, waits_for=waits_for, owner=owner)


async def _found(find: Callable[..., Awaitable[list[str]]], now: object, conn: object) -> list[str]:
    return await find(conn, now, ROUND_MAX)


async def _worked(work: Callable[[Tx, str], Awaitable[str]], name: str, tx: Tx) -> str:
    return await work(tx, name)
