"""What a contract or a transfer waits for, whose step it is, until when, and when the owner is reminded. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from quintet.federation.v1 import federation_pb2 as pb
from services.federation.machine import NEGOTIATING, Party

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.timestamp_pb2 import Timestamp

# The owner is reminded at half time, and again this long before the end; of short waits, when a tenth is left.
REMINDER_BEFORE_END = timedelta(days=1)
REMINDER_SHORT_PART = 10


@dataclass(frozen=True)
class WaitDays:
    """How long this node waits for a next step, its own or the other side's, before it ends the matter.

    The other side has limits of its own: the shorter one counts.
    """

    negotiation: int = 14
    switch: int = 14  # to an amendment that is due
    transfer_request: int = 14
    transfer_suspension: int = 90


class Wait(NamedTuple):
    """A step that is owed: by which node, by whom there, and until when."""

    node: str
    owner: str
    deadline: datetime


def of_contract(contract: pb.Contract, days: WaitDays, now: datetime) -> Wait | None:
    """Return what a contract waits for from `now` on; None when it waits for nobody."""
    node = waits_for(contract)
    if not node:
        return None
    if contract.state in NEGOTIATING:
        deadline = now + timedelta(days=days.negotiation)
    elif contract.awaits_switch:
        deadline = max(now, _time(contract.in_force_at)) + timedelta(days=days.switch)
    else:
        deadline = _time(contract.terminates_at)
    return Wait(node, owner(contract, node), deadline)


def waits_for(contract: pb.Contract) -> str:
    """Return the node whose step is next; empty when the contract waits for nobody."""
    if contract.state in NEGOTIATING:
        return Party(contract.provider, contract.consumer).turn(contract.state)
    if contract.state != pb.CONTRACT_STATE_FINALIZED:
        return ""
    if contract.awaits_switch:
        return contract.provider
    return contract.terminated_by if contract.HasField("terminates_at") else ""


def of_transfer(transfer: pb.Transfer, terms: pb.Terms, days: WaitDays, now: datetime) -> Wait | None:
    """Return what a transfer waits for from `now` on; None when it waits for nobody."""
    node = transfer_waits_for(transfer)
    if not node:
        return None
    requested = transfer.state == pb.TRANSFER_STATE_REQUESTED
    length = timedelta(days=days.transfer_request if requested else days.transfer_suspension)
    return Wait(node, transfer_owner(transfer, terms, node), now + length)


def transfer_waits_for(transfer: pb.Transfer) -> str:
    """Return the node whose step is next: the provider to begin, or who suspended it to start it again; else empty."""
    if transfer.state == pb.TRANSFER_STATE_REQUESTED:
        return transfer.provider
    return transfer.changed_by if transfer.state == pb.TRANSFER_STATE_SUSPENDED else ""


def transfer_owner(transfer: pb.Transfer, terms: pb.Terms, node: str) -> str:
    """Return the contact that answers for a node's step in a transfer."""
    return _contact(terms, provider=node == transfer.provider) or f"nodes/{node}"


def owner(contract: pb.Contract, node: str) -> str:
    """Return the contact that answers for a node's step: the one in the terms, else the node itself."""
    return _contact(contract.terms, provider=node == contract.provider) or f"nodes/{node}"


def ends_at(contract: pb.Contract) -> datetime | None:
    """Return when a contract in force ends by the clock: a notice takes effect or its validity is over."""
    if contract.state != pb.CONTRACT_STATE_FINALIZED:
        return None
    times = [contract.terminates_at] if contract.HasField("terminates_at") else []
    if contract.terms.HasField("valid_until"):
        times.append(contract.terms.valid_until)
    return min(map(_time, times), default=None)


def next_reminder(since: datetime, deadline: datetime, now: datetime) -> datetime | None:
    """Return when the owner of a step that is owed from `since` to `deadline` is reminded next; None for not again."""
    return min((time for time in reminders(since, deadline) if time > now), default=None)


def reminders(since: datetime, deadline: datetime) -> Iterable[datetime]:
    """Return when the owner of a step is reminded, in order."""
    length = deadline - since
    yield since + length / 2
    yield deadline - min(REMINDER_BEFORE_END, length / REMINDER_SHORT_PART)


def in_force_at(terms: pb.Terms, notice_days: int, now: datetime) -> datetime:
    """Return when what is finalised now comes into force: when it is valid, and, for an amendment, after the notice
    that the contract which it amends asks for, unless both have agreed to waive it.
    """
    after_notice = now if terms.waive_notice else now + timedelta(days=notice_days)
    return max(after_notice, _time(terms.valid_from)) if terms.HasField("valid_from") else after_notice


def _contact(terms: pb.Terms, *, provider: bool) -> str:
    return terms.provider_contact if provider else terms.consumer_contact


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(UTC)
