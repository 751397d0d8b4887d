"""The rules of contracts: what is signed, which step follows which, what a contract lets through. No I/O."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToDict

from libs import canonical
from libs.errors import Invalid, Reason, WrongState
from quintet.federation.v1 import federation_pb2 as pb
from quintet.sharing.v1 import sharing_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message

    from libs.zones import ZoneTree

UP = pb.DIRECTION_UP
DOWN = pb.DIRECTION_DOWN

REQUEST = "ContractRequestMessage"
AGREEMENT = "ContractAgreementMessage"
VERIFICATION = "ContractAgreementVerificationMessage"
EVENT = "ContractNegotiationEventMessage"
TERMINATION = "ContractNegotiationTerminationMessage"

# (state before, message) -> state after, as in the Dataspace Protocol 2025-1; 0 is "no such contract yet".
_STEPS = {
    (pb.CONTRACT_STATE_UNSPECIFIED, REQUEST): pb.CONTRACT_STATE_REQUESTED,
    (pb.CONTRACT_STATE_REQUESTED, AGREEMENT): pb.CONTRACT_STATE_AGREED,
    (pb.CONTRACT_STATE_UNSPECIFIED, AGREEMENT): pb.CONTRACT_STATE_AGREED,  # a charter is agreed on joining
    (pb.CONTRACT_STATE_AGREED, VERIFICATION): pb.CONTRACT_STATE_VERIFIED,
    (pb.CONTRACT_STATE_VERIFIED, EVENT): pb.CONTRACT_STATE_FINALIZED,
}
# Who may take a step: the provider or the consumer.
_BY_PROVIDER = {AGREEMENT, EVENT}


@dataclass(frozen=True)
class Party:
    """Which side of a contract a node is on."""

    provider: str
    consumer: str

    def may(self, node: str, message: str) -> bool:
        """Say whether `node` is the one to send the message."""
        if message == TERMINATION:
            return node in {self.provider, self.consumer}
        return node == (self.provider if message in _BY_PROVIDER else self.consumer)


def next_state(state: pb.ContractState.ValueType, message: str) -> pb.ContractState.ValueType:
    """Return the state after a step. Raises WrongState for a step that the state machine does not have."""
    if message == TERMINATION and state not in {pb.CONTRACT_STATE_UNSPECIFIED, pb.CONTRACT_STATE_TERMINATED}:
        return pb.CONTRACT_STATE_TERMINATED
    after = _STEPS.get((state, message))
    if after is None:
        name = pb.ContractState.Name(state)
        raise WrongState(Reason.WRONG_STATE, f"{message} does not follow {name}", state=name, message_type=message)
    return after


def agreement(contract: pb.Contract) -> bytes:
    """Return what both parties sign: RFC 8785 JSON of the contract's name, kind, parties and terms."""
    return canonical.dumps(
        {
            "name": contract.name,
            "kind": pb.ContractKind.Name(contract.kind),
            "provider": contract.provider,
            "consumer": contract.consumer,
            "terms": MessageToDict(contract.terms),
        }
    )


def agreement_hash(contract: pb.Contract) -> bytes:
    """Return SHA-256 of the agreement, 32 bytes."""
    return hashlib.sha256(agreement(contract)).digest()


# -------------------------------------------------------------------------------------------- charters

_MANAGEMENT_UP = ("EventOpened", "ReportMerged", "EventAdvanced", "JointDisposalStarted", "SubOrderCompleted")


def default_charter(zone: str) -> pb.Terms:
    """Return the tier charter of a child: reports of events and warnings go up, requests and ratings come down.

    Who reported and how to reach them stay at the node where they reported.
    """
    facts = [pb.FactTerms(type=f"quintet.management.v1.{name}", direction=UP) for name in _MANAGEMENT_UP]
    facts += [
        pb.FactTerms(type=f"quintet.perception.v1.{name}", direction=UP) for name in ("WarningRaised", "WarningEnded")
    ]
    facts.append(pb.FactTerms(type="quintet.identity.v1.OrganisationChanged", direction=UP))
    personal = ["request.reporter", "request.contact"]
    facts.append(pb.FactTerms(type="quintet.delivery.v1.RequestFiled", direction=DOWN, masked=personal))
    facts.append(pb.FactTerms(type="quintet.delivery.v1.RequestRated", direction=DOWN))
    return pb.Terms(facts=facts, zone=zone, purpose="tier charter: handling of events and reporting to the tier above")


def check_exchange(terms: pb.Terms) -> None:
    """Check terms that are asked for. Raises Invalid with all that is wrong."""
    wrong: list[tuple[str, str]] = []
    if not terms.product:
        wrong.append(("terms.product", "is required in an exchange"))
    if terms.product_version < 1:
        wrong.append(("terms.productVersion", "must be at least 1"))
    names = [field.field for field in terms.fields]
    if not names:
        wrong.append(("terms.fields", "must name at least one field"))
    if len(set(names)) != len(names):
        wrong.append(("terms.fields", "must name each field once"))
    if terms.facts:
        wrong.append(("terms.facts", "must be empty in an exchange"))
    if terms.HasField("valid_until") and terms.valid_until.ToDatetime() <= terms.valid_from.ToDatetime():
        wrong.append(("terms.validUntil", "must be after terms.validFrom"))
    if terms.salt:
        wrong.append(("terms.salt", "is chosen by the provider"))
    if wrong:
        raise Invalid.many(wrong)


# ----------------------------------------------------------------------------------------- enforcement


@dataclass(frozen=True)
class ActiveContract:
    """A contract in force, as the code that lets facts through sees it."""

    name: str
    kind: pb.ContractKind.ValueType
    peer: str
    provider: str
    consumer: str
    terms: pb.Terms
    agreement_hash: bytes

    def in_time(self, now: datetime) -> bool:
        """Say whether the contract is valid now."""
        begun = not self.terms.HasField("valid_from") or self.terms.valid_from.ToDatetime(UTC) <= now
        ended = self.terms.HasField("valid_until") and self.terms.valid_until.ToDatetime(UTC) <= now
        return begun and not ended

    def fact_terms(self, fact_type: str, sender: str) -> pb.FactTerms | None:
        """Return the terms for a fact that `sender` may send, None when it may not."""
        direction = DOWN if sender == self.provider else UP
        for terms in self.terms.facts:
            if terms.type == fact_type and terms.direction == direction:
                return terms
        return None

    def covers(self, zones: ZoneTree, zone: str) -> bool:
        """Say whether a fact about `zone` is within the contract's zone.

        A zone that this node does not know cannot belong to anybody else here: a child may divide its own zone further.
        """
        return not self.terms.zone or zones.covers(self.terms.zone, zone) or zone not in zones

    def fields(self) -> frozenset[str]:
        """Return the fields of an exchange that the consumer gets to see."""
        return frozenset(terms.field for terms in self.terms.fields if terms.masking != sharing_pb2.MASKING_DROP)


def clear_masked(message: Message, paths: Iterable[str]) -> None:
    """Clear the fields at the paths ("request.contact") in place. A path that the message does not have is ignored:
    the terms may be older or newer than the message.
    """
    for path in paths:
        *parents, last = path.split(".")
        target: Message | None = message
        for name in parents:
            target = _child(target, name)
        if target is not None and last in target.DESCRIPTOR.fields_by_name:
            target.ClearField(last)


def _child(message: Message | None, name: str) -> Message | None:
    if message is None:
        return None
    field = message.DESCRIPTOR.fields_by_name.get(name)
    if field is None or field.message_type is None or field.is_repeated or not message.HasField(name):
        return None
    child: Message = getattr(message, name)
    return child
