"""What is kept of every answer under a contract, at both ends: the quota, the counters, and who asked what and why.

An answer is counted in one transaction, at the provider before it leaves and at the consumer before it is handed on:
what cannot be written down is not given.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from libs.errors import Exhausted, Invalid, Reason, WrongState
from services.federation import contracts_store, disclosures_store, metering_store, refusals_store
from services.federation.contracts_store import Tally
from services.federation.metering import QUERY, Entry
from services.federation.refusals_store import NewRefusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from libs.errors import DomainError
    from libs.tx import Transactions, Tx
    from services.federation.disclosures import Disclosed
    from services.federation.terms import ActiveContract

ANSWERED = "federation.contracts.answer"
ASKED = "federation.contracts.query"
# A question says by its id when it was asked, so that both ends count it on the same day; no further off than this.
ASKED_AT_MOST_OFF = timedelta(hours=24)

# RFC 9562, section 5.7: the first 48 of 128 bits are milliseconds.
_UUID_VERSION = 7
_UUID_TIME_SHIFT = 80


@dataclass(frozen=True)
class Asked:
    """One answer to a question under a contract, as the logs of both ends keep it.

    `query` is the question's id, `answer` counts the answers to it from 0, `node` is the asking node.
    """

    query: str
    answer: int
    actor: str
    node: str
    purpose: str
    fields: tuple[str, ...]


async def give(
    transactions: Transactions, contract: ActiveContract, asked: Asked, rows: int, disclosed: Mapping[Disclosed, int]
) -> None:
    """Count an answer that is about to leave, and record whom it is about.

    Raises Exhausted(QUOTA), or WrongState when the contract has ended.
    """

    async def work(tx: Tx) -> None:
        await _count(tx, transactions.node, contract, asked, rows, ANSWERED, Tally(rows_sent=rows))
        await disclosures_store.record(tx.conn, disclosed, tx.now)

    await transactions.run(work)


async def take(transactions: Transactions, contract: ActiveContract, asked: Asked, rows: int) -> None:
    """Count an answer that came in. Raises like `give`."""
    await transactions.run(
        lambda tx: _count(tx, transactions.node, contract, asked, rows, ASKED, Tally(rows_received=rows))
    )


async def refuse(transactions: Transactions, contract: str, error: DomainError, *, actor: str, node: str) -> None:
    """Keep and count a refusal at this node, so that both stewards can see it."""
    refusal = NewRefusal(contract, error.reason, error.message, actor, node)
    await transactions.run(lambda tx: refusals_store.refuse(tx.conn, [refusal], tx.now))


async def _count(
    tx: Tx, node: str, contract: ActiveContract, asked: Asked, rows: int, action: str, tally: Tally
) -> None:
    present = (await contracts_store.active_with(tx.conn, contract.peer)).get(contract.name)
    if present is None or present.agreement_hash != contract.agreement_hash or not present.in_time(tx.now):
        raise WrongState(Reason.CONTRACT_NOT_ACTIVE, f"{contract.name} ended meanwhile", contract=contract.name)
    quota = contract.terms.quota_rows_per_day
    if quota and not await contracts_store.take_quota(tx.conn, contract.name, tx.now.date(), rows, quota):
        text = f"{rows} more rows exceed the quota of {quota} rows per day"
        raise Exhausted(Reason.QUOTA, text, contract=contract.name)
    await contracts_store.count(tx.conn, {contract.name: tally})
    await metering_store.record(tx.conn, node, [_entry(contract, asked, rows, tx.now)], tx.now)
    tx.audit(
        action,
        contract.name,
        query=asked.query,
        answer=asked.answer,
        actor=asked.actor,
        node=asked.node,
        purpose=asked.purpose,
        fields=list(asked.fields),
        rows=rows,
    )


def _entry(contract: ActiveContract, asked: Asked, rows: int, now: datetime) -> Entry:
    """Return what is metered. Raises Invalid for a question whose id is not a UUID of version 7."""
    try:
        query = UUID(asked.query)
    except ValueError:
        query = None
    if query is None or query.version != _UUID_VERSION:
        raise Invalid("query.id", "must be a UUID of version 7")
    made_at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=query.int >> _UUID_TIME_SHIFT)
    time = min(max(made_at, now - ASKED_AT_MOST_OFF), now + ASKED_AT_MOST_OFF)
    return Entry(contract.name, contract.provider, uuid5(query, str(asked.answer)), time, QUERY, rows)
