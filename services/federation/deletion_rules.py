"""What a deletion proof is worth, by what the provider has counted of what it gave. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from quintet.federation.v1 import federation_pb2 as pb
from services.federation.metering import DAYS_KEEP_DAYS

if TYPE_CHECKING:
    from collections.abc import Sequence

PENDING = pb.DELETION_CHECK_PENDING
MATCHES = pb.DELETION_CHECK_MATCHES
DIFFERS = pb.DELETION_CHECK_DIFFERS
IMPOSSIBLE = pb.DELETION_CHECK_IMPOSSIBLE

# How long what is missing in a proof may still come in a later one, from when the proof came. Where only what is old
# was deleted, what came late for a day is held as much longer as the contract allows.
MISSING_WAIT_HOURS = 48
# What waits is looked at again after this time: settlement may change this node's own figures meanwhile.
LOOK_AGAIN_HOURS = 1
# So long people are alarmed by a proof that differs; it is looked at again every day.
ALARM_DAYS = 90


class Sums(NamedTuple):
    """Facts that carried rows, the rows in them, and the sum modulo 2^256 of the digests of the facts' ids."""

    facts: int
    rows: int
    digest: int


@dataclass(frozen=True)
class ProvedDay:
    """A day that a proof names: what all proofs say of it, and what was given on it; None when that is not known."""

    contract: str
    day: date
    proved: Sums
    given: Sums | None


@dataclass(frozen=True)
class Unproved:
    """Days on which more was given than proofs say is gone: how many there are, and the first."""

    days: int = 0
    first: date | None = None


class Finding(NamedTuple):
    """What was found, and why, for people."""

    check: pb.DeletionCheck.ValueType
    text: str = ""


def judge(days: Sequence[ProvedDay], unproved: Unproved, rows: int, rows_given: int, today: date) -> Finding:
    """Hold a proof of `rows` rows against what was given.

    `unproved` is of days that the proof ought to name, `rows_given` what was ever given under its contract.
    """
    if rows > rows_given:
        return Finding(DIFFERS, f"{rows} rows are said to be deleted, {rows_given} were given")
    missing, unknown = unproved.days, 0
    first = unproved.first
    for one in days:
        if one.given == one.proved:
            continue
        if one.given is None or not one.given.facts:
            if one.day >= today - timedelta(days=DAYS_KEEP_DAYS):
                return Finding(DIFFERS, f"nothing was given under {one.contract} on {one.day}")
            unknown += 1
        elif one.proved.facts >= one.given.facts or one.proved.rows > one.given.rows:
            return Finding(DIFFERS, _other(one, one.given))
        else:
            missing += 1
            first = one.day if first is None else min(first, one.day)
    if missing:
        return Finding(PENDING, f"of {missing} days, first {first}, more was given than proofs name")
    if unknown:
        return Finding(
            IMPOSSIBLE, f"of {unknown} days the figures are kept no more, they are over {DAYS_KEEP_DAYS} days old"
        )
    return Finding(MATCHES)


def in_time(found: Finding, taken_at: datetime, held_days: int, now: datetime) -> Finding:
    """Return what a finding comes to: what has waited too long for the rest differs."""
    if found.check == PENDING and now >= deadline(taken_at, held_days):
        return Finding(DIFFERS, found.text)
    return found


def deadline(taken_at: datetime, held_days: int) -> datetime:
    """Return until when a proof waits for others. `held_days` is how long what is not old may be held."""
    return taken_at + timedelta(days=held_days, hours=MISSING_WAIT_HOURS)


def look_again(check: pb.DeletionCheck.ValueType, taken_at: datetime, held_days: int, now: datetime) -> datetime | None:
    """Return when to look at a proof again; None when nothing can change any more."""
    if check == PENDING:
        return min(now + timedelta(hours=LOOK_AGAIN_HOURS), deadline(taken_at, held_days))
    ends_at = taken_at + timedelta(days=ALARM_DAYS)
    if check != DIFFERS or now >= ends_at:
        return None
    return min(now + timedelta(days=1), ends_at)


def _other(one: ProvedDay, given: Sums) -> str:
    if one.proved[:2] == given[:2]:
        return f"under {one.contract} other facts were given on {one.day} than those that are said to be gone"
    return (
        f"under {one.contract} {given.facts} facts with {given.rows} rows were given on {one.day},"
        f" {one.proved.facts} with {one.proved.rows} are said to be gone"
    )
