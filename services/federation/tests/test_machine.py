"""The state machines of contracts and transfers, also when the two nodes' messages cross on the way."""

import itertools
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import Forbidden, WrongState
from quintet.federation.v1 import federation_pb2 as pb
from services.federation import machine, transfer_machine
from services.federation.machine import Ending, Party, Position
from services.federation.transfer_machine import Stand

PROVIDER, CONSUMER = "provider", "consumer"
PARTY = Party(PROVIDER, CONSUMER)
STEPS = [(message, "") for message in machine.MESSAGES if message != machine.EVENT]
STEPS += [(machine.EVENT, machine.ACCEPTED), (machine.EVENT, machine.FINALIZED)]
START = datetime(2026, 1, 1, tzinfo=UTC)
EXCHANGE_MAX = 25


def test_the_steps_of_the_protocol_and_who_takes_them() -> None:
    """Every arrow of the Dataspace Protocol's picture, with C or P, and no other."""
    arrows = set()
    for state in pb.ContractState.values():
        for message, event in STEPS:
            try:
                after = machine.next_state(state, message, event)
            except WrongState:
                continue
            sides = "".join(
                side for side, node in (("C", CONSUMER), ("P", PROVIDER)) if PARTY.may(node, message, event)
            )
            arrows.add((name(state), sides, name(after)))
    negotiating = ("REQUESTED", "OFFERED", "ACCEPTED", "AGREED", "VERIFIED", "FINALIZED")
    assert arrows == {
        ("UNSPECIFIED", "C", "REQUESTED"),
        ("UNSPECIFIED", "P", "OFFERED"),
        ("UNSPECIFIED", "P", "AGREED"),  # ours: a charter comes with joining
        ("REQUESTED", "P", "OFFERED"),
        ("REQUESTED", "P", "AGREED"),
        ("OFFERED", "C", "REQUESTED"),
        ("OFFERED", "C", "ACCEPTED"),
        ("ACCEPTED", "P", "AGREED"),
        ("AGREED", "C", "VERIFIED"),
        ("VERIFIED", "P", "FINALIZED"),
        *((state, "CP", "TERMINATED") for state in negotiating),
    }


def test_each_state_before_the_last_waits_for_one_side_only() -> None:
    for state, (message, event) in itertools.product(pb.ContractState.values(), STEPS):
        if message == machine.TERMINATION or state == pb.CONTRACT_STATE_UNSPECIFIED:
            continue
        try:
            machine.next_state(state, message, event)
        except WrongState:
            continue
        assert PARTY.may(PARTY.turn(state), message, event)


def name(state: int) -> str:
    return pb.ContractState.Name(state).removeprefix("CONTRACT_STATE_")  # type: ignore[arg-type]


@dataclass
class Side:
    """One node: where its contract stands, the terms it knows, what is on its way to it, and its clock."""

    node: str
    position: Position = field(default_factory=lambda: Position(pb.CONTRACT_STATE_UNSPECIFIED))
    terms: int = 0
    incoming: deque[tuple[str, str, int, Ending | None]] = field(default_factory=deque)


class Negotiation:
    """Two nodes that take steps at will and hear of each other's in order, sooner or later."""

    def __init__(self) -> None:
        self.sides = {PROVIDER: Side(PROVIDER), CONSUMER: Side(CONSUMER)}
        self.now = START
        self.count = 0

    def act(self, node: str, message: str, event: str, notice_days: int) -> None:
        """Take a step if this node may, and send it."""
        side, other = self.sides[node], self.sides[CONSUMER if node == PROVIDER else PROVIDER]
        if not PARTY.may(node, message, event) or side.position.state == pb.CONTRACT_STATE_TERMINATED:
            return
        if self.count and side.position.state == pb.CONTRACT_STATE_UNSPECIFIED:
            return  # its name is known to the node that began it only
        self.count += 1
        try:
            if message == machine.TERMINATION:
                at = self.now + timedelta(days=notice_days) if notice_days else None
                ending = Ending(f"{self.count:04}", node, "enough", at)
                after = machine.end(side.position, ending)
                if after.ending != ending:
                    return  # refused: it ends earlier already
                side.position = after
                other.incoming.append((message, event, side.terms, ending))
                return
            state = machine.next_state(side.position.state, message, event)
        except WrongState:
            return
        if message in {machine.REQUEST, machine.OFFER}:
            side.terms = self.count
        side.position = Position(state, side.position.ending)
        other.incoming.append((message, event, side.terms, None))

    def deliver(self, node: str) -> None:
        """Let a node hear the next step that is on its way to it. Nothing that an honest node sends is refused."""
        side = self.sides[node]
        if side.incoming:
            message, event, terms, ending = side.incoming.popleft()
            after, outcome = machine.hear(side.position, message, event, ending)
            if outcome is machine.Outcome.APPLIED and message in {machine.REQUEST, machine.OFFER}:
                side.terms = terms
            side.position = after

    def wait(self, days: int) -> None:
        self.now += timedelta(days=days)
        for side in self.sides.values():
            side.position = machine.ran_out(side.position, self.now)

    def settle(self) -> None:
        for node in (PROVIDER, CONSUMER) * EXCHANGE_MAX:
            self.deliver(node)


ACTIONS = st.one_of(
    st.tuples(
        st.just("act"), st.sampled_from([PROVIDER, CONSUMER]), st.sampled_from(STEPS), st.sampled_from([0, 0, 2, 5])
    ),
    st.tuples(st.just("deliver"), st.sampled_from([PROVIDER, CONSUMER])),
    st.tuples(st.just("wait"), st.integers(1, 3)),
)
# Negotiations that come far, so that endings cross the late steps too.
LONG: list[tuple[Any, ...]] = [
    ("act", CONSUMER, (machine.REQUEST, ""), 0),
    ("deliver", PROVIDER),
    ("act", PROVIDER, (machine.OFFER, ""), 0),
    ("deliver", CONSUMER),
    ("act", CONSUMER, (machine.EVENT, machine.ACCEPTED), 0),
    ("deliver", PROVIDER),
    ("act", PROVIDER, (machine.AGREEMENT, ""), 0),
    ("deliver", CONSUMER),
    ("act", CONSUMER, (machine.VERIFICATION, ""), 0),
    ("deliver", PROVIDER),
    ("act", PROVIDER, (machine.EVENT, machine.FINALIZED), 0),
    ("deliver", CONSUMER),
]


@given(st.integers(0, len(LONG)), st.lists(ACTIONS, max_size=EXCHANGE_MAX))
def test_both_nodes_end_in_the_same_state_whatever_crosses(length: int, actions: list[tuple[Any, ...]]) -> None:
    """The same state, the same terms unless it ended, and the same ending, for the same reason."""
    pair = Negotiation()
    for what, *values in [*LONG[:length], *actions]:
        if what == "act":
            node, (message, event), days = values
            pair.act(node, message, event, days)
        else:
            getattr(pair, what)(*values)
    pair.settle()
    pair.wait(10)
    provider, consumer = pair.sides[PROVIDER], pair.sides[CONSUMER]
    assert provider.position == consumer.position
    if provider.position.state != pb.CONTRACT_STATE_TERMINATED:
        assert provider.terms == consumer.terms


def test_what_has_ended_stays_ended() -> None:
    ended = machine.end(Position(pb.CONTRACT_STATE_AGREED), Ending("2", CONSUMER, "no"))
    for message, event in STEPS:
        if message != machine.TERMINATION:
            assert machine.hear(ended, message, event, None) == (ended, machine.Outcome.CROSSED)
    earlier = Ending("1", PROVIDER, "first")
    assert machine.hear(ended, machine.TERMINATION, "", earlier)[0].ending == earlier


def test_notice_is_for_contracts_in_force() -> None:
    with pytest.raises(WrongState):
        machine.end(Position(pb.CONTRACT_STATE_OFFERED), Ending("1", PROVIDER, "later", START))


# ------------------------------------------------------------------------------------------- transfers


class Transferring:
    """Two nodes that take steps of a transfer at will."""

    def __init__(self) -> None:
        self.stands = {PROVIDER: Stand(), CONSUMER: Stand()}
        self.incoming: dict[str, deque[tuple[str, int]]] = {PROVIDER: deque(), CONSUMER: deque()}

    def act(self, node: str, message: str) -> None:
        try:
            after = transfer_machine.take(self.stands[node], message, provider=node == PROVIDER)
        except (WrongState, Forbidden):
            return
        self.stands[node] = after
        self.incoming[CONSUMER if node == PROVIDER else PROVIDER].append((message, after.step))

    def deliver(self, node: str) -> None:
        if self.incoming[node]:
            message, step = self.incoming[node].popleft()
            # Nothing that an honest node sends is refused.
            self.stands[node] = transfer_machine.hear(self.stands[node], message, step, provider=node == CONSUMER)


MOVES = st.one_of(
    st.tuples(st.just("act"), st.sampled_from([PROVIDER, CONSUMER]), st.sampled_from(transfer_machine.MESSAGES)),
    st.tuples(st.just("deliver"), st.sampled_from([PROVIDER, CONSUMER])),
)


@given(st.booleans(), st.lists(MOVES, max_size=40))
def test_both_nodes_keep_the_same_step_of_a_transfer(begun: bool, moves: list[tuple[str, ...]]) -> None:
    pair = Transferring()
    pair.act(CONSUMER, transfer_machine.REQUEST)
    if begun:
        pair.deliver(PROVIDER)
        pair.act(PROVIDER, transfer_machine.START)
    for what, *values in moves:
        getattr(pair, what)(*values)
    while any(pair.incoming.values()):
        pair.deliver(PROVIDER)
        pair.deliver(CONSUMER)
    assert pair.stands[PROVIDER] == pair.stands[CONSUMER]


def test_the_consumer_cannot_start_what_the_provider_has_not() -> None:
    requested = transfer_machine.take(Stand(), transfer_machine.REQUEST, provider=False)
    for message in (transfer_machine.START, transfer_machine.SUSPENSION, transfer_machine.COMPLETION):
        with pytest.raises((Forbidden, WrongState)):
            transfer_machine.take(requested, message, provider=False)
        with pytest.raises(Forbidden):
            transfer_machine.hear(requested, message, 9, provider=False)
    assert transfer_machine.hear(requested, transfer_machine.START, 2, provider=True).state == pb.TRANSFER_STATE_STARTED


def test_the_steps_of_a_transfer_and_who_takes_them() -> None:
    """Every arrow of the Dataspace Protocol's picture, with C or P, and no other."""
    arrows = set()
    for state, message, provider in itertools.product(
        pb.TransferState.values(), transfer_machine.MESSAGES, (True, False)
    ):
        try:
            after = transfer_machine.take(Stand(state, 1), message, provider=provider)
        except (WrongState, Forbidden):
            continue
        arrows.add((short(state), "P" if provider else "C", short(after.state)))
    both = [("STARTED", "COMPLETED"), ("STARTED", "SUSPENDED"), ("SUSPENDED", "STARTED")]
    both += [(state, "TERMINATED") for state in ("REQUESTED", "STARTED", "SUSPENDED")]
    assert arrows == {
        ("UNSPECIFIED", "C", "REQUESTED"),
        ("REQUESTED", "P", "STARTED"),
        *((before, side, after) for before, after in both for side in "CP"),
    }


def short(state: int) -> str:
    return pb.TransferState.Name(state).removeprefix("TRANSFER_STATE_")  # type: ignore[arg-type]
