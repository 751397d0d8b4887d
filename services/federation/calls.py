"""What a call to another node's ports ended with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.rpc import status_pb2

from libs.errors import DETAILS_KEY, Away, DomainError, Reason, from_status

if TYPE_CHECKING:
    import grpc


def refusal(error: grpc.aio.AioRpcError, node: str) -> DomainError:
    """Return what a node refused a call with; Away when it did not answer in its own words."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            raised = from_status(status_pb2.Status.FromString(value))
            if raised is not None:
                return raised
    return Away(Reason.PEER_AWAY, f"{node} does not answer: {error.code().name}", peer=node)
