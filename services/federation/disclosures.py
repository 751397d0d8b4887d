"""Disclosures: who was given data about a person, under which contract and for what.

The person is kept as a keyed hash only: the list can be asked for by who knows the person's name or number, and by
nobody else read out of the database.
"""

from __future__ import annotations

import hmac
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from libs import masking
from libs.rules import rules_of
from quintet.federation.v1 import federation_pb2 as pb
from quintet.sharing.v1 import sharing_pb2
from services.federation.known_facts import TYPES, parse

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

    from quintet.fact.v1.fact_pb2 import Fact
    from services.federation.terms import ActiveContract

DISCLOSURES_KEEP_DAYS = 3 * 366
# Messages about a person, and the field that says about whom.
_PEOPLE = {
    "quintet.delivery.v1.Request": "reporter",
    "quintet.delivery.v1.Application": "applicant",
    "quintet.delivery.v1.Certificate": "holder",
    "quintet.identity.v1.Person": "name",
}
_NESTING_MAX = 3


@dataclass(frozen=True)
class Disclosed:
    """What one person's data was given as. `fields` are "name" or "name MASKING_HASH"; `person` is a keyed hash."""

    person: bytes
    contract: str
    peer: str
    purpose: str
    what: str
    on_request: bool
    fields: tuple[str, ...]


@dataclass(frozen=True)
class _Personal:
    """Where a fact speaks about a person: the path of the message, of who it is, and of the personal fields."""

    person: str
    fields: tuple[str, ...]


class Disclosures:
    """Makes disclosures of what leaves the node. Pure; `key` is a secret of the node."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def person(self, value: str) -> bytes:
        """Return the keyed hash of who a person is, 32 bytes."""
        return hmac.digest(self._key, value.encode(), "sha256")

    def of_rows(
        self, contract: ActiveContract, people: Iterable[str], *, asked: Collection[str] = (), on_request: bool = False
    ) -> Counter[Disclosed]:
        """Return what rows disclose; `people` has one value for each row, `asked` the fields when not all were."""
        fields = tuple(
            f"{name} {sharing_pb2.Masking.Name(terms.masking)}" if terms.masking else name
            for name, terms in sorted(masking.given(contract.terms.fields).items())
            if not asked or name in asked
        )
        terms = contract.terms
        return Counter(
            {
                Disclosed(
                    self.person(value), contract.name, contract.peer, terms.purpose, terms.product, on_request, fields
                ): count
                for value, count in Counter(people).items()
            }
        )

    def of_fact(self, contract: ActiveContract, fact: Fact, masked: Collection[str]) -> Counter[Disclosed]:
        """Return what a fact under a charter discloses: nothing when all that is personal in it is left out."""
        found: Counter[Disclosed] = Counter()
        places = _PLACES.get(fact.type)
        message = parse(fact) if places else None
        if not places or message is None:
            return found
        for place in places:
            given = [path for path in place.fields if not _is_masked(path, masked) and _text(message, path)]
            who = _text(message, place.person)
            if given and who:
                terms = contract.terms
                found[
                    Disclosed(
                        self.person(who), contract.name, contract.peer, terms.purpose, fact.type, False, tuple(given)
                    )
                ] += 1
        return found


def message_of(found: Disclosed, count: int) -> pb.Disclosure:
    """Return a disclosure for the person, without its times."""
    shown = pb.Disclosure(
        contract=found.contract,
        peer=f"peers/{found.peer}",
        purpose=found.purpose,
        what=found.what,
        on_request=found.on_request,
        count=count,
    )
    for field in found.fields:
        name, _, masked = field.partition(" ")
        shown.fields.add(field=name, masking=sharing_pb2.Masking.Value(masked or "MASKING_UNSPECIFIED"))
    return shown


def _is_masked(path: str, masked: Collection[str]) -> bool:
    return any(path == one or path.startswith(f"{one}.") for one in masked)


def _text(message: Message, path: str) -> str:
    """Return the value at a path as text, "" when it is not set."""
    *parents, last = path.split(".")
    for name in parents:
        if not message.HasField(name):
            return ""
        message = getattr(message, name)
    return str(getattr(message, last))


def _personal(descriptor: Descriptor, path: str = "", depth: int = 0) -> Iterator[_Personal]:
    who = _PEOPLE.get(descriptor.full_name)
    if who is not None:
        fields = [f"{path}{field.name}" for field in descriptor.fields if rules_of(field).personal or field.name == who]
        yield _Personal(path + who, tuple(fields))
    for field in descriptor.fields:
        if field.message_type is not None and not field.is_repeated and depth < _NESTING_MAX:
            yield from _personal(field.message_type, f"{path}{field.name}.", depth + 1)


_PLACES = {
    name: places for name, kind in TYPES.items() if (places := tuple(_personal(cast("Descriptor", kind.DESCRIPTOR))))
}
