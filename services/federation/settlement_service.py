"""FederationService, the part about settlement: looking at figures and reconciling them, on demand and every day."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from libs import paging
from libs.duty import on_duty
from libs.errors import Away, Invalid
from libs.fact_sums import digest_bytes
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import contracts_store, disclosures_store, metering_store

if TYPE_CHECKING:
    from libs.db import Connection
    from libs.tx import Transactions, Tx
    from services.federation.deletion_checks import DeletionChecks
    from services.federation.metering import Figures
    from services.federation.metering_store import Settlement
    from services.federation.settlement import Settler

LIST_DEFAULT = 50
LIST_MAX = 500
POLL_S = 5.0
DUE_PER_POLL_MAX = 200
PURGE_INTERVAL_S = 3600
FIRST_DAY = date(1970, 1, 1)
LAST_DAY = date(2200, 1, 1)


async def run(transactions: Transactions, settler: Settler, deletions: DeletionChecks) -> None:
    """Compare the days, and check the deletions, whose time has come, for ever, in one replica at a time."""
    purge_at = transactions.clock.now()
    async with on_duty(transactions.pool, "settlement") as duty:
        while True:
            duty.check()
            with suppress(Away):
                await settle_due(transactions, settler)
                await deletions.due(transactions)
                if transactions.clock.now() >= purge_at:
                    await transactions.run(forget)
                    purge_at = transactions.clock.now() + timedelta(seconds=PURGE_INTERVAL_S)
            await asyncio.sleep(POLL_S)


async def forget(tx: Tx) -> None:
    """Delete a batch of each kind of figures that was kept long enough."""
    await metering_store.forget(tx.conn, tx.now)
    await disclosures_store.forget(tx.conn, tx.now)


async def settle_due(transactions: Transactions, settler: Settler) -> int:
    """Ask the other ends about the days whose time has come; return how many there were."""
    now = transactions.clock.now()
    due = await transactions.read(lambda conn: metering_store.due(conn, now, DUE_PER_POLL_MAX))
    for name, sender, day in due:
        await transactions.run(partial(settler.ask_when_due, name=name, sender=sender, day=day))
    return len(due)


class SettlementsHandler:
    """What the methods about settlement do."""

    def __init__(self, transactions: Transactions, settler: Settler) -> None:
        self._transactions = transactions
        self._settler = settler

    async def page(self, request: pb.ListSettlementsRequest) -> pb.ListSettlementsResponse:
        size = paging.size(request.page_size, default=LIST_DEFAULT, most=LIST_MAX)
        first = _day(request.from_day, "fromDay") if request.from_day else FIRST_DAY
        last = _day(request.to_day, "toDay") if request.to_day else LAST_DAY
        of = f"settlements {request.contract} {first} {last}"
        keys = paging.after(request.page_token, datetime, str, of=of)
        after = (keys[0].date(), keys[1]) if keys else None

        async def read(conn: Connection) -> list[Settlement]:
            await contracts_store.get(conn, request.contract)
            return await metering_store.page(conn, request.contract, first, last, after, size + 1)

        rows = await self._transactions.read(read)
        page, token = paging.page(rows, size, _keys, of=of)
        return pb.ListSettlementsResponse(settlements=[_settlement(row) for row in page], next_page_token=token)

    async def reconcile(self, request: pb.ReconcileContractRequest) -> pb.ReconcileContractResponse:
        day = _day(request.day, "day")

        async def work(tx: Tx) -> pb.ReconcileContractResponse:
            found = await self._settler.begin(tx, request.contract, day)
            return pb.ReconcileContractResponse(settlements=[_settlement(row) for row in found])

        return await self._transactions.mutate(request, pb.ReconcileContractResponse, work)


def _day(text: str, field: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise Invalid(field, "must be a date") from error
    if not FIRST_DAY <= day <= LAST_DAY:
        raise Invalid(field, f"must be from {FIRST_DAY} to {LAST_DAY}")
    return day


def _keys(found: Settlement) -> tuple[datetime, str]:
    return datetime(found.day.year, found.day.month, found.day.day, tzinfo=UTC), found.sender


def _settlement(found: Settlement) -> pb.Settlement:
    shown = pb.Settlement(
        contract=found.contract,
        day=found.day.isoformat(),
        sender=found.sender,
        own=_figures(found.own),
        agrees=found.agrees,
    )
    if found.other is not None:
        shown.other.CopyFrom(_figures(found.other))
    if found.stated_at is not None:
        shown.stated_at.FromDatetime(found.stated_at)
    if found.check_at is not None:
        shown.check_at.FromDatetime(found.check_at)
    return shown


def _figures(figures: Figures) -> pb.SettlementFigures:
    return pb.SettlementFigures(
        facts=figures.facts,
        rows=figures.rows,
        bytes=figures.bytes,
        queries=figures.queries,
        query_rows=figures.query_rows,
        digest=digest_bytes(figures.digest).hex(),
    )
