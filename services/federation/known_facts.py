"""The facts that this release can read, whatever else the process has loaded.

A service on its own imports few of the others' protos; what must be masked has to be readable all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from quintet.collaboration.v1 import facts_pb2 as collaboration
from quintet.delivery.v1 import facts_pb2 as delivery
from quintet.federation.v1 import facts_pb2 as federation
from quintet.identity.v1 import facts_pb2 as identity
from quintet.management.v1 import facts_pb2 as management
from quintet.perception.v1 import facts_pb2 as perception
from quintet.sharing.v1 import facts_pb2 as sharing

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from quintet.fact.v1.fact_pb2 import Fact

_MODULES = (collaboration, delivery, federation, identity, management, perception, sharing)
TYPES: dict[str, type[Message]] = {
    descriptor.full_name: GetMessageClass(descriptor)
    for module in _MODULES
    for descriptor in module.DESCRIPTOR.message_types_by_name.values()
}


def parse(fact: Fact) -> Message | None:
    """Return what a fact says; None when its type or its bytes are not known here."""
    kind = TYPES.get(fact.type)
    try:
        return kind.FromString(fact.data) if kind else None
    except DecodeError:
        return None
