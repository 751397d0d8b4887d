"""Calls to another node's join port, and what a call to another node ended with."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc
from google.rpc import status_pb2

from libs.errors import DETAILS_KEY, Away, DomainError, Reason, from_status
from quintet.federation.v1 import link_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def join_port(node: str, address: str, root: str) -> AsyncIterator[link_pb2_grpc.MembershipServiceStub]:
    """Open the join port of a node whose root certificate (PEM) is known; it shows who it is, the caller does not.

    Raises what the node refuses a call in the block with, and Away when it does not answer.
    """
    trust = grpc.ssl_channel_credentials(root_certificates=root.encode())
    options = [("grpc.ssl_target_name_override", node)]
    async with grpc.aio.secure_channel(address, trust, options) as channel:
        try:
            yield link_pb2_grpc.MembershipServiceStub(channel)
        except grpc.aio.AioRpcError as error:
            raise refusal(error, node) from error


def refusal(error: grpc.aio.AioRpcError, node: str) -> DomainError:
    """Return what a node refused a call with; Away when it did not answer in its own words."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            raised = from_status(status_pb2.Status.FromString(value))
            if raised is not None:
                return raised
    return Away(Reason.PEER_AWAY, f"{node} does not answer: {error.code().name}", peer=node)
