"""Control messages: each kind has its handler, what fails leaves nothing, what is unknown is passed over."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from libs.errors import Invalid, Reason
from quintet.federation.v1 import federation_pb2 as pb
from quintet.federation.v1 import link_pb2
from services.federation import control, peers_store
from services.federation.peers_store import NewPeer, Peer

if TYPE_CHECKING:
    from libs.testing import MakeTransactions
    from libs.tx import Transactions, Tx

MIGRATIONS = Path(__file__).parent.parent / "migrations"
UNKNOWN_BODY_FIELD = 900


async def part_with_peer(transactions: MakeTransactions, state: pb.PeerState.ValueType) -> Transactions:
    made = await transactions("federation", MIGRATIONS)
    row = NewPeer(
        "d6",
        "D6",
        pb.PEER_KIND_CHILD,
        state,
        "d6",
        "",
        False,
        "",
        "",
        "e",
        datetime(2026, 1, 1, tzinfo=UTC),
        "",
    )
    await made.run(lambda tx: peers_store.add(tx.conn, row))
    return made


async def apply(
    made: Transactions, handlers: dict[str, control.ControlHandler], envelope: link_pb2.Envelope
) -> control.Refusal | None:
    async def work(tx: Tx) -> control.Refusal | None:
        return await control.apply(handlers, tx, await peers_store.get(tx.conn, "d6"), envelope)

    return await made.run(work)


def message(**body: object) -> link_pb2.Envelope:
    return link_pb2.Envelope.FromString(control.control_envelope(**body))  # type: ignore[arg-type]


async def test_a_handler_that_fails_leaves_nothing_behind(transactions: MakeTransactions) -> None:
    async def fails(tx: Tx, peer: Peer, envelope: link_pb2.Envelope) -> None:
        await peers_store.touch(tx.conn, peer.node, tx.now, error="half done")
        raise Invalid("directive.zone", "must be known")

    made = await part_with_peer(transactions, pb.PEER_STATE_ACTIVE)
    refused = await apply(
        made, {"directive_message": fails}, message(directive_message=link_pb2.DirectiveMessage(id="1"))
    )
    assert refused is not None
    assert refused[0] == Reason.FIELD_INVALID
    assert (await made.read(lambda conn: peers_store.get(conn, "d6"))).last_error == ""


async def test_a_body_of_a_later_release_is_passed_over_and_counted(transactions: MakeTransactions) -> None:
    made = await part_with_peer(transactions, pb.PEER_STATE_ACTIVE)
    tag = (UNKNOWN_BODY_FIELD << 3) | 2
    unknown = link_pb2.Envelope.FromString(bytes([tag & 0x7F | 0x80, tag >> 7, 0]))
    before = control.UNKNOWN.labels("d6")._value.get()
    assert await apply(made, {}, unknown) is None
    assert control.UNKNOWN.labels("d6")._value.get() == before + 1
    assert not control.is_empty(unknown)
    assert control.is_empty(link_pb2.Envelope(withdrawn=bytes(32)))


@pytest.mark.parametrize(
    ("state", "body", "taken"),
    [
        (pb.PEER_STATE_ACTIVE, "directive_message", True),
        (pb.PEER_STATE_SUSPENDED, "directive_message", False),
        (pb.PEER_STATE_SUSPENDED, "membership_message", True),
        (pb.PEER_STATE_EXPELLED, "membership_message", False),
    ],
)
async def test_only_an_active_peer_is_listened_to(
    transactions: MakeTransactions, state: pb.PeerState.ValueType, body: str, taken: bool
) -> None:
    heard: list[str] = []

    async def hears(tx: Tx, peer: Peer, envelope: link_pb2.Envelope) -> None:
        heard.append(envelope.WhichOneof("body") or "")

    made = await part_with_peer(transactions, state)
    envelope = link_pb2.Envelope()
    getattr(envelope, body).id = "1"
    refused = await apply(made, {body: hears}, envelope)
    assert heard == ([body] if taken else [])
    assert (refused is None) == taken
