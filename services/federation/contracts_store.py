"""Contracts, the steps that were applied to them, and what was refused under them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from libs.errors import NotFound, Reason
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import machine, waiting
from services.federation.machine import Ending
from services.federation.terms import ActiveContract

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from libs.db import Connection, Record
    from quintet.fact.v1.fact_pb2 import Fact
    from services.federation.waiting import WaitDays

CONTRACTS_KEPT_MAX = 1_000

_COLUMNS = (
    "id, kind, peer, provider, consumer, state, terms, agreement_hash, provider_signature, consumer_signature,"
    " created_at, updated_at, reason, terminated_by, facts_sent, facts_received, rows_sent, rows_received, refused,"
    " version, amends, superseded_by, in_force_at, awaits_switch, terminates_at, deadline, reminded_at,"
    " zone_withdrawn"
)
# What an active contract is made of, and which of a peer's contracts its facts and rows are taken under.
ACTIVE = "id, kind, peer, provider, consumer, terms, agreement_hash, terminates_at, zone_withdrawn"
ACCEPTING = "(draining OR (state = {finalized} AND NOT awaits_switch))"
_NEGOTIATING = tuple(sorted(machine.NEGOTIATING))


@dataclass
class Tally:
    """What one batch adds to a contract's counters."""

    facts_sent: int = 0
    facts_received: int = 0
    rows_sent: int = 0
    rows_received: int = 0


async def insert(
    conn: Connection, contract: pb.Contract, peer: str, agreement_hash: bytes, days: WaitDays, now: datetime
) -> None:
    """Insert a contract in its present state. `days` say how long it may wait there."""
    await conn.execute(
        "INSERT INTO contracts (id, kind, peer, provider, consumer, state, terms, agreement_hash, provider_signature,"
        " consumer_signature, created_at, updated_at, version, amends)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12, $13)",
        _id(contract.name),
        contract.kind,
        peer,
        contract.provider,
        contract.consumer,
        contract.state,
        contract.terms.SerializeToString(),
        agreement_hash,
        contract.provider_signature,
        contract.consumer_signature,
        now,
        contract.version,
        _id(contract.amends),
    )
    await _plan(conn, contract, days, now)


async def update(conn: Connection, contract: pb.Contract, agreement_hash: bytes, days: WaitDays, now: datetime) -> None:
    """Write the state, terms and signatures of a contract, and what it waits for from now on.

    A contract that has ended flows no more from this moment; one that was superseded, up to the place of the switch.
    """
    await conn.execute(
        "UPDATE contracts SET state = $2::smallint, terms = $3, agreement_hash = $4, provider_signature = $5,"
        " consumer_signature = $6, updated_at = $7, reason = $8, terminated_by = $9,"
        " flowing = flowing AND ($2::smallint <> $10::smallint OR $11 <> ''),"
        " superseded_by = $11, awaits_switch = $12"
        " WHERE id = $1",
        _id(contract.name),
        contract.state,
        contract.terms.SerializeToString(),
        agreement_hash,
        contract.provider_signature,
        contract.consumer_signature,
        now,
        contract.reason,
        contract.terminated_by,
        pb.CONTRACT_STATE_TERMINATED,
        _id(contract.superseded_by),
        contract.awaits_switch,
    )
    await _plan(conn, contract, days, now)


async def _plan(conn: Connection, contract: pb.Contract, days: WaitDays, now: datetime) -> None:
    """Write until when the next step is owed, and when its owner is reminded."""
    owed = waiting.of_contract(contract, days, now)
    contract.waits_for, contract.owner = (owed.node, owed.owner) if owed else ("", "")
    contract.ClearField("deadline")
    contract.ClearField("reminded_at")
    if owed is not None:
        contract.deadline.FromDatetime(owed.deadline)
    await conn.execute(
        "UPDATE contracts SET waiting_since = $2, deadline = $3, remind_at = $4, reminded_at = NULL, ends_at = $5,"
        " terminates_at = $6, in_force_at = $7, pulled = $8 WHERE id = $1",
        _id(contract.name),
        now if owed else None,
        owed.deadline if owed else None,
        waiting.next_reminder(now, owed.deadline, now) if owed else None,
        waiting.ends_at(contract),
        _time(contract, "terminates_at"),
        _time(contract, "in_force_at"),
        contract.terms.mode == pb.DELIVERY_MODE_PULL,
    )


async def ending(conn: Connection, contract: pb.Contract) -> Ending | None:
    """Return the ending of a contract, or the notice of it, that this node holds to; None when there is none."""
    message_id = await conn.fetchval("SELECT ended_by_message FROM contracts WHERE id = $1", _id(contract.name))
    if not message_id:
        return None
    at = _time(contract, "terminates_at")
    return Ending(message_id, contract.terminated_by, contract.reason, at, contract.superseded_by)


async def set_ending(conn: Connection, contract: pb.Contract, kept: Ending) -> None:
    """Note by which message a contract ends; `update` writes the rest of it, which is put into `contract`."""
    contract.reason, contract.terminated_by, contract.superseded_by = kept.reason, kept.by, kept.superseded_by
    contract.ClearField("terminates_at")
    if kept.at is not None:
        contract.terminates_at.FromDatetime(kept.at)
    query = "UPDATE contracts SET ended_by_message = $2 WHERE id = $1"
    await conn.execute(query, _id(contract.name), kept.message_id)


async def get(conn: Connection, name: str, *, lock: bool = False) -> tuple[pb.Contract, str]:
    """Return a contract and the peer it is with. Raises NotFound."""
    found = await find(conn, name, lock=lock)
    if found is None:
        raise NotFound(Reason.CONTRACT_NOT_FOUND, f"{name} does not exist", contract=name)
    return found


async def find(conn: Connection, name: str, *, lock: bool = False) -> tuple[pb.Contract, str] | None:
    """Return a contract and the peer it is with; None when there is none."""
    query = f"SELECT {_COLUMNS} FROM contracts WHERE id = $1" + (" FOR UPDATE" if lock else "")
    row = await conn.fetchrow(query, _id(name))
    return (_contract(row), row["peer"]) if row else None


async def newest_charter(conn: Connection, peer: str) -> pb.Contract:
    """Return the tier charter that was last agreed with a peer. Raises NotFound."""
    query = f"SELECT {_COLUMNS} FROM contracts WHERE peer = $1 AND kind = $2 ORDER BY created_at DESC, id DESC LIMIT 1"
    row = await conn.fetchrow(query, peer, pb.CONTRACT_KIND_CHARTER)
    if row is None:
        raise NotFound(Reason.CONTRACT_NOT_FOUND, f"there is no charter with {peer}", peer=peer)
    return _contract(row)


async def page(
    conn: Connection,
    *,
    state: int = 0,
    peer: str = "",
    kind: int = 0,
    waiting_on: str = "",
    after: tuple[datetime, str] | None = None,
    limit: int,
) -> list[pb.Contract]:
    """Return contracts, newest first; 0 and "" mean all. `waiting_on` is a node whose step is next."""
    query = f"""
        SELECT {_COLUMNS} FROM contracts
        WHERE ($1::smallint = 0 OR state = $1::smallint) AND ($2 = '' OR peer = $2)
          AND ($3::smallint = 0 OR kind = $3::smallint)
          AND ($4 = '' OR (state = ANY($5::smallint[]) AND provider = $4)
               OR (state = ANY($6::smallint[]) AND consumer = $4)
               OR (state = $7::smallint AND (CASE WHEN awaits_switch THEN provider = $4
                                             ELSE terminates_at IS NOT NULL AND terminated_by = $4 END)))
          AND ($8::timestamptz IS NULL OR (created_at, id) < ($8, $9))
        ORDER BY created_at DESC, id DESC LIMIT $10
    """
    time, last = after or (None, "")
    turns = [_turns(provider=True), _turns(provider=False)]
    values = (state, peer, kind, waiting_on, *turns, pb.CONTRACT_STATE_FINALIZED)
    return [_contract(row) for row in await conn.fetch(query, *values, time, last, limit)]


def _turns(*, provider: bool) -> list[int]:
    """Return the states in which the next step is the provider's, or the consumer's."""
    party = machine.Party("provider", "consumer")
    return [state for state in _NEGOTIATING if (party.turn(state) == "provider") is provider]


async def amendments(conn: Connection, name: str) -> list[tuple[pb.Contract, str]]:
    """Return and lock the contracts that amend another and have not ended, oldest first, each with its peer."""
    query = f"SELECT {_COLUMNS} FROM contracts WHERE amends = $1 AND state <> $2 ORDER BY created_at, id FOR UPDATE"
    rows = await conn.fetch(query, _id(name), pb.CONTRACT_STATE_TERMINATED)
    return [(_contract(row), row["peer"]) for row in rows]


async def flowing(conn: Connection) -> list[ActiveContract]:
    """Return the contracts under which facts leave this node now."""
    query = f"SELECT {ACTIVE} FROM contracts WHERE flowing"
    return [active(row) for row in await conn.fetch(query)]


async def returning(conn: Connection) -> list[ActiveContract]:
    """Return the charters that have ended and of which everything not received comes back; see returns_store."""
    query = f"SELECT {ACTIVE} FROM contracts WHERE returning_facts AND NOT flowing AND superseded_by = ''"
    return [active(row) for row in await conn.fetch(query)]


async def active_with(conn: Connection, peer: str) -> dict[str, ActiveContract]:
    """Return the contracts in force with a peer, by name."""
    query = f"SELECT {ACTIVE} FROM contracts WHERE peer = $1 AND state = $2 AND NOT awaits_switch"
    rows = await conn.fetch(query, peer, pb.CONTRACT_STATE_FINALIZED)
    return {each.name: each for each in map(active, rows)}


async def accepting_from(conn: Connection, peer: str) -> dict[str, ActiveContract]:
    """Return the contracts under which facts and rows of a peer are taken, by name: those in force, and a charter that
    was superseded until the child has said that all under it is sent.
    """
    query = f"SELECT {ACTIVE} FROM contracts WHERE peer = $1 AND {ACCEPTING.format(finalized='$2')}"
    rows = await conn.fetch(query, peer, pb.CONTRACT_STATE_FINALIZED)
    return {each.name: each for each in map(active, rows)}


async def in_force(conn: Connection) -> list[ActiveContract]:
    """Return the finalised contracts with all peers."""
    query = f"SELECT {ACTIVE} FROM contracts WHERE state = $1 AND NOT awaits_switch ORDER BY id"
    return [active(row) for row in await conn.fetch(query, pb.CONTRACT_STATE_FINALIZED)]


async def set_flowing(conn: Connection, *, name: str = "", charter_of: str = "") -> None:
    """Let a contract in force flow: by name, or the charter of a child."""
    await conn.execute(
        "UPDATE contracts SET flowing = true WHERE state = $3 AND NOT awaits_switch AND"
        " (id = $1 OR ($2 <> '' AND peer = $2 AND consumer = $2 AND kind = $4))",
        _id(name) if name else "",
        charter_of,
        pb.CONTRACT_STATE_FINALIZED,
        pb.CONTRACT_KIND_CHARTER,
    )


async def set_zone_withdrawn(conn: Connection, child: str) -> None:
    """Hand nothing new to a child under its charter any more: its zone was taken back."""
    await conn.execute(
        "UPDATE contracts SET zone_withdrawn = true WHERE peer = $1 AND consumer = $1 AND kind = $2",
        child,
        pb.CONTRACT_KIND_CHARTER,
    )


async def stop_flowing(conn: Connection, name: str) -> None:
    """Let nothing new flow under a contract from this moment."""
    await conn.execute("UPDATE contracts SET flowing = false WHERE id = $1", _id(name))


async def set_switch_stated(conn: Connection, name: str) -> None:
    """Note that the place of a switch is in the stream of facts."""
    await conn.execute("UPDATE contracts SET switch_stated = true WHERE id = $1", _id(name))


async def set_draining(conn: Connection, name: str, *, draining: bool) -> None:
    """Take, or take no longer, what still comes under a charter that was superseded."""
    await conn.execute("UPDATE contracts SET draining = $2 WHERE id = $1", _id(name), draining)


async def first_seen(conn: Connection, message_id: str, contract: str) -> bool:
    """Note a negotiation message; False when it was applied before."""
    query = "INSERT INTO contract_messages (id, contract) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true"
    return bool(await conn.fetchval(query, message_id, contract))


async def count(conn: Connection, tallies: Mapping[str, Tally]) -> None:
    """Add to the counters of contracts, by name."""
    if tallies:
        statement, values = counting(tallies, 1)
        await conn.execute(statement, *values)


def counting(tallies: Mapping[str, Tally], first: int) -> tuple[str, list[list[object]]]:
    """Return the statement that adds to the counters of contracts, and its parameters, which begin at $`first`."""
    names = sorted(tallies)  # one order for all, so that two batches never wait for each other in a circle
    columns = [[getattr(tallies[name], column) for name in names] for column in Tally.__dataclass_fields__]
    given = ", ".join(f"${first + 1 + place}::bigint[]" for place in range(len(columns)))
    statement = (
        "UPDATE contracts SET facts_sent = facts_sent + fs, facts_received = facts_received + fr,"
        " rows_sent = rows_sent + rs, rows_received = rows_received + rr"
        f" FROM unnest(${first}::text[], {given}) AS t(cid, fs, fr, rs, rr) WHERE id = cid"
    )
    return statement, [[_id(name) for name in names], *columns]


async def take_quota(conn: Connection, name: str, day: date, rows: int, quota: int) -> bool:
    """Count rows against the day's quota; False, and nothing counted, when they exceed it.

    Days do not go backwards: what is of an earlier day than the last counts on that.
    """
    query = """
        UPDATE contracts
        SET quota_rows = CASE WHEN quota_day >= $2 THEN quota_rows ELSE 0 END + $3, quota_day = greatest(quota_day, $2)
        WHERE id = $1 AND CASE WHEN quota_day >= $2 THEN quota_rows ELSE 0 END + $3 <= $4
        RETURNING true
    """
    return bool(await conn.fetchval(query, _id(name), day, rows, quota))


async def within_quota(conn: Connection, contract: ActiveContract, fact: Fact, rows: int) -> bool:
    """Count the rows of a fact on the UTC day of its time, which both ends read alike; False when they are too many."""
    quota = contract.terms.quota_rows_per_day
    return not quota or await take_quota(conn, contract.name, fact.time.ToDatetime().date(), rows, quota)


async def skip_bulk(conn: Connection, name: str, now: datetime) -> None:
    """Note that rows of a contract found the bulk lane full."""
    await conn.execute("INSERT INTO bulk_skipped VALUES ($1, $2) ON CONFLICT DO NOTHING", _id(name), now)


async def bulk_skipped(conn: Connection, peer: str) -> list[str]:
    """Return the contracts with a peer of which rows were passed over."""
    query = "SELECT contract FROM bulk_skipped JOIN contracts ON id = contract WHERE peer = $1 ORDER BY since, id"
    return [f"contracts/{row['contract']}" for row in await conn.fetch(query, peer)]


async def clear_bulk_skipped(conn: Connection, name: str) -> bool:
    """Forget that rows of a contract were passed over; False when none were."""
    return bool(await conn.fetchval("DELETE FROM bulk_skipped WHERE contract = $1 RETURNING true", _id(name)))


def _id(name: str) -> str:
    return name.removeprefix("contracts/")


def active(row: Iterable[Any]) -> ActiveContract:
    """Return the contract of a row with the columns of ACTIVE."""
    return _made(*row)


@lru_cache(CONTRACTS_KEPT_MAX)
def _made(
    id_: str,
    kind: pb.ContractKind.ValueType,
    peer: str,
    provider: str,
    consumer: str,
    terms: bytes,
    agreement_hash: bytes,
    terminates_at: datetime | None,
    zone_withdrawn: bool,
) -> ActiveContract:
    """Each batch of facts reads the contracts anew; what has not changed is not read again. Nobody writes to it."""
    return ActiveContract(
        name=f"contracts/{id_}",
        kind=kind,
        peer=peer,
        provider=provider,
        consumer=consumer,
        terms=pb.Terms.FromString(terms),
        agreement_hash=agreement_hash,
        terminates_at=terminates_at,
        zone_withdrawn=zone_withdrawn,
    )


def _contract(row: Record) -> pb.Contract:
    plain = (
        "kind", "provider", "consumer", "state", "provider_signature", "consumer_signature", "reason", "terminated_by",
        "facts_sent", "facts_received", "rows_sent", "rows_received", "refused", "version", "awaits_switch",
    )  # fmt: skip
    contract = pb.Contract(name=f"contracts/{row['id']}", **{name: row[name] for name in plain})
    contract.terms.ParseFromString(row["terms"])
    contract.agreement_hash = row["agreement_hash"].hex()
    contract.created_at.FromDatetime(row["created_at"])
    contract.updated_at.FromDatetime(row["updated_at"])
    contract.amends, contract.superseded_by = _name(row["amends"]), _name(row["superseded_by"])
    for time in ("in_force_at", "terminates_at", "deadline", "reminded_at"):
        if row[time] is not None:
            getattr(contract, time).FromDatetime(row[time])
    contract.waits_for = waiting.waits_for(contract)
    contract.owner = waiting.owner(contract, contract.waits_for) if contract.waits_for else ""
    return contract


def _name(contract: str) -> str:
    return f"contracts/{contract}" if contract else ""


def _time(contract: pb.Contract, field_name: str) -> datetime | None:
    return getattr(contract, field_name).ToDatetime(UTC) if contract.HasField(field_name) else None  # type: ignore[arg-type]
