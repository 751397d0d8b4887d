"""The state machine of a negotiation: which step follows which, who takes it, and what becomes of steps that cross.

States and messages are those of the Dataspace Protocol 2025-1, section "Contract Negotiation Protocol" ("States",
"State Machine", "Message Types"). Two things are ours: steps are messages of a queue and not calls, so that two may
cross; and a contract in force may be ended, which the protocol leaves to the parties.

In every state before FINALIZED the next step is one node's alone, so only an ending can cross another step. An ending
wins over any other step, and of several endings both nodes keep the same one. No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from libs.errors import Reason, WrongState
from quintet.federation.v1 import federation_pb2 as pb

REQUEST = "ContractRequestMessage"
OFFER = "ContractOfferMessage"
AGREEMENT = "ContractAgreementMessage"
VERIFICATION = "ContractAgreementVerificationMessage"
EVENT = "ContractNegotiationEventMessage"
TERMINATION = "ContractNegotiationTerminationMessage"
MESSAGES = (REQUEST, OFFER, AGREEMENT, VERIFICATION, EVENT, TERMINATION)

ACCEPTED = "ACCEPTED"
FINALIZED = "FINALIZED"

SUPERSEDED = "superseded"
DEADLINE = "deadline"
EXPIRED = "expired"

# (state before, message, event) -> state after; UNSPECIFIED is "no such contract yet".
_STEPS = {
    (pb.CONTRACT_STATE_UNSPECIFIED, REQUEST, ""): pb.CONTRACT_STATE_REQUESTED,
    (pb.CONTRACT_STATE_UNSPECIFIED, OFFER, ""): pb.CONTRACT_STATE_OFFERED,
    (pb.CONTRACT_STATE_UNSPECIFIED, AGREEMENT, ""): pb.CONTRACT_STATE_AGREED,  # a charter is agreed on joining
    (pb.CONTRACT_STATE_REQUESTED, OFFER, ""): pb.CONTRACT_STATE_OFFERED,
    (pb.CONTRACT_STATE_OFFERED, REQUEST, ""): pb.CONTRACT_STATE_REQUESTED,
    (pb.CONTRACT_STATE_OFFERED, EVENT, ACCEPTED): pb.CONTRACT_STATE_ACCEPTED,
    (pb.CONTRACT_STATE_REQUESTED, AGREEMENT, ""): pb.CONTRACT_STATE_AGREED,
    (pb.CONTRACT_STATE_ACCEPTED, AGREEMENT, ""): pb.CONTRACT_STATE_AGREED,
    (pb.CONTRACT_STATE_AGREED, VERIFICATION, ""): pb.CONTRACT_STATE_VERIFIED,
    (pb.CONTRACT_STATE_VERIFIED, EVENT, FINALIZED): pb.CONTRACT_STATE_FINALIZED,
}
_BY_PROVIDER = {(OFFER, ""), (AGREEMENT, ""), (EVENT, FINALIZED)}
_WAITING_FOR_PROVIDER = {pb.CONTRACT_STATE_REQUESTED, pb.CONTRACT_STATE_ACCEPTED, pb.CONTRACT_STATE_VERIFIED}
_WAITING_FOR_CONSUMER = {pb.CONTRACT_STATE_OFFERED, pb.CONTRACT_STATE_AGREED}
NEGOTIATING = _WAITING_FOR_PROVIDER | _WAITING_FOR_CONSUMER


class Outcome(StrEnum):
    """What became of a step."""

    APPLIED = "APPLIED"
    CROSSED = "CROSSED"  # the contract had ended already when the step came
    REFUSED = "REFUSED"


@dataclass(frozen=True)
class Party:
    """Which side of a contract a node is on."""

    provider: str
    consumer: str

    def may(self, node: str, message: str, event: str = "") -> bool:
        """Say whether `node` is the one to send the message."""
        if message == TERMINATION:
            return node in {self.provider, self.consumer}
        return node == (self.provider if (message, event) in _BY_PROVIDER else self.consumer)

    def turn(self, state: pb.ContractState.ValueType) -> str:
        """Return the node whose step is next; empty when the negotiation is over."""
        if state in _WAITING_FOR_PROVIDER:
            return self.provider
        return self.consumer if state in _WAITING_FOR_CONSUMER else ""


@dataclass(frozen=True)
class Ending:
    """A termination, or the notice of one. `at` is when a notice takes effect; None ends at once."""

    message_id: str
    by: str
    reason: str
    at: datetime | None = None
    superseded_by: str = ""

    @property
    def rank(self) -> tuple[int, datetime, str]:
        """Of two endings that cross the one with the lower rank stands, at both nodes.

        The provider's word that an amendment has taken over comes first; what ends at once goes before what ends later.
        """
        kind = 0 if self.superseded_by else 1 if self.at is None else 2
        return kind, self.at or datetime.min.replace(tzinfo=UTC), self.message_id


@dataclass(frozen=True)
class Position:
    """Where a contract stands at one node."""

    state: pb.ContractState.ValueType
    ending: Ending | None = None


def next_state(state: pb.ContractState.ValueType, message: str, event: str = "") -> pb.ContractState.ValueType:
    """Return the state after a step. Raises WrongState for a step that the state machine does not have."""
    if message == TERMINATION and state not in {pb.CONTRACT_STATE_UNSPECIFIED, pb.CONTRACT_STATE_TERMINATED}:
        return pb.CONTRACT_STATE_TERMINATED
    after = _STEPS.get((state, message, event))
    if after is None:
        name = pb.ContractState.Name(state).removeprefix("CONTRACT_STATE_")
        step = f"{message} {event}".strip()
        raise WrongState(Reason.WRONG_STATE, f"{step} does not follow {name}", state=name, message_type=message)
    return after


def end(position: Position, ending: Ending) -> Position:
    """Return where a contract stands after an ending, whoever sent it. Raises WrongState where nothing can end."""
    if position.state == pb.CONTRACT_STATE_UNSPECIFIED:
        raise WrongState(Reason.WRONG_STATE, "there is no such contract")
    in_force = position.state in {pb.CONTRACT_STATE_FINALIZED, pb.CONTRACT_STATE_TERMINATED}
    if ending.at is not None and not in_force:
        raise WrongState(Reason.WRONG_STATE, "notice is given of contracts in force only")
    kept = ending if position.ending is None else min(position.ending, ending, key=lambda each: each.rank)
    state = position.state if ending.at is not None else pb.CONTRACT_STATE_TERMINATED
    return Position(state, kept)


def hear(position: Position, message: str, event: str, ending: Ending | None) -> tuple[Position, Outcome]:
    """Return where a contract stands after a step of the other node. Raises WrongState for a step that cannot come."""
    if message == TERMINATION:
        if ending is None:
            raise ValueError("a termination comes with its ending")
        after = end(position, ending)
        return after, Outcome.APPLIED if after != position else Outcome.CROSSED
    if position.state == pb.CONTRACT_STATE_TERMINATED:
        return position, Outcome.CROSSED
    return replace(position, state=next_state(position.state, message, event)), Outcome.APPLIED


def ran_out(position: Position, now: datetime) -> Position:
    """Return where a contract stands when a notice has taken effect by the clock; unchanged when none has."""
    ending = position.ending
    due = ending is not None and ending.at is not None and ending.at <= now
    if not due or position.state != pb.CONTRACT_STATE_FINALIZED:
        return position
    return replace(position, state=pb.CONTRACT_STATE_TERMINATED)
