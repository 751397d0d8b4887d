"""Control messages: envelopes that carry anything but a fact, each kind applied by the handler registered for it.

A handler runs in the acceptor's transaction, in a savepoint of its own: what fails leaves nothing behind and holds up
nobody. A kind that this release does not know is passed over and counted, so that a newer peer goes on exchanging.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import structlog
from google.protobuf.unknown_fields import UnknownFieldSet
from prometheus_client import Counter

from libs.errors import DomainError, Reason, Stale
from libs.tx import Tx
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation.peers_store import Peer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

Refusal = tuple[str, str]
# None: applied. A DomainError raised, or a Refusal returned: listed as refused.
ControlHandler = Callable[[Tx, Peer, link_pb2.Envelope], Awaitable[Refusal | None]]

UNKNOWN = Counter("quintet_federation_unknown_bodies", "Envelopes of a kind that this release does not know.", ["peer"])
# What a suspended peer may still say: that the membership changes.
WHILE_SUSPENDED = frozenset({"membership_message"})

log = structlog.get_logger()


def control_envelope(**body: Message) -> bytes:
    """Return an envelope of the control lane, without its sequence, for `peers_store.enqueue`.

    `body` is one field of the envelope's body by its name: `control_envelope(directive_message=message)`.
    """
    fields: dict[str, Any] = dict(body)
    return link_pb2.Envelope(lane=link_pb2.LANE_CONTROL, **fields).SerializeToString()


def contract_of(envelope: link_pb2.Envelope) -> str:
    """Return the contract that an envelope is about, "" for none."""
    if envelope.WhichOneof("body") == "contract_message":
        return envelope.contract_message.contract.name
    if envelope.WhichOneof("body") == "settlement":
        return envelope.settlement.contract
    if envelope.WhichOneof("body") == "flow":
        return envelope.flow.contract
    return envelope.contract


def is_empty(envelope: link_pb2.Envelope) -> bool:
    """Say whether only the sequence of an envelope was left, as its content was withdrawn before it was sent."""
    return envelope.WhichOneof("body") is None and not len(UnknownFieldSet(envelope))


def heard_while_suspended(peer: Peer, envelopes: Sequence[link_pb2.Envelope | None]) -> bool:
    """Say whether a batch has only what a suspended peer may still say."""
    if peer.state != pb.PEER_STATE_SUSPENDED:
        return False
    return all(envelope is not None and envelope.WhichOneof("body") in WHILE_SUSPENDED for envelope in envelopes)


async def apply(
    handlers: Mapping[str, ControlHandler], tx: Tx, peer: Peer, envelope: link_pb2.Envelope
) -> Refusal | None:
    """Apply one control envelope; return why it was refused, None when it was applied or passed over."""
    kind = envelope.WhichOneof("body") or ""
    handler = handlers.get(kind)
    if handler is None:
        UNKNOWN.labels(peer.node).inc()
        log.warning("link.unknown_body", peer=peer.node, body=kind)
        return None
    if peer.state != pb.PEER_STATE_ACTIVE and not (peer.state == pb.PEER_STATE_SUSPENDED and kind in WHILE_SUSPENDED):
        return Reason.PEER_SUSPENDED, f"{peer.node} is not active"
    try:
        async with tx.conn.transaction():
            return await handler(tx, peer, envelope)
    except Stale:
        raise  # the whole transaction is run again
    except DomainError as error:
        return error.reason, error.message
