"""The rules of terms: what is signed, what is understood, what a contract lets through. No I/O."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToDict
from google.protobuf.unknown_fields import UnknownFieldSet

from libs import canonical, rules
from libs.errors import Forbidden, Invalid, Reason
from quintet.federation.v1 import federation_pb2 as pb
from quintet.sharing.v1 import sharing_pb2
from services.federation import row_terms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message

    from libs.zones import ZoneTree

UP = pb.DIRECTION_UP
DOWN = pb.DIRECTION_DOWN


def agreement(contract: pb.Contract) -> bytes:
    """Return what both parties sign: RFC 8785 JSON of the contract's name, kind, parties, version, amends and terms."""
    return canonical.dumps(
        {
            "name": contract.name,
            "kind": pb.ContractKind.Name(contract.kind),
            "provider": contract.provider,
            "consumer": contract.consumer,
            "version": contract.version,
            "amends": contract.amends,
            "terms": MessageToDict(contract.terms),
        }
    )


def agreement_hash(contract: pb.Contract) -> bytes:
    """Return SHA-256 of the agreement, 32 bytes."""
    return hashlib.sha256(agreement(contract)).digest()


# -------------------------------------------------------------------------------------------- charters

# What the home of an event says of it after the opening.
_OF_EVENTS = (
    "ReportMerged",
    "EventAdvanced",
    "EventAssigned",
    "EventRated",
    "JointDisposalStarted",
    "SubOrderCompleted",
    "ExceptionChanged",
)
_MANAGEMENT_UP = (
    "EventOpened",
    *_OF_EVENTS,
    "DeadlineMissed",
    "EventEscalated",
    "HandoverChanged",
    "WhistleChanged",
    "WhistleUnanswered",
    "WhistleRated",
    "TakeOverRefused",
)
# What the tier above asks for, and what it says of events that moved to it: their old home and its people follow them.
_MANAGEMENT_DOWN = (
    "TakeOverAsked",
    *_OF_EVENTS,
    "WhistleReportedIn",
)
# Whoever took the request hears its reporter; the tier that handles the event has to know, wherever it is. Events move
# between the tiers in both directions, and so do the hand-overs that they follow.
_BOTH_WAYS = (
    "delivery.v1.RequestRated",
    "delivery.v1.RequestReopened",
    "management.v1.FollowUpFinished",
    "management.v1.EventMoved",
    "management.v1.HandoverAcross",
    "management.v1.HandoverAnswered",
)


def default_charter(zone: str) -> pb.Terms:
    """Return the tier charter of a child: reports of events and warnings go up; requests, who came to a whistle and
    what becomes of events that the tier above took over come down. What reporters say of the handling goes both ways,
    and so do photos and files of events when somebody opens them.

    Who reported and how to reach them stay at the node where they reported.
    """
    facts = [pb.FactTerms(type=f"quintet.management.v1.{name}", direction=UP) for name in _MANAGEMENT_UP]
    facts += [
        pb.FactTerms(type=f"quintet.perception.v1.{name}", direction=UP) for name in ("WarningRaised", "WarningEnded")
    ]
    facts.append(pb.FactTerms(type="quintet.identity.v1.OrganisationChanged", direction=UP))
    personal = ["request.reporter", "request.contact"]
    facts.append(pb.FactTerms(type="quintet.delivery.v1.RequestFiled", direction=DOWN, masked=personal))
    facts += [pb.FactTerms(type=f"quintet.management.v1.{name}", direction=DOWN) for name in _MANAGEMENT_DOWN]
    facts += [pb.FactTerms(type=f"quintet.{name}", direction=way) for name in _BOTH_WAYS for way in (UP, DOWN)]
    purpose = "tier charter: handling of events and reporting to the tier above"
    return pb.Terms(facts=facts, zone=zone, purpose=purpose, event_evidence=True)


# ------------------------------------------------------------------------------------------- what is agreed to


def check_understood(terms: pb.Terms) -> None:
    """Refuse terms that this release cannot read in full: who does not understand a term cannot keep it.

    Raises Forbidden(TERMS_NOT_UNDERSTOOD) for a field or a word of a list that is not known here, anywhere in them.
    """
    unknown = _unknown_in(terms, "terms")
    if unknown:
        raise Forbidden(Reason.TERMS_NOT_UNDERSTOOD, f"{unknown} is not known to this node", field=unknown)


def _unknown_in(message: Message, path: str) -> str:
    """Return the first thing in a message that is unknown, "" for none."""
    unknown = UnknownFieldSet(message)
    if len(unknown):
        return f"{path}: field number {unknown[0].field_number}"
    for field, value in message.ListFields():
        here = f"{path}.{field.json_name}"
        values = value if field.is_repeated else [value]
        if field.enum_type is not None:
            strange = next((number for number in values if number not in field.enum_type.values_by_number), None)
            if strange is not None:
                return f"{here}: value {strange}"
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            found = next((text for each in values if (text := _unknown_in(each, here))), "")
            if found:
                return found
    return ""


def check(kind: pb.ContractKind.ValueType, terms: pb.Terms) -> None:
    """Check terms that are asked for or offered, by this node or by a peer.

    Raises Invalid with all that is wrong, and like `check_understood`.
    """
    check_understood(terms)
    rules.validate(terms)
    if kind == pb.CONTRACT_KIND_CHARTER:
        check_charter(terms)
    else:
        check_exchange(terms)


def check_amendment(before: pb.Contract, terms: pb.Terms) -> None:
    """Check terms that would replace those of `before`. Raises like `check`."""
    check(before.kind, terms)
    if before.kind == pb.CONTRACT_KIND_CHARTER and terms.zone != before.terms.zone:
        raise Invalid("terms.zone", f"must stay {before.terms.zone}: a zone is delegated by joining")
    if terms.product != before.terms.product:
        raise Invalid(
            "terms.product", f"must stay {before.terms.product or 'empty'}: another product is another contract"
        )


def check_charter(terms: pb.Terms) -> None:
    """Check the terms of a tier charter. Raises Invalid with all that is wrong."""
    wrong: list[tuple[str, str]] = []
    ways = [(fact.type, fact.direction) for fact in terms.facts]
    if len(set(ways)) != len(ways):
        wrong.append(("terms.facts", "must name each kind of fact once for each direction"))
    if not ways:
        wrong.append(("terms.facts", "must name at least one kind of fact"))
    if not terms.zone:
        wrong.append(("terms.zone", "is required in a charter"))
    empty = {"product": terms.product, "fields": terms.fields, "salt": terms.salt, "filter": terms.HasField("filter")}
    wrong.extend((f"terms.{name}", "must be empty in a charter") for name, value in empty.items() if value)
    if terms.HasField("valid_until") and terms.valid_until.ToDatetime() <= terms.valid_from.ToDatetime():
        wrong.append(("terms.validUntil", "must be after terms.validFrom"))
    if wrong:
        raise Invalid.many(wrong)


def check_exchange(terms: pb.Terms) -> None:
    """Check the terms of an exchange. Raises Invalid with all that is wrong."""
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
    wrong.extend(row_terms.faults(terms))
    if terms.facts:
        wrong.append(("terms.facts", "must be empty in an exchange"))
    if terms.event_evidence:
        wrong.append(("terms.eventEvidence", "must be false in an exchange"))
    if terms.HasField("valid_until") and terms.valid_until.ToDatetime() <= terms.valid_from.ToDatetime():
        wrong.append(("terms.validUntil", "must be after terms.validFrom"))
    if terms.salt:
        wrong.append(("terms.salt", "is chosen by the provider"))
    if wrong:
        raise Invalid.many(wrong)


# ----------------------------------------------------------------------------------------- enforcement


# Facts with which an upper tier hands something new to the one that is authoritative for the zone.
HANDING_OVER = frozenset({"quintet.delivery.v1.RequestFiled"})


@dataclass(frozen=True)
class ActiveContract:
    """A contract in force, as the code that lets facts through sees it. Its terms do not change any more."""

    name: str
    kind: pb.ContractKind.ValueType
    peer: str
    provider: str
    consumer: str
    terms: pb.Terms
    agreement_hash: bytes
    # When a notice of termination takes effect.
    terminates_at: datetime | None = None
    # The child has lost its zone: it finishes what it has, and is handed nothing new.
    zone_withdrawn: bool = False

    def in_time(self, now: datetime) -> bool:
        """Say whether the contract is valid now."""
        if self.terminates_at is not None and self.terminates_at <= now:
            return False
        begins, ends = self._valid
        return (begins is None or begins <= now) and (ends is None or now < ends)

    @cached_property
    def _valid(self) -> tuple[datetime | None, datetime | None]:
        terms = self.terms
        return (
            terms.valid_from.ToDatetime(UTC) if terms.HasField("valid_from") else None,
            terms.valid_until.ToDatetime(UTC) if terms.HasField("valid_until") else None,
        )

    @cached_property
    def _facts(self) -> dict[tuple[str, int], pb.FactTerms]:
        return {(terms.type, terms.direction): terms for terms in reversed(self.terms.facts)}

    def fact_terms(self, fact_type: str, sender: str) -> pb.FactTerms | None:
        """Return the terms for a fact that `sender` may send, None when it may not."""
        direction = DOWN if sender == self.provider else UP
        if self.zone_withdrawn and direction == DOWN and fact_type in HANDING_OVER:
            return None
        return self._facts.get((fact_type, direction))

    def covers(self, zones: ZoneTree, zone: str) -> bool:
        """Say whether a fact about `zone` is within the contract's zone.

        A zone that this node does not know cannot belong to anybody else here: a child may divide its own zone further.
        """
        return not self.terms.zone or zones.covers(self.terms.zone, zone) or zone not in zones

    def may_give(self, zones: ZoneTree, zone: str, sender: str) -> bool:
        """Say whether `sender` may give what is about `zone`.

        Down the tiers goes only what is known to belong there: with a zone that the parent does not know it could be
        another child's.
        """
        known = sender != self.provider or not self.terms.zone or zone in zones
        return known and self.covers(zones, zone)

    def fields(self) -> frozenset[str]:
        """Return the fields of an exchange that the consumer gets to see."""
        return frozenset(terms.field for terms in self.terms.fields if terms.masking != sharing_pb2.MASKING_DROP)


def active(contract: pb.Contract) -> ActiveContract:
    """Return a contract as the code sees it that lets facts through; it says nothing of whether it is in force."""
    return ActiveContract(
        name=contract.name,
        kind=contract.kind,
        peer="",
        provider=contract.provider,
        consumer=contract.consumer,
        terms=contract.terms,
        agreement_hash=bytes.fromhex(contract.agreement_hash),
        terminates_at=contract.terminates_at.ToDatetime(UTC) if contract.HasField("terminates_at") else None,
    )


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
