"""The ledger of what was counted under contracts, and the figures per contract, sender and day."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from libs.fact_sums import DIGEST_MODULUS
from services.federation import contracts_store
from services.federation.metering import (
    DAYS_KEEP_DAYS,
    FACT,
    LATE_CHECK_S,
    LEDGER_KEEP_DAYS,
    QUERY,
    Entry,
    Figures,
    first_check,
    meter,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from libs.db import Connection, Record
    from services.federation.contracts_store import Tally

PURGE_DAYS_PER_BATCH = 100
_FIGURES = "facts, rows, bytes, queries, query_rows, digest"
_ADD = (
    "facts = d.facts + excluded.facts, rows = d.rows + excluded.rows, bytes = d.bytes + excluded.bytes,"
    " queries = d.queries + excluded.queries, query_rows = d.query_rows + excluded.query_rows,"
    " digest = mod(d.digest + excluded.digest, {modulus}),"
    " query_digest = mod(d.query_digest + excluded.query_digest, {modulus}),"
    " newest = greatest(d.newest, excluded.newest), noted_at = excluded.noted_at,"
    " check_at = coalesce(d.check_at, excluded.check_at)"
)
_TALLIES_AT = 21  # behind the other parameters
_OTHER = "other_facts, other_rows, other_bytes, other_queries, other_query_rows, other_digest"


@dataclass(frozen=True)
class Settlement:
    """One row of `settlement_days`. `other` and `stated_at` are what the other end said, None before it did."""

    contract: str
    sender: str
    day: date
    own: Figures
    other: Figures | None
    newest: datetime | None
    stated_at: datetime | None
    check_at: datetime | None
    attempts: int
    purged: bool
    differs: bool
    asked: int
    listed_at: datetime | None
    listed_through: str

    @property
    def agrees(self) -> bool:
        """Whether both ends have counted the same, as far as is known."""
        return self.own == self.other


@dataclass(frozen=True)
class Noted:
    """One row of `settlement_ledger`, as far as repair needs it."""

    id: UUID
    kind: int
    rows: int
    lane: int
    sequence: int


async def record(
    conn: Connection,
    node: str,
    entries: Sequence[Entry],
    now: datetime,
    tallies: Mapping[str, Tally] | None = None,
) -> None:
    """Count entries in the ledger and in their days' figures. What was counted before is not counted again.

    `tallies` are added to the contracts' own counters on the way (see contracts_store.count).
    """
    groups: dict[tuple[str, str, date, int, int], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.contract, entry.sender, entry.day, entry.kind, entry.lane), []).append(entry)
    tallies = tallies or {}
    for key in sorted(groups):
        await _record(conn, node, groups[key], now, tallies)
        tallies = {}
    await contracts_store.count(conn, tallies)


async def _record(
    conn: Connection, node: str, entries: Sequence[Entry], now: datetime, tallies: Mapping[str, Tally]
) -> None:
    """Count entries of one contract, sender, day, kind and lane: in one statement when all of them are new."""
    tallied, tally_values = contracts_store.counting(tallies, _TALLIES_AT) if tallies else ("", [])
    [(place, found)] = meter(entries).items()
    contract, sender, day = place
    new = await conn.fetch(
        "WITH new AS ("
        " INSERT INTO settlement_ledger (contract, sender, day, kind, lane, noted_at, id, rows, bytes, sequence)"
        " SELECT $1, $2, $3, $4, $5, $6, t.id, t.rows, t.bytes, t.sequence"
        " FROM unnest($7::uuid[], $8::bigint[], $9::bigint[], $10::bigint[]) AS t(id, rows, bytes, sequence)"
        " ON CONFLICT DO NOTHING RETURNING id"
        "), counted AS ("
        " INSERT INTO settlement_days AS d (contract, sender, day, noted_at, facts, rows, bytes, queries, query_rows,"
        " digest, newest, check_at, query_digest)"
        " SELECT $1, $2, $3, $6, $11, $12, $13, $14, $15, $16, $17, $18, $20"
        " WHERE (SELECT count(*) FROM new) = cardinality($7::uuid[])"
        f" ON CONFLICT (contract, sender, day) DO UPDATE SET {_ADD.format(modulus='$19')}"
        + (f"), tallied AS ({tallied}" if tallies else "")
        + ") SELECT id FROM new WHERE (SELECT count(*) FROM new) <> cardinality($7::uuid[])",
        _id(contract),
        sender,
        day,
        entries[0].kind,
        entries[0].lane,
        now,
        [entry.id for entry in entries],
        [entry.rows for entry in entries],
        [entry.bytes for entry in entries],
        [entry.sequence for entry in entries],
        *(getattr(found, name) for name in ("facts", "rows", "bytes", "queries", "query_rows")),
        Decimal(found.digest),
        found.newest,
        _check_at(day, now, own=sender == node),
        Decimal(DIGEST_MODULUS),
        Decimal(found.query_digest),
        *tally_values,
    )
    if new:
        # Only some of them were. One id is counted once also when a batch has it twice: the later one is not new.
        counted = {row["id"] for row in new}
        first = {entry.id: entry for entry in reversed(entries) if entry.id in counted}
        await _add(conn, node, list(first.values()), now)


async def _add(conn: Connection, node: str, entries: Sequence[Entry], now: datetime) -> None:
    metered = sorted(meter(entries).items())
    if not metered:
        return
    places = [place for place, _ in metered]
    sums = [found for _, found in metered]
    await conn.execute(
        "INSERT INTO settlement_days AS d (contract, sender, day, facts, rows, bytes, queries, query_rows, digest,"
        " newest, check_at, noted_at, query_digest)"
        " SELECT c, s, dd, f, r, b, q, qr, h, n, ca, $12, qh"
        " FROM unnest($1::text[], $2::text[], $3::date[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],"
        " $8::bigint[], $9::numeric[], $10::timestamptz[],"
        " $11::timestamptz[], $14::numeric[]) AS t(c, s, dd, f, r, b, q, qr, h, n, ca, qh)"
        f" ON CONFLICT (contract, sender, day) DO UPDATE SET {_ADD.format(modulus='$13')}",
        [_id(contract) for contract, _, _ in places],
        [sender for _, sender, _ in places],
        [day for _, _, day in places],
        *([getattr(found, name) for found in sums] for name in ("facts", "rows", "bytes", "queries", "query_rows")),
        [Decimal(found.digest) for found in sums],
        [found.newest for found in sums],
        [_check_at(day, now, own=sender == node) for _, sender, day in places],
        now,
        Decimal(DIGEST_MODULUS),
        [Decimal(found.query_digest) for found in sums],
    )


def _check_at(day: date, now: datetime, *, own: bool) -> datetime:
    """A day that is over, or that has not come, is compared soon; today when it is over."""
    soon = now + timedelta(seconds=LATE_CHECK_S)
    if day != now.date():
        return soon
    return first_check(day, own=own)


async def get(conn: Connection, contract: str, sender: str, day: date, *, lock: bool = False) -> Settlement | None:
    """Return the figures of a day; with `lock` nothing is counted on it until the commit."""
    query = "SELECT * FROM settlement_days WHERE contract = $1 AND sender = $2 AND day = $3"
    row = await conn.fetchrow(query + (" FOR UPDATE" if lock else ""), _id(contract), sender, day)
    return _settlement(row) if row else None


async def page(
    conn: Connection, contract: str, first: date, last: date, after: tuple[date, str] | None, limit: int
) -> list[Settlement]:
    """Return the days of a contract from `first` to `last`, by day and sender."""
    query = """
        SELECT * FROM settlement_days WHERE contract = $1 AND day BETWEEN $2 AND $3
          AND ($4::date IS NULL OR (day, sender) > ($4, $5)) ORDER BY day, sender LIMIT $6
    """
    day, sender = after or (None, "")
    return [_settlement(row) for row in await conn.fetch(query, _id(contract), first, last, day, sender, limit)]


async def due(conn: Connection, now: datetime, limit: int) -> list[tuple[str, str, date]]:
    """Return (contract, sender, day) of what is to be compared now, the longest due first."""
    query = """
        SELECT contract, sender, day FROM settlement_days WHERE check_at <= $1
        ORDER BY check_at LIMIT $2
    """
    return [(f"contracts/{row[0]}", row[1], row[2]) for row in await conn.fetch(query, now, limit)]


async def set_other(
    conn: Connection, contract: str, sender: str, day: date, other: Figures, now: datetime
) -> Settlement:
    """Keep what the other end said, and return the day as it is now."""
    await conn.execute(
        f"INSERT INTO settlement_days (contract, sender, day, noted_at, {_OTHER}, stated_at)"
        " VALUES ($1, $2, $3, $10, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (contract, sender, day) DO UPDATE SET"
        f" ({_OTHER}, stated_at) = ROW ($4, $5, $6, $7, $8, $9, $10)",
        _id(contract),
        sender,
        day,
        *(getattr(other, each.name) for each in fields(Figures) if each.name != "digest"),
        Decimal(other.digest),
        now,
    )
    found = await get(conn, contract, sender, day)
    if found is None:
        raise AssertionError("it was just written")
    return found


# ------------------------------------------------------------------------------------------ the ledger


async def recount(conn: Connection, contract: str, sender: str, day: date, now: datetime) -> Settlement | None:
    """Count a day again from the ledger, and return it; as it stands when its entries are no longer all kept.

    The digest is added up in eight parts of 32 bits, so that the database can do it on its own.
    """
    before = await get(conn, contract, sender, day, lock=True)
    if before is not None and before.purged:
        return before
    parts = ", ".join(f"sum(('x' || substr(h, {8 * at + 1}, 8))::bit(32)::bigint) AS h{at}" for at in range(8))
    found = await conn.fetch(
        f"SELECT kind, count(*) AS number, sum(rows) AS rows, sum(bytes) AS bytes, {parts}"
        " FROM settlement_ledger, LATERAL encode(sha256(convert_to(id::text, 'UTF8')), 'hex') AS h"
        " WHERE contract = $1 AND sender = $2 AND day = $3 GROUP BY kind",
        _id(contract),
        sender,
        day,
    )
    if before is None and not found:
        return before
    kinds: dict[int, Mapping[str, int]] = {row["kind"]: dict(row) for row in found}
    facts, queries = kinds.get(FACT, {}), kinds.get(QUERY, {})
    figures = (facts.get("number"), facts.get("rows"), facts.get("bytes"), queries.get("number"), queries.get("rows"))
    digests = _digest(facts), _digest(queries)
    await conn.execute(
        f"INSERT INTO settlement_days (contract, sender, day, noted_at, {_FIGURES}, query_digest)"
        " VALUES ($1, $2, $3, $11, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (contract, sender, day) DO UPDATE SET"
        f" ({_FIGURES}, query_digest) = ROW ($4, $5, $6, $7, $8, $9, $10)",
        _id(contract),
        sender,
        day,
        *(int(figure or 0) for figure in figures),
        Decimal(sum(digests) % DIGEST_MODULUS),
        Decimal(digests[1]),
        now,
    )
    return await get(conn, contract, sender, day)


def _digest(row: Mapping[str, int]) -> int:
    return sum(int(row.get(f"h{at}") or 0) << (32 * (7 - at)) for at in range(8)) % DIGEST_MODULUS


async def ids_after(
    conn: Connection, contract: str, sender: str, day: date, after: UUID, limit: int, through: UUID | None = None
) -> list[UUID]:
    """Return ids counted, in order, after one and up to another."""
    query = """
        SELECT id FROM settlement_ledger WHERE contract = $1 AND sender = $2 AND day = $3 AND id > $4
          AND ($5::uuid IS NULL OR id <= $5) ORDER BY id LIMIT $6
    """
    return [row["id"] for row in await conn.fetch(query, _id(contract), sender, day, after, through, limit)]


async def entries(conn: Connection, contract: str, sender: str, day: date, ids: Sequence[UUID]) -> dict[UUID, Noted]:
    """Return those of the ids that were counted."""
    query = """
        SELECT id, kind, rows, lane, sequence FROM settlement_ledger
        WHERE contract = $1 AND sender = $2 AND day = $3 AND id = ANY($4::uuid[])
    """
    rows = await conn.fetch(query, _id(contract), sender, day, list(ids))
    return {row["id"]: Noted(**dict(row)) for row in rows}


async def uncount(conn: Connection, contract: str, sender: str, day: date, ids: Sequence[UUID]) -> list[UUID]:
    """Take ids out of the ledger, and return those that were in it. The figures follow with `recount`."""
    query = """
        DELETE FROM settlement_ledger WHERE contract = $1 AND sender = $2 AND day = $3 AND id = ANY($4::uuid[])
        RETURNING id
    """
    return [row["id"] for row in await conn.fetch(query, _id(contract), sender, day, list(ids))]


async def moved(conn: Connection, contract: str, sender: str, day: date, places: Sequence[tuple[UUID, int]]) -> None:
    """Note the new sequences of facts that were queued again."""
    await conn.execute(
        "UPDATE settlement_ledger SET sequence = q FROM unnest($4::uuid[], $5::bigint[]) AS t(i, q)"
        " WHERE contract = $1 AND sender = $2 AND day = $3 AND id = i",
        _id(contract),
        sender,
        day,
        [fact for fact, _ in places],
        [sequence for _, sequence in places],
    )


async def forget(conn: Connection, now: datetime) -> int:
    """Delete entries and days that were kept long enough, in batches; return how many days were concerned.

    Their age is that of the last count, not of the facts' own days, which the sender states.
    """
    old = await conn.fetch(
        "UPDATE settlement_days SET purged = true WHERE (contract, sender, day) IN"
        " (SELECT contract, sender, day FROM settlement_days WHERE noted_at < $1 AND NOT purged LIMIT $2)"
        " RETURNING contract, sender, day",
        now - timedelta(days=LEDGER_KEEP_DAYS),
        PURGE_DAYS_PER_BATCH,
    )
    for row in old:
        query = "DELETE FROM settlement_ledger WHERE contract = $1 AND sender = $2 AND day = $3"
        await conn.execute(query, *row.values())
    gone = "DELETE FROM settlement_days WHERE noted_at < $1 AND check_at IS NULL"
    await conn.execute(gone, now - timedelta(days=DAYS_KEEP_DAYS))
    return len(old)


def _settlement(row: Record) -> Settlement:
    return Settlement(
        contract=f"contracts/{row['contract']}",
        sender=row["sender"],
        day=row["day"],
        own=_figures(row, ""),
        other=_figures(row, "other_") if row["stated_at"] else None,
        newest=row["newest"],
        stated_at=row["stated_at"],
        check_at=row["check_at"],
        **{name: row[name] for name in ("attempts", "purged", "differs", "asked", "listed_at", "listed_through")},
    )


def _figures(row: Record, prefix: str) -> Figures:
    return Figures(**{each.name: int(row[prefix + each.name]) for each in fields(Figures)})


def _id(name: str) -> str:
    return name.removeprefix("contracts/")
