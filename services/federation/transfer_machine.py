"""The state machine of a transfer: the rows of a product flowing under a contract.

States and messages are those of the Dataspace Protocol 2025-1, section "Transfer Process Protocol" ("States", "State
Machine", "Message Types"). Both nodes may suspend, start again, complete and terminate, so steps cross. Each step is
counted; a node keeps, of all steps that it took or heard of, the one that stands highest: an end before anything else,
then the later count, then the provider's. Both hear of the same steps in the end and so keep the same one. No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass

from libs.errors import Forbidden, Reason, WrongState
from quintet.federation.v1 import federation_pb2 as pb

REQUEST = "TransferRequestMessage"
START = "TransferStartMessage"
SUSPENSION = "TransferSuspensionMessage"
COMPLETION = "TransferCompletionMessage"
TERMINATION = "TransferTerminationMessage"
MESSAGES = (REQUEST, START, SUSPENSION, COMPLETION, TERMINATION)

RESULTS = {
    REQUEST: pb.TRANSFER_STATE_REQUESTED,
    START: pb.TRANSFER_STATE_STARTED,
    SUSPENSION: pb.TRANSFER_STATE_SUSPENDED,
    COMPLETION: pb.TRANSFER_STATE_COMPLETED,
    TERMINATION: pb.TRANSFER_STATE_TERMINATED,
}
_FOLLOWS = {
    REQUEST: {pb.TRANSFER_STATE_UNSPECIFIED},
    START: {pb.TRANSFER_STATE_REQUESTED, pb.TRANSFER_STATE_SUSPENDED},
    SUSPENSION: {pb.TRANSFER_STATE_STARTED},
    COMPLETION: {pb.TRANSFER_STATE_STARTED},
    TERMINATION: {pb.TRANSFER_STATE_REQUESTED, pb.TRANSFER_STATE_STARTED, pb.TRANSFER_STATE_SUSPENDED},
}
_FINALITY = {pb.TRANSFER_STATE_COMPLETED: 1, pb.TRANSFER_STATE_TERMINATED: 2}
OPEN = (pb.TRANSFER_STATE_REQUESTED, pb.TRANSFER_STATE_STARTED, pb.TRANSFER_STATE_SUSPENDED)


@dataclass(frozen=True)
class Stand:
    """The step that stands: the state after it, its count, and whether the provider took it."""

    state: pb.TransferState.ValueType = pb.TRANSFER_STATE_UNSPECIFIED
    step: int = 0
    by_provider: bool = False

    @property
    def rank(self) -> tuple[int, int, bool]:
        return _FINALITY.get(self.state, 0), self.step, self.by_provider


def take(stand: Stand, message: str, *, provider: bool) -> Stand:
    """Return the stand after a step of this node. Raises WrongState for one that the state machine does not have."""
    if stand.state not in _FOLLOWS[message]:
        name = pb.TransferState.Name(stand.state).removeprefix("TRANSFER_STATE_")
        raise WrongState(Reason.WRONG_STATE, f"{message} does not follow {name}", state=name, message_type=message)
    _check_side(stand, message, provider=provider)
    return Stand(RESULTS[message], stand.step + 1, provider)


def hear(stand: Stand, message: str, step: int, *, provider: bool) -> Stand:
    """Return the stand after a step of the other node: unchanged when the step was overtaken.

    `provider` says whether the other is the provider. Raises WrongState for a message that the protocol does not have,
    and Forbidden for a step that is not the other's to take.
    """
    if message not in RESULTS or step < 1:
        raise WrongState(Reason.WRONG_STATE, f"{message} {step} is no step of a transfer")
    if (stand.state == pb.TRANSFER_STATE_UNSPECIFIED) != (message == REQUEST):
        raise WrongState(Reason.WRONG_STATE, "a transfer begins with a request, once")
    heard = Stand(RESULTS[message], step, provider)
    if heard.rank <= stand.rank:
        return stand
    _check_side(stand, message, provider=provider)
    return heard


def _check_side(stand: Stand, message: str, *, provider: bool) -> None:
    """Only the consumer requests, and only the provider says that what was requested begins."""
    begins = message == START and stand.state == pb.TRANSFER_STATE_REQUESTED
    if (message == REQUEST and provider) or (begins and not provider):
        side = "consumer" if provider else "provider"
        raise Forbidden(Reason.NOT_PERMITTED, f"{message} is for the {side} to send")
    if stand.state == pb.TRANSFER_STATE_REQUESTED and message in {SUSPENSION, COMPLETION} and not provider:
        raise Forbidden(Reason.NOT_PERMITTED, f"{message} comes after the provider has started")
